"""TLS frames, the reactor and the driver that joins them to the protocol."""
