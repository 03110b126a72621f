"""A folder on a disk: locks, partial files, renames, and what is synced when.

A file of a shard is written to `c.7.0.0.0.partial`, which its writer holds locked; once all are synced they get their names, and then
the shard its record.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import re
import shutil
import stat
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar, Final

from vpngen import files
from vpngen.errors import ArgumentError, ConflictError, MissingError, RunError
from vpngen.files import Folder
from vpngen.spec import SPLITS, Spec
from vpngen.store.growing import ROOT, beginning, grow, grown
from vpngen.store.layout import (
    VIDEO,
    Layout,
    Plan,
    Shard,
    conflict,
    pending,
    read_spec,
    recorded_layout,
    skeleton,
    table_files,
)
from vpngen.store.targets.base import Kind, Target

PARTIAL: Final = ".partial"
"""A shard while it is written. It is locked as long as its writer lives; unlocked, it is what a killed one left."""
_NO_LOCKS: Final = (errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)
IN_THE_WAY: Final = (errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.EINVAL, errno.EEXIST, errno.ENOTEMPTY, errno.ENXIO)
"""What the system says where a link, a folder or the like is in the place of a file."""
_NOT_BESIDE: Final = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY, errno.EXDEV)
"""What the system says where nothing can be made beside a folder or put in its place: another's parent, a mount point, an overlay."""
SPARE_BYTES: Final = 64 * 2**20
"""Disk space that a run leaves free."""
PATIENCE: Final = 10.0
"""Seconds that the writer of a small file waits for another writer of it."""


