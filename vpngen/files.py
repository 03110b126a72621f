"""Files that are either there and whole, or not there; and files of others, of which nothing is taken on trust."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from vpngen.errors import ArgumentError, MissingError

MOST_BYTES: Final = 2**26
"""The largest list or table that is read whole."""
SYSTEM: Final = ("__MACOSX", "lost+found", "@eaDir", "$RECYCLE.BIN", "System Volume Information")
"""What no one put into a folder: systems do, into mount points and the like."""
DEEPEST: Final = 8
"""Folders within folders that are looked into."""
MOST_JSON_BYTES: Final = 2**27
"""The largest JSON: that of Kinetics-700 has 80 MB."""
MOST_VALUES: Final = 2**23
"""Values in a JSON, each of which takes tens of bytes of memory."""


def local(path: str | Path, argument: str = "path") -> Path:
    """`path`, if it is one of this machine. A URL is none: s3://bucket/set.zarr, or s3:/bucket, which is what `Path` makes of it.

    Raises:
        ArgumentError: a URL; where there is a folder `s3:`, only one with two slashes.
    """
    if (url := url_of(path)) is None:
        return Path(path)
    scheme, _, rest = url.partition("://")
    if scheme.lower() == "file":
        remedy = f"give the path alone, '/{rest.lstrip('/').removeprefix('localhost/')}'"
    else:
        remedy = "here a local folder is needed; copy or mount what is there"
    raise ArgumentError(f"is a URL: {remedy}", argument, url)


def url_of(path: str | Path) -> str | None:
    """The URL that `path` is, with both its slashes; None for a path of this machine."""
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):(//?)", text := os.fspath(path))
    if found is None or (len(found[2]) == 1 and os.path.exists(f"{found[1]}:")):
        return None
    return text if found[2] == "//" else text.replace(":/", "://", 1)


def names_in(folder: str | Path) -> list[str]:
    """Names of what is in a folder, in no order, but for those of the system. Raises OSError."""
    return [name for name in os.listdir(folder) if name not in SYSTEM]


@contextlib.contextmanager
def replace(path: Path) -> Iterator[Path]:
    """A path to write to, which takes the place of `path` once it is written, and on the disk.

    Whatever happens meanwhile, `path` holds what it held, or all of the new.

    Raises:
        ArgumentError: `path` is a URL.
        MissingError: no space is left, or too little; what was there stays.
    """
    partial = partial_of(path)
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


def partial_of(path: Path) -> Path:
    """Where this process writes what becomes `path`: nothing is there. What processes left there that were killed is removed."""
    local(path).parent.mkdir(parents=True, exist_ok=True)
    here = "".join(c for c in socket.gethostname() if c.isalnum() or c == "-")
    own = path.with_name(f".{path.name}.{here}.{os.getpid()}.partial")
    for left in path.parent.glob(f".{path.name}.{here}.*.partial"):
        if left == own or not _alive(
            left.name.split(".")[-2]
        ):  # who put a link there may have wanted it written through
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)
    return own


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


FEW_FILES: Final = "too many open files for this process; raise `ulimit -n`, to 1024 say, or give fewer --threads"


@contextlib.contextmanager
def enough_files() -> Iterator[None]:
    """That this process may open no more files is no fault of any file: a MissingError, which nobody takes for damage."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise MissingError(FEW_FILES) from error
        raise


