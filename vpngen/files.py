"""Files that are either there and whole, or not there."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vpngen.errors import MissingError


@contextlib.contextmanager
def replace(path: Path) -> Iterator[Path]:
    """A path to write to, which takes the place of `path` once it is written, and on the disk.

    Whatever happens meanwhile, `path` holds what it held, or all of the new.

    Raises:
        MissingError: no space is left, or too little; what was there stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    here = "".join(c for c in socket.gethostname() if c.isalnum() or c == "-")
    for left in path.parent.glob(f".{path.name}.{here}.*.partial"):  # by a process that was killed
        if not _alive(left.name.split(".")[-2]):
            left.unlink(missing_ok=True)
    partial = path.with_name(f".{path.name}.{here}.{os.getpid()}.partial")
    try:
        yield partial
        publish(partial, path)
    except Exception as error:
        if no_space(error):
            raise MissingError(
                f"no space is left to write {str(path)!r}; what was there before is whole. Free some, or give another folder"
            ) from error
        raise
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def write(path: Path, data: bytes) -> None:
    """Write `data`, whole or not at all. Raises MissingError."""
    with replace(path) as partial:
        partial.write_bytes(data)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as JSON, whole or not at all. Raises MissingError."""
    write(path, f"{json.dumps(value, indent=1)}\n".encode())


def publish(partial: Path, path: Path) -> None:
    """Let a file that is written take the place of `path`, once it is on the disk. Raises OSError."""
    with partial.open("rb+") as file:
        os.fsync(file.fileno())
    os.replace(partial, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable, where the system can."""
    with contextlib.suppress(OSError):
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _alive(pid: str) -> bool:
    """Whether there is such a process on this machine."""
    try:
        os.kill(int(pid), 0)
    except (ValueError, OSError) as error:
        return isinstance(error, PermissionError)
    return True


def no_space(error: BaseException | None) -> bool:
    """Whether an error, or what caused it, was a full disk, a quota or a limit; libraries put theirs around it."""
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    while error is not None:
        if isinstance(error, OSError) and error.errno in full:
            return True
        if any(f"(os error {number})" in str(error) for number in full):  # as Rust says it
            return True
        error = error.__cause__ or error.__context__
    return False