class LocalTarget(Target):
    """The store in a folder. A link to a folder on another disk stays: the store comes where it points.

    Links below that folder are not followed.
    """

    lease: ClassVar[float | None] = None

    def __init__(self, path: str | Path) -> None:
        """Raises ArgumentError where `path` cannot name a store."""
        try:
            str(path).encode()
        except UnicodeEncodeError:
            raise ArgumentError("is not valid UTF-8; Zarr stores need a path that is", "path", str(path)) from None
        if "\0" in str(path):
            raise ArgumentError("must not contain a zero byte", "path", str(path))
        self.root = Path(os.path.realpath(files.local(path)))
        self.place: Folder = Folder(self.root)
        self._claimed: dict[Shard, dict[str, int]] = {}
        """Of each shard its files by their path: partial, open and locked, the pixels first."""

    def __str__(self) -> str:
        return str(self.root)

    def check(self, plan: Plan, overwrite: bool = False) -> None:
        """See `Target.check`."""
        root = self.root
        try:
            empty = not root.exists() or (root.is_dir() and self._is_empty())
            spec, layout = (plan.spec, plan.layout) if empty else self._held(plan)
        except OSError as error:
            raise MissingError(f"`path` (={str(root)!r}) cannot be used: {error.strerror}") from None
        except ConflictError as error:
            raise ConflictError(f"{error}; it was left untouched: choose another path, or remove it by hand") from None
        if overwrite and not empty:
            for name, status in self.place.walk():
                if name.endswith(PARTIAL) and stat.S_ISREG(status.st_mode):
                    with contextlib.suppress(OSError):
                        if is_live(self.place, name):
                            raise ConflictError(f"another process is writing {root / name}; it was left untouched")
            return
        if not spec.begins(plan.spec) or layout != plan.layout:
            raise conflict(self, spec, layout, plan)
        folder = self._existing()
        if not folder.is_dir():
            raise ArgumentError(f"cannot be made: {str(folder)!r} is a file, not a folder", "path", self.root)
        if not os.access(folder, os.W_OK | os.X_OK):
            what = f"no permission to write in {str(folder)!r}; choose another path"
            raise MissingError(f"`path` (={str(self.root)!r}): {what}")

    def _held(self, plan: Plan) -> tuple[Spec, Layout]:
        """What the store that is there holds. Where its root metadata is damaged, the records may say it is this plan's."""
        try:
            return read_spec(self.root)
        except ConflictError:
            if recorded_layout(self.place, plan.spec) != plan.layout:
                raise
            return plan.spec, plan.layout

    def _existing(self) -> Path:
        """The store, or the first folder above it that is there."""
        return next(p for p in (self.root, *self.root.parents) if p.exists())

    def prepare(self, plan: Plan, overwrite: bool = False) -> None:
        """See `Target.prepare`. The store is built beside its place and renamed into it; damaged root metadata is repaired."""
        with disk_errors(self.root):
            self._sweep(self.root.parent)
            exists = self.root.is_dir() and not self._is_empty()
            if overwrite or not exists:
                names = set(os.listdir(self.root)) if self.root.is_dir() else set()
                inside = bool(names.intersection(files.SYSTEM) if exists else names)  # so that what is no store's stays
                try:
                    self._build(plan, exists, self.root if inside else self.root.parent)
                except OSError as error:
                    if inside or error.errno not in _NOT_BESIDE or not self.root.is_dir():
                        raise
                    self._build(plan, exists, self.root)
                self._sweep(self.root)
                return
            try:
                read_spec(self.root)
            except ConflictError:
                self.check(plan)
                write_file(self.place, "zarr.json", skeleton(plan.spec, plan.layout)[0]["zarr.json"])
            self._grow(plan)

    def settle(self, plan: Plan) -> None:
        """See `Target.settle`."""
        with disk_errors(self.root):
            if self.beginning(plan) == plan.spec:  # else another run grew it further
                self._grow(plan)

    def beginning(self, plan: Plan) -> Spec | None:
        """See `Target.beginning`."""
        return beginning(self.place, plan)

    def _grow(self, plan: Plan) -> None:
        """See `growing.grow`: one process at a time, where the system has locks of folders."""
        if grown(self.place, plan):
            with contextlib.suppress(OSError):  # of a run that was killed before it began to grow it
                if self.place.stat(left := f"{ROOT}{PARTIAL}"):
                    is_live(self.place, left, remove=True)
            return
        end = time.monotonic() + PATIENCE
        while (lock := lock_folder(self.root)) is None and time.monotonic() < end:  # slices begin at once
            time.sleep(0.01)

        def check(earlier: tuple[Spec, ...]) -> None:
            self.check(plan)
            if earlier and lock is None:
                what = f"{str(self.root)!r} is being grown to other counts by another process, or was by one that was killed"
                raise ConflictError(
                    f"{what}: complete that with `--instances {read_spec(self.root)[0].instances}` first"
                )

        def last() -> None:
            for folder in {self.root, *((self.root / name).parent for name in skeleton(plan.spec, plan.layout)[0])}:
                files.sync_folder(folder)

        try:
            grow(self.place, plan, self._write, check, last)
        finally:
            if lock is not None:
                os.close(lock)

    def _is_empty(self) -> bool:
        """Whether the folder holds nothing but what the system put there, or a run that was killed while it built a store there."""
        names = files.names_in(self.root)
        begun = any(self._ours(name) for name in names)
        return all(self._ours(name) or (begun and name in SPLITS) for name in names)

    def _ours(self, name: str) -> bool:
        """Whether a folder beside the store, or in it, is one that a store is built in, or one that was replaced."""
        return re.fullmatch(rf"\.{re.escape(self.root.name)}\.[0-9a-f]{{8}}\.vpngen(\.old)?", name) is not None

    def _build(self, plan: Plan, exists: bool, parent: Path) -> None:
        """Build the store in `parent`, which is beside it, or itself; then it is in its place, or what it holds is."""
        root = self.root
        parent.mkdir(parents=True, exist_ok=True)
        while True:
            built = parent / f".{root.name}.{uuid.uuid4().hex[:8]}.vpngen"
            built.mkdir()
            lock = lock_folder(built)  # where the system can: so `_sweep` knows it from a killed run's
            if built.exists():  # else another process swept it before it was locked, and `lock` is None
                break
        try:
            documents = skeleton(plan.spec, plan.layout)[0]
            for name, data in itertools.chain(documents.items(), table_files(plan.spec)):
                (built / name).parent.mkdir(parents=True, exist_ok=True)
                with (built / name).open("wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
            for folder in (*filter(Path.is_dir, built.rglob("*")), built):
                files.sync_folder(folder)
            if parent == root:
                self._move_in(plan, built, exists)
            else:
                self._move_there(plan, built, exists)
            files.sync_folder(parent)
        finally:
            shutil.rmtree(built, ignore_errors=True)
            if lock is not None:
                os.close(lock)

    def _move_there(self, plan: Plan, built: Path, exists: bool) -> None:
        """Give what was built beside the store its name, and remove what had it."""
        root, old, old_lock = self.root, built.with_name(built.name + ".old"), None
        try:
            if exists:
                old_lock = lock_folder(root)
                os.rename(root, old)
            try:
                os.rename(built, root)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    if exists:
                        os.rename(old, root)
                    raise
                self.check(plan)  # another process made the store since we looked
            files.sync_folder(root.parent)  # before what was there is gone
            if exists:
                shutil.rmtree(old)
        finally:
            if old_lock is not None:
                os.close(old_lock)

    def _move_in(self, plan: Plan, built: Path, exists: bool) -> None:
        """Move what was built in the folder of the store to its place, the root metadata last: until then it is no store.

        Where there was a store, its root metadata stays to that moment, so that whatever happens --overwrite finds one.
        """
        root, end = self.root, time.monotonic() + PATIENCE
        while (lock := lock_folder(root)) is None and time.monotonic() < end:  # several runs may begin at once
            time.sleep(0.01)
        try:
            if not exists and (root / "zarr.json").exists():
                self.check(plan)  # another process made the store since we looked
                return
            for path in (root / name for name in files.names_in(root) if not self._ours(name)):
                if path.is_dir() and not path.is_symlink() and (exists or path.name in SPLITS):
                    shutil.rmtree(path)
                elif exists and path.name != "zarr.json":
                    path.unlink()
            for path in sorted(built.iterdir(), key=lambda path: path.name == "zarr.json"):
                files.sync_folder(root)
                os.replace(path, root / path.name)
        finally:
            if lock is not None:
                os.close(lock)

    def _sweep(self, parent: Path) -> None:
        """Remove what killed runs left beside the store, or in it: half-made skeletons, and stores that were being replaced."""
        with contextlib.suppress(OSError):
            for folder in parent.iterdir():
                if self._ours(folder.name) and (lock := lock_folder(folder)) is not None:
                    shutil.rmtree(folder, ignore_errors=True)
                    os.close(lock)

    def free_bytes(self) -> int:
        """See `Target.free_bytes`."""
        return max(shutil.disk_usage(self._existing()).free - SPARE_BYTES, 0)

    def stored_bytes(self) -> int:
        """See `Target.stored_bytes`."""
        try:
            return sum(status.st_size for _, status in self.place.walk() if stat.S_ISREG(status.st_mode))
        except FileNotFoundError:
            return 0

    def pending(self, plan: Plan) -> Sequence[Shard]:
        """See `Target.pending`."""
        return pending(self.place, plan)

    def claim(self, shard: Shard, arrays: Sequence[str] = (VIDEO,)) -> None:
        """See `Target.claim`."""
        held = self._claimed[shard] = {}
        try:
            for key in map(shard.file, arrays):
                with disk_errors(self.root / key):
                    held[key] = open_partial(self.place, key)
        except BaseException:
            self.release(shard)
            raise

    def put(self, shard: Shard, data: Iterable[bytes | memoryview], array: str = VIDEO) -> None:
        """See `Target.put`."""
        held, key = self._claimed[shard], shard.file(array)
        with disk_errors(self.root / key):
            fd = held[key]
            os.ftruncate(fd, 0)
            os.lseek(fd, 0, os.SEEK_SET)
            for piece in data:
                left = memoryview(piece)
                while left:
                    left = left[os.write(fd, left) :]

    def publish(self, shard: Shard, record: bytes) -> None:
        """See `Target.publish`. The locks are held to the end."""
        try:
            with disk_errors(self.root / shard.key):
                for fd in self._claimed[shard].values():
                    os.fsync(fd)
                with contextlib.suppress(FileNotFoundError):  # a record that speaks of other files
                    self.place.unlink(shard.record)
                for key in self._claimed[shard]:
                    self.place.rename(f"{key}{PARTIAL}", key)
                write_file(self.place, shard.record, record)
        finally:
            self.release(shard)

    def release(self, shard: Shard) -> None:
        """See `Target.release`."""
        for key, fd in self._claimed.pop(shard).items():
            partial = f"{key}{PARTIAL}"
            with contextlib.suppress(
                OSError
            ):  # it has its name already, and a file of that name would be another writer's
                if os.path.samestat(self.place.stat(partial), os.fstat(fd)):
                    self.place.unlink(partial)
            os.close(fd)

    def write(self, name: str, data: bytes) -> None:
        """See `Target.write`."""
        with disk_errors(self.root / name):
            self._write(name, data)

    def _write(self, name: str, data: bytes) -> None:
        self.place.make_way(name)
        write_file(self.place, name, data)

    def walk(self) -> Iterator[tuple[str, Kind]]:
        """See `Target.walk`."""
        for name, status in self.place.walk():
            yield (
                name,
                "file" if stat.S_ISREG(status.st_mode) else "folder" if stat.S_ISDIR(status.st_mode) else "other",
            )

    def written(self, name: str) -> str | None:
        """See `Target.written`."""
        return name.removesuffix(PARTIAL) if name.endswith(PARTIAL) else None

    def is_live(self, name: str, remove: bool = False) -> bool:
        """See `Target.is_live`."""
        return is_live(self.place, name, remove)


@contextlib.contextmanager
def disk_errors(path: str | Path) -> Iterator[None]:
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


def write_file(folder: Folder, name: str, data: bytes) -> None:
    """Write a small file of a store, whole or not at all; several processes may at once. Raises ConflictError, OSError."""
    partial, end = name + PARTIAL, time.monotonic() + PATIENCE
    while (fd := own(folder, partial)) is None:
        if time.monotonic() > end:
            raise busy(folder.path / name)
        time.sleep(0.01)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(data)
        os.fsync(fd)
        folder.rename(partial, name)
    except BaseException:
        with contextlib.suppress(OSError):
            folder.unlink(partial)
        raise
    finally:
        os.close(fd)


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
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    with contextlib.suppress(OSError):  # file systems differ in what they say of the lock of a folder
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.stat(path), os.fstat(fd)):
            return fd
    os.close(fd)
    return None