def open_regular(path: str | Path, flags: int = os.O_RDONLY, dir_fd: int | None = None) -> int:
    """Open a regular file, made with mode 666 where `flags` say so.

    A pipe, a device, a socket or a folder is not opened, and not waited for. Raises OSError, and MissingError where no more files
    may be open.
    """
    with enough_files():
        fd = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, 0o666, dir_fd=dir_fd)
    if stat.S_ISREG(mode := os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(errno.EINVAL, "Not a regular file", str(path))


def read(path: str | Path, most: int = MOST_BYTES, dir_fd: int | None = None, flags: int = os.O_RDONLY) -> bytes:
    """The bytes of a regular file that has `most` at most. Raises OSError."""
    with open(open_regular(path, flags, dir_fd), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        data = file.read(most + 1) if size <= most else b""
    if max(size, len(data)) > most:
        raise OSError(errno.EFBIG, f"Larger than the {most:,} bytes that such a file may have", str(path))
    return data


def read_at(fd: int, size: int, offset: int) -> bytes:
    """`size` bytes from a place in an open file, fewer at its end. One call of the system gives 2 GiB at most. Raises OSError."""
    pieces = []
    while size > 0 and (piece := os.pread(fd, size, offset)):
        pieces.append(piece)
        size, offset = size - len(piece), offset + len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def read_into(fd: int, data: memoryview, offset: int) -> int:
    """Fill `data` (bytes) likewise; gives how many there were. Raises OSError."""
    done = 0
    while done < len(data) and (got := os.preadv(fd, [data[done:]], offset + done)):
        done += got
    return done


def parse_json(data: bytes | str) -> Any:
    """The value that a JSON text stands for.

    Raises:
        ValueError: no JSON; too many values, levels or digits.
    """
    if sum(map(data.count, b"[{," if isinstance(data, bytes) else "[{,")) > MOST_VALUES:  # type: ignore[arg-type]
        raise ValueError(f"more than {MOST_VALUES:,} values")
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("too many levels of lists and objects") from None


def read_object(path: str | Path) -> dict[str, Any]:
    """The object that a JSON file holds; an empty one where there is none, or none that can be read."""
    with contextlib.suppress(OSError, ValueError):
        if isinstance(found := parse_json(read(path)), dict):
            return found
    return {}


class LocalFile:
    """A regular file that is open, and its size; closed when nobody holds it any more."""

    def __init__(self, fd: int) -> None:
        self.fd, self.size = fd, os.fstat(fd).st_size

    def __enter__(self) -> LocalFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "fd"):
            self.close()

    def close(self) -> None:
        """Close it; a second time is nothing."""
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            os.close(fd)

    def forget(self) -> None:
        """Nothing is kept of what was read."""

    def read(self, size: int, offset: int) -> bytes:
        """See `read_at`."""
        return read_at(self.fd, size, offset)

    def read_into(self, data: memoryview, offset: int) -> int:
        """See `read_into`."""
        return read_into(self.fd, data, offset)


class Folder:
    """What lies below a folder, by names such as `train/video/c.0.0.0.0`. The folder may be a link; below it none is followed.

    All methods raise OSError; a link in the way is one that says so.
    """

    in_flight = 1
    """Files that are to be asked for at once: those of a disk one after the other."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def __str__(self) -> str:
        return str(self.path)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Folder) and self.path == other.path

    def __hash__(self) -> int:
        return hash(self.path)

    @contextlib.contextmanager
    def _at(self, name: str, make: bool = False) -> Iterator[tuple[int, str]]:
        """The folder that something is in, open, and its name there; with `make` the folders on the way are made."""
        *folders, last = name.split("/")
        with enough_files():
            fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                for part in folders:
                    if make:
                        with contextlib.suppress(FileExistsError):
                            os.mkdir(part, dir_fd=fd)
                    inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
                    os.close(fd)
                    fd = inner
                yield fd, last
            except OSError as error:
                what, where = error.strerror, str(self.path / name)
                if error.errno in (errno.ELOOP, errno.ENOTDIR) and (link := self._link(name)) is not None:
                    what, where = (
                        "A link, which is not followed here; remove it, or put what it points to in its place",
                        str(link),
                    )
                raise OSError(error.errno, what, where) from error
            finally:
                os.close(fd)

    def _link(self, name: str) -> Path | None:
        """The first link on the way to something."""
        *above, whole = [self.path / "/".join(name.split("/")[: i + 1]) for i in range(name.count("/") + 1)]
        return next((path for path in (*above, whole) if path.is_symlink()), None)

    def open(self, name: str, flags: int = os.O_RDONLY) -> int:
        """Open a regular file, see `open_regular`."""
        with self._at(name) as (fd, last):
            return open_regular(last, flags | os.O_NOFOLLOW, fd)

    def file(self, name: str, tail: int = 0) -> LocalFile:
        """A regular file, open. `tail` bytes at its end are read first."""
        return LocalFile(self.open(name))

    def size(self, name: str) -> int:
        """The bytes of a regular file."""
        if not stat.S_ISREG((status := self.stat(name)).st_mode):
            raise OSError(errno.EINVAL, "Not a regular file", str(self.path / name))
        return status.st_size

    def sizes(self, name: str) -> dict[str, int]:
        """The regular files that a folder holds, and their bytes."""
        found = {}
        with self._at(f"{name}/.") as (fd, _), os.scandir(fd) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):  # renamed or removed meanwhile
                    if entry.is_file(follow_symlinks=False):
                        found[entry.name] = entry.stat(follow_symlinks=False).st_size
        return found

    def make_way(self, name: str) -> None:
        """Make the folders that something is to lie in, where they are not there."""
        with self._at(name, make=True):
            pass

    def read(self, name: str, most: int = MOST_BYTES) -> bytes:
        """The bytes of a regular file, see `read`."""
        with self._at(name) as (fd, last):
            return read(last, most, fd, os.O_RDONLY | os.O_NOFOLLOW)

    def stat(self, name: str) -> os.stat_result:
        """That of a file or folder, or of the link that is there."""
        with self._at(name) as (fd, last):
            return os.stat(last, dir_fd=fd, follow_symlinks=False)

    def unlink(self, name: str) -> None:
        """Remove a file or a link."""
        with self._at(name) as (fd, last):
            os.unlink(last, dir_fd=fd)

    def rename(self, name: str, new: str) -> None:
        """Give a file another name in its folder, in place of what has it, and make that last."""
        with self._at(new) as (fd, last):
            os.replace(name.rpartition("/")[2], last, src_dir_fd=fd, dst_dir_fd=fd)
            with contextlib.suppress(OSError):
                os.fsync(fd)

    def names(self, name: str) -> list[str]:
        """The names of what a folder holds, in no order."""
        with self._at(f"{name}/.") as (fd, _):
            return os.listdir(fd)

    def walk(self, name: str = "") -> Iterator[tuple[str, os.stat_result]]:
        """All that lies below a folder, in no order, and what it is; no deeper than `DEEPEST`, and nothing of the system."""
        inside = f"{name}/" if name else ""
        found = []
        with self._at(f"{inside}.") as (fd, _), os.scandir(fd) as entries:
            for entry in (entry for entry in entries if entry.name not in SYSTEM):
                with contextlib.suppress(FileNotFoundError):  # renamed or removed meanwhile
                    found.append((f"{inside}{entry.name}", entry.stat(follow_symlinks=False)))
        for path, status in found:
            yield path, status
            if stat.S_ISDIR(status.st_mode) and path.count("/") < DEEPEST:
                with contextlib.suppress(FileNotFoundError):
                    yield from self.walk(path)
