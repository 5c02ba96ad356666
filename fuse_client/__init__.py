"""The FUSE front-end: mounts a qunfs namespace with file contents kept locally."""
