"""What differs on a mount from a plain directory; ``python -m tests.posix.differences`` prints it for the docs.

The list is strict: on the mount each test that an entry names must fail, on the plain directory it must pass.
"""

from typing import Final, NamedTuple


class Difference(NamedTuple):
    here: str
    """What a mount does instead."""
    reason: str
    tests: tuple[tuple[str, str], ...]
    """(file, test), both without the leading "test_"."""


DIFFERENCES: Final = (
    Difference(
        "`open` with `O_TMPFILE` fails with EOPNOTSUPP.",
        "pyfuse3 has no handler for FUSE's TMPFILE request; programs fall back to a file that they unlink.",
        (("open", "unnamed_file"),),
    ),
    Difference(
        "Device nodes can be made, copied and listed, but not opened (EACCES).",
        "FUSE mounts are `nodev`, and this one stays so: what one client makes must not open the disks of another's "
        "machine.",
        (("open", "device_that_does_not_exist"), ("mknod", "device_works")),
    ),
    Difference(
        "Set-id bits are kept, and cleared when they must be, but running such a program changes no ids.",
        "FUSE mounts are `nosuid`, and this one stays so: the root of one client must not be the root of another's "
        "machine.",
        (("execve", "set_id_program"),),
    ),
    Difference(
        "`fallocate` fails with EOPNOTSUPP in every mode, so holes cannot be punched; `posix_fallocate` works, glibc "
        "then writes.",
        "pyfuse3 has no handler for FUSE's FALLOCATE request.",
        (("fallocate", "fallocate"), ("fallocate", "keeping_the_size"), ("fallocate", "punching_holes")),
    ),
    Difference(
        "`lseek` with `SEEK_HOLE` finds no hole but the one at the end of the file.",
        "pyfuse3 has no handler for FUSE's LSEEK request, and the kernel then takes all of a file for data, as POSIX "
        "permits.",
        (("lseek", "hole_is_found"),),
    ),
    Difference(
        "`st_blocks` of a file says what its size needs, also where it has holes.",
        "Attributes come from the replicas, which know the size and not the blocks; they are on the owning client's "
        "disk.",
        (("truncate", "large_holes"),),
    ),
    Difference(
        "Reading and writing a fifo does not move its times.",
        "The kernel serves the pipe behind a fifo by itself and tells FUSE nothing of it.",
        (("read_write", "fifo_times"),),
    ),
    Difference(
        "A write through a shared mapping by somebody other than root clears set-id bits, as `write` does.",
        "A FUSE request to write pages back looks like any other write; clearing is the safe side.",
        (("mmap", "set_id_bits_stay"),),
    ),
    Difference(
        "Permission to list a directory is needed for each page of it (at most 256 names), not only at `opendir`.",
        "The replicas check the credentials of each READDIR, as NFS servers do, and know of no open directories.",
        (("readdir", "permission_counts_at_open"),),
    ),
    Difference(
        "Extended attributes of a file that was removed while open are gone: ESTALE.",
        "They live in the attribute object, which goes with the last name; contents, times, mode and owner stay with "
        "the descriptor.",
        (("removed_files", "extended_attributes"),),
    ),
    Difference(
        "Extended attributes are those in `user.` and `trusted.`; `security.` fails with EOPNOTSUPP.",
        "The kernel asks for `security.capability` at every write and would each time ask the replicas.",
        (("xattr", "security_attributes"),),
    ),
    Difference(
        "`setxattr` with `XATTR_CREATE` or `XATTR_REPLACE` needs permission to read as well.",
        "pyfuse3 asks for the attribute before it sets it; whether it is there at that moment the replicas decide once "
        "more, when they set it.",
        (("xattr", "creating_in_what_may_only_be_written"),),
    ),
    Difference(
        "There are no access control lists: `system.posix_acl_access` fails with EOPNOTSUPP.",
        "Replicas decide by owner, group and mode, which is what RFC 1813 has.",
        (("xattr", "access_control_lists"),),
    ),
    Difference(
        "`pathconf` tells 127 for `_PC_LINK_MAX`; a file takes 65,000 links all the same.",
        "glibc answers from a table of file system types in which FUSE is not.",
        (("statvfs", "link_max"),),
    ),
)


def main() -> None:
    for difference in DIFFERENCES:
        print(f"* {difference.here}\n  {difference.reason}")


if __name__ == "__main__":
    main()
