"""NFSv3 (RFC 1813) on top of the update core."""
