"""Unix stream sockets between processes of one machine, and whom to trust there.

A server listens at a socket in its own directory beside its TCP address.  Whoever calls it looks there first and takes
TCP when anything is amiss, so that nothing has to be set.  Both ends make sure that only the user they run as, or root,
can be at the other: bytes pass as they are (docs/decisions/0008).
"""

import contextlib
import os
import socket
import stat
import struct
from pathlib import Path
from typing import Final

NAME: Final = "socket"
"""The socket's name in a server's directory."""
_DRAFT: Final = "socket.new"
"""Its name until it listens: one that is dialled takes calls or has lost its process."""
_BACKLOG: Final = 512
_PEER_CREDENTIALS: Final = struct.Struct("3i")
"""Process, user and group (unix(7), SO_PEERCRED)."""
_NOBODY: Final = 65534
"""What all users look like that a user namespace does not know (user_namespaces(7))."""
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


class LocalListener:
    """A listening socket in a directory that is ours."""

    def __init__(self, directory: Path) -> None:
        """In place of what a killed process has left there.  Raises OSError."""
        with contextlib.ExitStack() as undo:
            self._directory = _open_trusted(directory)
            undo.callback(os.close, self._directory)
            self.socket = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            self.socket.setblocking(False)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(_DRAFT, dir_fd=self._directory)
            self.socket.bind(_path_in(self._directory, _DRAFT))
            undo.callback(self._remove_draft)
            os.chmod(_DRAFT, 0o600, dir_fd=self._directory)
            self.socket.listen(_BACKLOG)
            self._inode = os.stat(_DRAFT, dir_fd=self._directory).st_ino
            os.rename(_DRAFT, NAME, src_dir_fd=self._directory, dst_dir_fd=self._directory)
            undo.pop_all()

    def _remove_draft(self) -> None:
        with contextlib.suppress(OSError):
            os.unlink(_DRAFT, dir_fd=self._directory)

    def close(self) -> None:
        """Take no more calls; another's socket of the same name stays."""
        with contextlib.suppress(OSError):
            if os.stat(NAME, dir_fd=self._directory).st_ino == self._inode:
                os.unlink(NAME, dir_fd=self._directory)
        self.socket.close()
        os.close(self._directory)


def call_locally(directory: Path) -> socket.socket | None:
    """A connection to who listens in a directory, None when there is nobody or none to be trusted."""
    with contextlib.ExitStack() as undo, contextlib.suppress(OSError):
        opened = _open_trusted(directory)
        undo.callback(os.close, opened)
        sock = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        sock.setblocking(False)
        sock.connect(_path_in(opened, NAME))  # done or failed, never under way (unix(7))
        if is_trusted(sock):
            return socket.socket(fileno=sock.detach())
    return None


def is_trusted(sock: socket.socket) -> bool:
    """Whether the process at the other end belongs to our user or to root."""
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
    return _is_ours(_PEER_CREDENTIALS.unpack(credentials)[1])


def _is_ours(user: int) -> bool:
    return user != _NOBODY and user in (os.geteuid(), 0)


def _open_trusted(directory: Path) -> int:
    """A directory in which nobody but our user and root can put a socket.  Raises OSError for any other."""
    opened = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    found = os.fstat(opened)
    if not _is_ours(found.st_uid) or found.st_mode & _OTHERS_WRITE:
        os.close(opened)
        raise PermissionError(f"{directory} belongs to another user, or others may write there")
    return opened


def _path_in(directory: int, name: str) -> str:
    """A path short enough for a socket's address (108 bytes), wherever the directory is."""
    return f"/proc/self/fd/{directory}/{name}"
