"""A folder on a disk: locks, partial files, renames, and what is synced when.

A shard is written to `c.7.0.0.0.partial`, which its writer holds locked; synced, it gets its name, and then its record.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Final

from vpngen import files
from vpngen.errors import ArgumentError, ConflictError, MissingError, RunError
from vpngen.store.layout import Plan, Shard, differences, is_finished, read_spec, skeleton
from vpngen.store.targets.base import Target

PARTIAL: Final = ".partial"
"""A shard while it is written. It is locked as long as its writer lives; unlocked, it is what a killed one left."""
_NO_LOCKS: Final = (errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)
SPARE_BYTES: Final = 64 * 2**20
"""Disk space that a run leaves free."""


class LocalTarget(Target):
    """The store in a folder. A link to a folder on another disk stays: the store comes where it points."""

    def __init__(self, path: str | Path) -> None:
        """Raises ArgumentError where `path` cannot name a store."""
        try:
            str(path).encode()
        except UnicodeEncodeError:
            raise ArgumentError("is not valid UTF-8; Zarr stores need a path that is", "path", str(path)) from None
        if "\0" in str(path):
            raise ArgumentError("must not contain a zero byte", "path", str(path))
        self.root = Path(os.path.realpath(path))
        self._claimed: dict[Shard, int] = {}

    def __str__(self) -> str:
        return str(self.root)

    def check(self, plan: Plan, overwrite: bool = False) -> None:
        """See `Target.check`."""
        root = self.root
        try:
            empty = not root.exists() or (root.is_dir() and not any(root.iterdir()))
            spec, layout = (plan.spec, plan.layout) if empty else read_spec(root)
        except OSError as error:
            raise MissingError(f"`path` (={str(root)!r}) cannot be used: {error.strerror}") from None
        except ConflictError as error:
            raise ConflictError(f"{error}; it was left untouched: choose another path, or remove it by hand") from None
        if overwrite and not empty:
            for partial in root.glob(f"*/video/c.*{PARTIAL}"):
                with contextlib.suppress(OSError):
                    if is_live(partial):
                        raise ConflictError(f"another process is writing {partial}; it was left untouched")
            return
        there, wanted = ({**s.to_dict(), **asdict(how)} for s, how in ((spec, layout), (plan.spec, plan.layout)))
        if lines := "\n  ".join(differences(there, wanted)):
            what = f"{str(root)!r} holds another dataset; it was left untouched. The difference:\n  {lines}"
            raise ConflictError(f"{what}\nChoose another path, or give --overwrite to replace it")
        folder = self._existing()
        if not folder.is_dir():
            raise ArgumentError(f"cannot be made: {str(folder)!r} is a file, not a folder", "path", self.root)
        if not os.access(folder, os.W_OK | os.X_OK):
            what = f"no permission to write in {str(folder)!r}; choose another path"
            raise MissingError(f"`path` (={str(self.root)!r}): {what}")

    def _existing(self) -> Path:
        """The store, or the first folder above it that is there."""
        return next(p for p in (self.root, *self.root.parents) if p.exists())

    def prepare(self, plan: Plan, overwrite: bool = False) -> None:
        """See `Target.prepare`. The store is built beside its place and renamed into it."""
        with disk_errors(self.root):
            self._sweep()
            exists = self.root.is_dir() and any(self.root.iterdir())
            if overwrite or not exists:
                self._build(plan, exists)

    def _build(self, plan: Plan, exists: bool) -> None:
        root = self.root
        root.parent.mkdir(parents=True, exist_ok=True)
        while True:
            beside = root.parent / f".{root.name}.{uuid.uuid4().hex[:8]}.vpngen"
            beside.mkdir()
            lock = lock_folder(beside)  # where the system can: so `_sweep` knows it from a killed run's
            if beside.exists():  # else another process swept it before it was locked, and `lock` is None
                break
        old, old_lock = beside.with_name(beside.name + ".old"), None
        try:
            for name, data in skeleton(plan.spec, plan.layout)[0].items():
                (beside / name).parent.mkdir(parents=True, exist_ok=True)
                with (beside / name).open("wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
            for folder in (*filter(Path.is_dir, beside.rglob("*")), beside):
                files.sync_folder(folder)
            if exists:
                old_lock = lock_folder(root)
                os.rename(root, old)
            try:
                os.rename(beside, root)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    if exists:
                        os.rename(old, root)
                    raise
                self.check(plan)  # another process made the store since we looked
            files.sync_folder(root.parent)
            if exists:
                shutil.rmtree(old)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
            for fd in (lock, old_lock):
                if fd is not None:
                    os.close(fd)

    def _sweep(self) -> None:
        """Remove what killed runs left beside the store: half-made skeletons, and stores that were being replaced."""
        ours = re.compile(rf"\.{re.escape(self.root.name)}\.[0-9a-f]{{8}}\.vpngen(\.old)?")
        with contextlib.suppress(OSError):
            for folder in self.root.parent.iterdir():
                if ours.fullmatch(folder.name) and (lock := lock_folder(folder)) is not None:
                    shutil.rmtree(folder, ignore_errors=True)
                    os.close(lock)

    def free_bytes(self) -> int:
        """See `Target.free_bytes`."""
        return max(shutil.disk_usage(self._existing()).free - SPARE_BYTES, 0)

    def stored_bytes(self) -> int:
        """See `Target.stored_bytes`."""
        return sum(p.stat().st_size for p in self.root.rglob("*") if p.is_file())

    def pending(self, plan: Plan) -> list[Shard]:
        """See `Target.pending`."""
        return [s for s in plan.shards if not is_finished(self.root, plan, s)]

    def claim(self, shard: Shard) -> None:
        """See `Target.claim`."""
        with disk_errors(self.root / shard.key):
            self._claimed[shard] = open_partial(self.root / shard.key)

    def put(self, shard: Shard, data: Iterable[bytes | memoryview]) -> None:
        """See `Target.put`."""
        fd = self._claimed[shard]
        with disk_errors(self.root / shard.key):
            os.ftruncate(fd, 0)
            os.lseek(fd, 0, os.SEEK_SET)
            for piece in data:
                left = memoryview(piece)
                while left:
                    left = left[os.write(fd, left) :]

    def publish(self, shard: Shard, record: bytes) -> None:
        """See `Target.publish`. The lock is held to the end."""
        final = self.root / shard.key
        try:
            with disk_errors(final):
                os.fsync(self._claimed[shard])
                with contextlib.suppress(FileNotFoundError):  # a record that speaks of another file
                    os.unlink(self.root / shard.record)
                os.replace(f"{final}{PARTIAL}", final)
                files.sync_folder(final.parent)
                write_file(self.root / shard.record, record)
        finally:
            self.release(shard)

    def release(self, shard: Shard) -> None:
        """See `Target.release`."""
        fd, partial = self._claimed.pop(shard), f"{self.root / shard.key}{PARTIAL}"
        with contextlib.suppress(OSError):  # it has its name already, and a file of that name would be another writer's
            if os.path.samestat(os.stat(partial), os.fstat(fd)):
                os.unlink(partial)
        os.close(fd)


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Whatever the operating system refuses becomes a RunError that says how to go on."""
    try:
        yield
    except OSError as error:
        what = f"{error.filename or str(path)!r}: {error.strerror or error}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            what = f"the disk of {str(path)!r} is full: free some space"
        raise RunError(f"{what}. What was finished stays; give the same command again to go on") from error


