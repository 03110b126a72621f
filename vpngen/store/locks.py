"""One owner a shard: the lock that keeps two processes off the same file, also after one of them was killed."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import Any

from vpngen.errors import ConflictError

fcntl: Any
try:
    import fcntl
except ImportError:  # no advisory locks on this system
    fcntl = None

PARTIAL = ".partial"
"""A shard while it is written. It is locked as long as its writer lives; unlocked, it is what a killed one left."""
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)


def try_lock(fd: int) -> bool:
    """Take the lock of an open file, or say that another process holds it. True where the system has no locks."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return True
        raise
    return True


def lock_folder(path: Path) -> int | None:
    """A folder, open and locked; None where another process holds it, it is gone, or this system cannot tell."""
    if fcntl is None:
        return None
    fd = None
    try:
        fd = os.open(path, os.O_RDONLY)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.stat(path), os.fstat(fd)):
            return fd
    except OSError:  # file systems differ in what they say of the lock of a folder
        pass
    if fd is not None:
        os.close(fd)
    return None


def open_partial(final: Path) -> int:
    """The partial file of a shard, open and locked; a killed writer may have left something in it.

    Raises:
        ConflictError: another process is writing this shard.
        OSError: the file cannot be made.
    """
    path = final.with_name(final.name + PARTIAL)
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
        try:
            if not try_lock(fd):
                raise ConflictError(
                    f"another process is writing {final}; wait until it is done, or give each process its own share "
                    f"with --slice 1/2 and --slice 2/2"
                )
            with contextlib.suppress(FileNotFoundError):  # its last owner gave it its name before we locked it
                if os.path.samestat(os.stat(path), os.fstat(fd)):
                    return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def is_live(path: Path, remove: bool = False) -> bool:
    """Whether the writer of a partial file lives. With `remove` the file of a dead one is removed.

    It is locked meanwhile, so that no other writer takes it up. Raises OSError.
    """
    fd = os.open(path, os.O_RDWR)
    try:
        live = not try_lock(fd)
        if remove and not live:
            os.unlink(path)
        return live
    finally:
        os.close(fd)
