"""The protocol itself: pure state machines, which are compiled like ours (:mod:`qunfs.native`)."""