def own(folder: Folder, partial: str) -> int | None:
    """A partial file, made or taken over from a killed writer, open, locked and empty; None where its writer lives.

    What is another name of some other file is not written to: the name is taken from it.

    Raises:
        OSError: the file cannot be made, or there is a link or no file in its place.
    """
    while True:
        fd = folder.open(partial, os.O_RDWR | os.O_CREAT)
        ours = False
        try:
            if not try_lock(fd):
                return None
            with contextlib.suppress(FileNotFoundError):  # its last owner gave it its name before we locked it
                ours = os.path.samestat(status := folder.stat(partial), os.fstat(fd))
            if ours and status.st_nlink > 1:
                folder.unlink(partial)
                ours = False
            if ours:
                os.ftruncate(fd, 0)
                return fd
        except BaseException:
            ours = False
            raise
        finally:
            if not ours:
                os.close(fd)


def open_partial(folder: Folder, key: str) -> int:
    """The partial file of a shard, open and locked.

    Raises:
        ConflictError: another process is writing this shard.
        OSError: as `own`.
    """
    if (fd := own(folder, key + PARTIAL)) is None:
        raise busy(folder.path / key)
    try:
        if is_live(folder, key):  # it has its name, but its owner has still to write the record
            raise busy(folder.path / key)
    except (FileNotFoundError, PermissionError):
        pass
    except OSError as error:
        if error.errno not in IN_THE_WAY:
            _give_up(folder, key, fd)
            raise
    except BaseException:
        _give_up(folder, key, fd)
        raise
    return fd


def _give_up(folder: Folder, key: str, fd: int) -> None:
    with contextlib.suppress(OSError):
        folder.unlink(key + PARTIAL)
    os.close(fd)


def is_live(folder: Folder, name: str, remove: bool = False) -> bool:
    """Whether the writer of a file lives. With `remove` the partial file of a dead one is removed.

    It is locked meanwhile, so that no other writer takes it up. Raises OSError.
    """
    fd = folder.open(name, os.O_RDWR)
    try:
        live = not try_lock(fd)
        if remove and not live:
            folder.unlink(name)
        return live
    finally:
        os.close(fd)
