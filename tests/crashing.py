"""Runs that are killed: tests/test_resume.py starts this as `python crashing.py CONFIG`; it prints a JSON report.

Each trial forks a child that works on a store and dies at the n-th thing it does to the disk, a second child that looks
at what is left and goes on, and compares the outcome with a store that was never interrupted. The parent imports
everything once and starts no thread, so a trial costs little more than its writing.

Death is that of a power cut: what was not synced is lost. Files written since their last fsync are emptied, and renames
whose folder was not synced since are undone; those of completion records are not, for the worst of both worlds.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import json
import os
import random
import re
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import stores

import vpngen
from vpngen import Spec
from vpngen.backends.reference import Reference
from vpngen.store.layout import RECORD, all_shards
from vpngen.store.packing import render_shard

ALIKE = re.compile(r"write |.*\.vpngen(\.old)?/|os\.mkdir .*\.vpngen$")
"""Steps of which there are many: the chunks of a shard, and what is made before the store has its name."""
ALIKE_GROWN = re.compile(rf"{ALIKE.pattern}|open |os\.(mkdir|truncate) |\S+ set\.zarr/(train|val)(/(?!video/c)|$)")
"""The same where a set grows: metadata and tables, each written anew in its place."""


class Deadly:
    """Counts what this process does to the disk below `home`, and kills it before the n-th time."""

    def __init__(self, home: Path, at: int) -> None:
        self.home, self.at = f"{home}/", at
        self.events: list[str] = []
        self.synced = {self._inode(p) for p in home.rglob("*") if p.is_file()}
        self.renames: list[tuple[str, str, str]] = []  # from, to, a link to what was at `to` before
        self.lock, self.dying = threading.RLock(), 0
        self.write, self.fsync, self.open = os.write, os.fsync, os.open
        setattr(os, "write", self._write)  # noqa: B010 (a type checker knows better)
        setattr(os, "fsync", self._fsync)  # noqa: B010
        setattr(os, "open", self._open)  # noqa: B010
        sys.addaudithook(self._hook)

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if self.dying == threading.get_ident() or event not in (
            "open",
            "os.rename",
            "os.remove",
            "os.mkdir",
            "os.rmdir",
            "os.truncate",
        ):
            return
        if event == "open" and (
            not args[2] & (os.O_WRONLY | os.O_RDWR) or not (isinstance(args[0], int) or os.path.isabs(args[0]))
        ):
            return  # `_open` sees those within an open folder
        path = self._path(args[0], {"os.remove": 1, "os.rmdir": 1, "os.rename": 2, "os.mkdir": 2}.get(event), args)
        if not path.startswith(self.home):
            return
        self._step(event, path)
        if event in ("open", "os.remove"):
            self._stale(path)
        if event == "os.rename":
            to = self._path(args[1], 3, args)
            spare = ""
            if os.path.isfile(to):
                spare = f"{self.home[:-1]}.spare/{len(self.events)}"
                os.makedirs(os.path.dirname(spare), exist_ok=True)
                os.link(to, spare)
                self._stale(to)
            self.renames.append((path, to, spare))

    @staticmethod
    def _path(name: Any, place: int | None, args: tuple[Any, ...]) -> str:
        if isinstance(name, int):
            return os.readlink(f"/proc/self/fd/{name}")
        folder = os.readlink(f"/proc/self/fd/{args[place]}") if place is not None and args[place] >= 0 else ""
        return os.path.abspath(os.path.join(folder, os.fsdecode(name)))

    @staticmethod
    def _inode(path: str | Path | int) -> tuple[int, int]:
        status = os.stat(path)
        return status.st_dev, status.st_ino

    def _stale(self, path: str) -> None:
        if os.path.exists(path):
            self.synced.discard(self._inode(path))

    def _write(self, fd: int, data: Any) -> int:
        path = self._path(fd, None, ())
        if path.startswith(self.home):
            self._step("write", path, lambda: self.write(fd, memoryview(data)[: len(data) // 2]))  # torn
            self.synced.discard(self._inode(fd))
        return self.write(fd, data)

    def _open(self, name: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if dir_fd is not None and flags & (os.O_WRONLY | os.O_RDWR):
            path = f"{self._path(dir_fd, None, ())}/{name}"
            if path.startswith(self.home):
                self._step("open", path)
                if flags & os.O_CREAT:  # else it is only looked whether its writer lives
                    self._stale(path)
        return self.open(name, flags, mode, dir_fd=dir_fd)

    def _fsync(self, fd: int) -> None:
        path = self._path(fd, None, ())
        if path.startswith(self.home) or f"{path}/" == self.home:
            self._step("fsync", path)
            if os.path.isdir(path):
                self.renames = [r for r in self.renames if os.path.dirname(r[1]) != path]
            else:
                self.synced.add(self._inode(fd))
        self.fsync(fd)

    def _step(self, event: str, path: str, last: Callable[[], object] = lambda: None) -> None:
        with self.lock:  # other threads stop here while this one dies
            self.events.append(f"{event} {path.removeprefix(self.home)}")
            if len(self.events) == self.at:
                self.dying = threading.get_ident()
                last()
                self._lose()
                os.kill(os.getpid(), signal.SIGKILL)

    def _lose(self) -> None:
        for folder, _, names in os.walk(self.home):
            for path in (os.path.join(folder, name) for name in names):
                with contextlib.suppress(FileNotFoundError):  # renamed by another thread just now
                    if self._inode(path) not in self.synced:
                        os.truncate(path, 0)
        for source, to, spare in reversed(self.renames):
            if not to.endswith(RECORD):
                os.rename(to, source)
                if spare:
                    os.rename(spare, to)


class Scene:
    """A task, the set it is about, and how it begins."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.spec = Spec.from_dict(config["spec"])
        self.codec, self.threads, self.name = config["codec"], config["threads"], config["scene"]
        self.home = Path(config["folder"]) / "home"
        self.path = self.home / "set.zarr"
        self.whole_path, self.start_path = Path(config["folder"]) / "whole.zarr", Path(config["folder"]) / "start.zarr"

    def write(self, path: Path, **options: Any) -> None:
        stores.write(self.spec, path, codec=self.codec, threads=self.threads, **options)

    @property
    def smaller(self) -> Spec:
        """What the set is grown from."""
        return dataclasses.replace(self.spec, instances=self.spec.instances - 1, val_instances=0)

    def prepare(self) -> None:
        """Make the uninterrupted store, and what is there when the work begins; runs in a child."""
        plan = stores.plan_of(self.spec, self.codec)
        self.write(self.whole_path)
        if self.name == "rubbish":  # each shard's place is taken by a file of the right size
            self.write(self.start_path, slice=(99, 99))
            for shard in plan.shards:
                size = (self.whole_path / shard.key).stat().st_size
                (self.start_path / shard.key).write_bytes(bytes(size))
            stale = self.start_path / f"{plan.shards[0].key}{RECORD}"
            stale.write_bytes((self.whole_path / f"{plan.shards[1].key}{RECORD}").read_bytes())
        elif self.name == "grow":
            stores.write(self.smaller, self.start_path, codec=self.codec)
        elif self.name == "overwrite":
            stores.write(stores.tiny(seed=99), self.start_path, codec=self.codec)
        elif self.name == "repair":
            stores.copy(self.whole_path, self.start_path)
            for shard in plan.shards:
                with open(self.start_path / shard.key, "r+b") as file:
                    file.seek(200)
                    file.write(b"damage")
            (self.start_path / f"{plan.shards[1].key}{RECORD}").unlink()
            (self.start_path / "train" / "label" / "zarr.json").write_text("{")

    def warm(self) -> None:
        """Have what all children make alike: they spend their time on the disk. Starts no thread."""
        plan = stores.plan_of(self.spec, self.codec)
        made = {self.spec: self.whole}
        if self.name == "grow":
            made[self.smaller] = self.begun
        for spec, tree in made.items():
            files = {name: data for name, data in tree.items() if name.endswith("zarr.json")}
            arrays = {name.rpartition("/")[0]: json.loads(data) for name, data in files.items()}
            counts = {
                name: tuple(
                    -(-n // k) for n, k in zip(a["shape"], a["chunk_grid"]["configuration"]["chunk_shape"], strict=True)
                )
                for name, a in arrays.items()
                if a["node_type"] == "array"
            }
            stores.SKELETONS[spec, plan.layout] = files, counts
        Reference.render = remembering(Reference.render)
        for shard in plan.shards:
            list(render_shard(plan, shard, Reference()))

    def begin(self) -> None:
        """Put the folder into its first state."""
        for folder in (self.home, self.home.with_name("home.spare")):
            shutil.rmtree(folder, ignore_errors=True)
        self.home.mkdir()
        if self.start_path.exists():
            stores.copy(self.start_path, self.path)

    def work(self) -> None:
        """What is interrupted, and what is run again."""
        if self.name == "repair":
            assert vpngen.verify(self.path, repair=True, backend="reference", threads=1).whole
        else:
            self.write(self.path, overwrite=self.name == "overwrite")

    def look(self, verify: bool = True) -> None:
        """After a kill: a shard that passes for finished, or for intact, is right, whatever happened."""
        if not self.path.exists():
            assert self.name in ("fresh", "overwrite")
            return
        spec, _ = vpngen.store.read_spec(self.path)
        if self.name == "grow":
            self.look_at_growth(spec)
            verify = False
        if spec != self.spec:
            assert self.name in ("overwrite", "grow")
            return
        plan = stores.plan_of(self.spec, self.codec)
        left = set(stores.pending(self.path, plan))
        problems = vpngen.verify(self.path, backend="reference", threads=1).problems if verify else ()
        damaged = {p.path for p in problems}
        damaged |= {s.key for s in plan.shards for p in problems if p.split == s.split and s.first in p.videos}
        for shard in all_shards(self.spec, plan.layout):
            right = (self.path / shard.key).exists() and (self.path / shard.key).read_bytes() == self.whole[shard.key]
            assert right or shard.key in damaged or not verify, f"{shard.key} is not right, and verify finds nothing"
            assert right or shard in left or self.name == "repair", f"{shard.key} is not right, and counts as finished"
        if self.name in ("fresh", "overwrite"):
            damage = [p for p in problems if not p.pending]
            assert not damage, damage

    def look_at_growth(self, spec: Spec) -> None:
        """Nothing is damaged, and all that was there can be read: as what it was, or as part of what it becomes."""
        found = vpngen.verify(self.path, backend="reference", threads=1)
        assert not found.damaged and (spec == self.spec or not found.videos_of(pending=True)), found.problems
        plan = stores.plan_of(self.smaller, self.codec)
        for shard in plan.shards:
            data = (self.path / shard.key).read_bytes()
            assert data in (self.whole[shard.key], self.begun[shard.key]), f"{shard.key} is neither the old nor the new"

    def look_and_go_on(self, verify: bool) -> None:
        self.look(verify)
        self.work()

    def compare(self) -> None:
        there = stores.tree(self.home)
        wanted = {f"set.zarr/{name}": data for name, data in self.whole.items()}
        assert there == wanted, sorted(k for k in set(there) | set(wanted) if there.get(k) != wanted.get(k))

    @functools.cached_property
    def whole(self) -> dict[str, bytes]:
        return stores.tree(self.whole_path)

    @functools.cached_property
    def begun(self) -> dict[str, bytes]:
        return stores.tree(self.start_path)


def remembering(render: Callable[..., None]) -> Callable[..., None]:
    """`Backend.render` that renders each video once."""
    known: dict[bytes, Any] = {}

    def kept(backend: Reference, generator: str, rows: Any, windows: Any, out: Any, threads: int | None) -> None:
        if rows.tobytes() not in known:
            render(backend, generator, rows, windows, out, threads)
            known[rows.tobytes()] = out.copy()
        out[...] = known[rows.tobytes()]

    return kept


def in_child(work: Callable[[], object], seconds: float | None = None) -> int:
    """The wait status of a forked child that does `work`; it is killed after `seconds`."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
        os._exit(0)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(pid, signal.SIGKILL)
    return os.waitpid(pid, 0)[1]


def must(work: Callable[[], object], when: str) -> None:
    status = in_child(work)
    assert status == 0, f"{when}: status {status}, see above"


def deadly(scene: Scene, at: int, report: Path | None = None) -> None:
    counter = Deadly(scene.home, at)
    scene.work()
    if report is not None:
        report.write_text(json.dumps(counter.events))


def steps(scene: Scene, folder: Path) -> list[str]:
    """What an undisturbed run does to the disk."""
    report = folder / "steps.json"
    scene.begin()
    must(functools.partial(deadly, scene, 0, report), "undisturbed")
    scene.compare()
    events: list[str] = json.loads(report.read_text())
    return events


def moments(events: list[str], many: re.Pattern[str], thin: int) -> list[int]:
    """The steps at which to die: all, of those that are `many` and alike one in `thin`."""
    alike, chosen = 0, []
    for n, event in enumerate(events, start=1):
        if many.match(event):
            alike += 1
            if alike % thin:
                continue
        chosen.append(n)
    return chosen


def at_each_step(scene: Scene, config: dict[str, Any]) -> dict[str, Any]:
    events = steps(scene, Path(config["folder"]))
    killed = 0
    trials = moments(events, ALIKE_GROWN if scene.name == "grow" else ALIKE, config["thin"])
    for at in trials:
        scene.begin()
        killed += in_child(functools.partial(deadly, scene, at)) == signal.SIGKILL
        where = f"killed at step {at} of {len(events)}, {events[at - 1]}"
        must(functools.partial(scene.look_and_go_on, verify=at % 3 == 0), where)  # it takes longer than all else
        scene.compare()
    return {"events": events, "trials": len(trials), "killed": killed}


def at_any_moment(scene: Scene, config: dict[str, Any]) -> dict[str, Any]:
    """Killed again and again, after a random time each, until a run gets through.

    A run that gets through at the first go shows nothing: then the machine was busier when it was timed than it is now.
    """
    random.seed(0)
    start = time.monotonic()
    scene.begin()
    must(scene.work, "undisturbed")
    whole = time.monotonic() - start
    killed = trials = 0
    while trials < config["trials"]:
        before, longest = killed, 1.1 * whole
        scene.begin()
        status = signal.SIGKILL.value
        while status == signal.SIGKILL:
            status = in_child(scene.work, random.uniform(0, longest))
            longest *= 1.1  # it takes longer than was thought; what is done in one step is never done otherwise
            killed += status == signal.SIGKILL
            assert status in (0, signal.SIGKILL)
            must(scene.look, "killed at a random moment")
        scene.compare()
        if killed > before:
            trials += 1
        else:
            whole *= 0.7
    return {"trials": trials, "killed": killed}


if __name__ == "__main__":
    settings = json.loads(sys.argv[1])
    scene = Scene(settings)
    must(scene.prepare, "preparing")
    scene.warm()
    gc.freeze()  # the children share the pages of what is there
    print(json.dumps((at_any_moment if "trials" in settings else at_each_step)(scene, settings)))
