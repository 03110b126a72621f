"""A pool of threads in this process: each takes the next shard, renders its videos and hands it over to be published."""

from __future__ import annotations

import contextlib
import itertools
import queue
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from vpngen.backends import Backend
from vpngen.errors import ConflictError
from vpngen.executors.base import Executor, OnProgress, Outcome, Progress
from vpngen.store.layout import Plan, Shard
from vpngen.store.packing import render_shard, shard_record
from vpngen.store.targets.base import Target

PAUSE: Final = 2.0
LONGEST: Final = 20.0
"""Seconds between two looks at shards that other runs have claimed, at first and at most."""


@dataclass(frozen=True)
class Threads(Executor):
    """Renders with `backend` in `threads` threads, each with a shard of its own."""

    backend: Backend
    threads: int

    def run(
        self, plan: Plan, target: Target, progress: OnProgress = None, pending: Sequence[Shard] | None = None
    ) -> Outcome:
        """See `Executor.run`.

        Shards that another process is writing are left for the end. By then it has finished them, or it was killed and
        they are rendered here, or they are missing. So of several runs one may miss shards, and together they complete
        the set. Where claims run out, a run waits for that, and begins anywhere, so that several seldom meet.
        """
        pending, before = target.pending(plan) if pending is None else pending, None
        kept = plan.videos - plan.only(pending).videos
        run = _Run(plan, target, self.backend, plan.videos - kept, progress)
        for tries in itertools.count():
            if not pending or (pending == before and target.lease is None):
                break
            if pending == before:
                if progress is not None:
                    progress(Progress(run.videos, run.total, run.nbytes, len(pending)))
                time.sleep(min(PAUSE * 1.2**tries, LONGEST) * random.uniform(0.5, 1.0))
            run.render(pending, self.threads)
            before, pending = pending, target.pending(plan.only(s for s in pending if s in run.held))
        return Outcome(run.videos, kept, tuple(pending), run.nbytes)


class _Stopped(Exception):
    """The run was stopped: the shard at hand is dropped."""


@dataclass
class _Run:
    """What the threads of a run share.

    `held` are shards that another process was writing; `shared` says that one is at work, so that it is cheaper to look whether a shard is
    done before it is claimed.
    """

    plan: Plan
    target: Target
    backend: Backend
    total: int
    progress: Callable[[Progress], None] | None
    videos: int = 0
    nbytes: int = 0
    held: set[Shard] = field(default_factory=set)
    shared: bool = False
    _stop: threading.Event = field(default_factory=threading.Event)
    _news: queue.SimpleQueue[tuple[int, int] | None] = field(default_factory=queue.SimpleQueue)

    def stop(self) -> None:
        """Have the threads drop the shards at hand and end."""
        self._stop.set()

    def render(self, shards: Sequence[Shard], threads: int) -> None:
        """Render shards; returns when all are published but those `held`, raises the first error of any thread."""
        self.held.clear()
        first = random.randrange(len(shards)) if self.target.lease is not None else 0
        waiting = map(shards.__getitem__, itertools.chain(range(first, len(shards)), range(first)))
        running = min(threads, len(shards))
        inner = max(1, threads // running)
        # Renderers end first, also after an error: what they have put is still published.
        with ThreadPoolExecutor(running, "vpngen-sync") as sync, ThreadPoolExecutor(running, "vpngen-render") as pool:
            try:
                work = [pool.submit(self._work, waiting, sync, inner) for _ in range(running)]
                while running:
                    try:
                        news = self._news.get(timeout=0.2)  # not for ever: a signal has to be handled meanwhile
                    except queue.Empty:
                        continue
                    if news is None:  # the last word of each thread
                        running -= 1
                    else:
                        self.videos += news[0]
                        self.nbytes += news[1]
                        if self.progress is not None:
                            self.progress(Progress(self.videos, self.total, self.nbytes))
                for done in work:
                    done.result()
            except BaseException:
                self.stop()
                raise

    def _work(self, waiting: Iterator[Shard], syncers: ThreadPoolExecutor, threads: int) -> None:
        publishing: Future[None] | None = None
        try:
            for shard in waiting:  # the other threads take from it too
                if self._stop.is_set():
                    break
                if (record := self._put(shard, threads)) is not None:
                    before, publishing = publishing, syncers.submit(self.target.publish, shard, record)
                    if before is not None:
                        before.result()
            if publishing is not None:
                publishing.result()
        except BaseException:
            self.stop()
            raise
        finally:
            self._news.put(None)

    def _put(self, shard: Shard, threads: int) -> bytes | None:
        """Render a shard into the target: its record, or None if it is held, finished or was dropped."""
        if self.shared and not self.target.pending(self.plan.only([shard])):
            return None
        try:
            self.target.claim(shard, self.plan.arrays)
        except ConflictError:
            self.held.add(shard)
            self.shared = self.target.lease is not None
            return None
        with contextlib.ExitStack() as owned, contextlib.suppress(_Stopped):
            owned.callback(self.target.release, shard)
            if self.target.pending(self.plan.only([shard])):  # else another process finished it since it was listed
                files = {}
                for array in self.plan.arrays:  # a video is done when the last array has it
                    each = partial(self._each, int(array == self.plan.arrays[-1]))
                    files[array] = render_shard(self.plan, shard, self.backend, threads, each, array)
                    self.target.put(shard, files[array], array)
                owned.pop_all()  # `publish` releases it
                return shard_record(self.plan, shard, files)
            self.shared = self.target.lease is not None
        return None

    def _each(self, videos: int, nbytes: int) -> None:
        self._news.put((videos, nbytes))
        if self._stop.is_set():
            raise _Stopped
