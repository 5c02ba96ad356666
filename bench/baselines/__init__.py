"""What the system is compared with, in the same harness."""
