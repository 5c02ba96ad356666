"""One replica process."""