def busy(path: str | Path) -> ConflictError:
    """What is said of a file that another process is writing."""
    share = "give each process its own share with --slice 1/2 and --slice 2/2"
    return ConflictError(f"another process is writing {path}; wait until it is done, or {share}")


def write_file(path: Path, data: bytes) -> None:
    """Write a small file of a store, whole or not at all; only the owner of its shard may. Raises OSError."""
    partial = path.with_name(path.name + PARTIAL)
    try:
        partial.write_bytes(data)
        files.publish(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(partial)
        raise


def try_lock(fd: int) -> bool:
    """Take the lock of an open file, or say that another process holds it. True where the file system has no locks."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return True


def lock_folder(path: Path) -> int | None:
    """A folder, open and locked; None where another process holds it, it is gone, or this system cannot tell."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    with contextlib.suppress(OSError):  # file systems differ in what they say of the lock of a folder
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.stat(path), os.fstat(fd)):
            return fd
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
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        ours = False
        try:
            if not try_lock(fd):
                raise busy(final)
            with contextlib.suppress(FileNotFoundError):  # its last owner gave it its name before we locked it
                ours = os.path.samestat(os.stat(path), os.fstat(fd))
            if ours:
                with contextlib.suppress(FileNotFoundError, PermissionError):
                    if is_live(final):  # it has its name, but its owner has still to write the record
                        raise busy(final)
                return fd
        except BaseException:
            if ours:
                os.unlink(path)
            os.close(fd)
            raise
        os.close(fd)


def is_live(path: Path, remove: bool = False) -> bool:
    """Whether the writer of a file lives. With `remove` the partial file of a dead one is removed.

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
