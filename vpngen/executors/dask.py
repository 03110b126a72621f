"""A Dask cluster: tasks of a few shards, which workers render and put into the target themselves.

The records at the target are the truth, never a future: a scheduler that runs a finished task again does no harm, and one that is lost is
gone on without. What goes through it is small: the spec as JSON, the place by its URL, numbers of shards, and what was stored.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from vpngen import __version__, backends
from vpngen.errors import ArgumentError, MissingError, RunError, VpngenError
from vpngen.executors.base import Executor, OnProgress, Outcome, Progress
from vpngen.executors.threads import Threads
from vpngen.spec import Spec
from vpngen.store.layout import Layout, Plan, Shard, store_plan
from vpngen.store.places import Objects, Place
from vpngen.store.targets import target_of
from vpngen.store.targets.base import Target
from vpngen.units import count_text

if TYPE_CHECKING:
    import distributed

MOST_SHARDS: Final = 4
"""Whole shards of a task at most, so that it takes some minutes."""
AHEAD: Final = 4
"""Tasks of each thread of the cluster that the scheduler has at a time: a million shards are no graph of a million tasks."""
RETRIES: Final = 2
"""Times that a task is run again that failed, beside those whose workers were lost."""
M_TRIM_THRESHOLD: Final = -1
M_MMAP_THRESHOLD: Final = -3
"""Of mallopt(3)."""
CONNECTING: Final = 10
"""Seconds that a scheduler has to answer."""
ABOUT: Final = "(lambda v: (v.__version__, v.spec.FORMAT_VERSION))(__import__('vpngen.spec'))"
"""What each worker is asked, in words that need no vpngen there."""
Done = list[tuple[str, int, int, int]]
"""Of each shard that a task rendered: split, number, videos, bytes."""


@dataclass(frozen=True)
class Dask(Executor):
    """Renders with the workers of a `distributed.Client`: each with cuda where it has it and `backend` is auto, one thread a task."""

    client: distributed.Client
    backend: str = "auto"

    def run(
        self, plan: Plan, target: Target, progress: OnProgress = None, pending: Sequence[Shard] | None = None
    ) -> Outcome:
        """See `Executor.run`. What is missing at the end is what failed; why, the first error says if it was one of ours.

        Raises:
            MissingError: workers without vpngen, or with another version or format.
            RunError: the scheduler was lost.
        """
        if isinstance(target.place, Objects) and not target.place.elsewhere:
            raise ArgumentError(
                "must be a URL, or a folder that all workers see, and not memory of this process", "where", str(target)
            )
        threads = self._threads(plan.spec)
        pending = target.pending(plan) if pending is None else pending
        kept = plan.videos - plan.only(pending).videos
        size = max(1, min(MOST_SHARDS, len(pending) // (AHEAD * max(threads, 1))))
        some = (pending[first : first + size] for first in range(0, len(pending), size))
        total, seen, nbytes, failed = plan.videos - kept, dict[tuple[str, int], int](), 0, list[str]()
        for done in self._each(plan, target, some, AHEAD * max(threads, 1), failed.append):
            for split, number, videos, stored in done:
                if (split, number) not in seen:  # a task may run twice
                    seen[split, number] = videos
                    nbytes += stored
            if progress is not None:
                progress(Progress(sum(seen.values()), total, nbytes))
        left = target.pending(plan.only(pending)) if pending else ()
        return Outcome(sum(seen.values()), kept, tuple(left), nbytes, "; ".join(dict.fromkeys(failed)))

    def _threads(self, spec: Spec) -> int:
        """The threads of the cluster, once it is seen that its workers can do the work."""
        try:
            found = self.client.run(eval, ABOUT, on_error="return")
            threads: int = sum(self.client.nthreads().values())
        except (OSError, RuntimeError, TimeoutError) as error:
            raise _lost(error) from error
        wrong = []
        for worker, about in sorted(found.items()):
            if isinstance(about, ModuleNotFoundError):
                wrong.append(f"{worker} has no vpngen: pip install vpngen=={__version__}")
            elif isinstance(about, BaseException):
                wrong.append(f"{worker}: {about}")
            elif about[0] != __version__ or about[1] < spec.format_version:
                here = f"and here it is {__version__}, and format {spec.format_version}"
                wrong.append(f"{worker} has vpngen {about[0]}, up to format {about[1]}, {here}")
        if wrong:
            raise MissingError(f"{count_text(len(wrong), 'worker')} cannot do this work: {'; '.join(wrong[:8])}")
        return threads

    def _each(
        self, plan: Plan, target: Target, tasks: Iterator[Sequence[Shard]], ahead: int, failed: Callable[[str], None]
    ) -> Iterator[Done]:
        """What each task did, as they end; so many are with the scheduler at a time. One that `failed` is left out, if others may end well."""
        import distributed

        about = json.dumps(plan.spec.to_dict()), plan.layout.to_dict(), target.place, self.backend, __version__

        def begun() -> Iterator[distributed.Future]:
            for shards in tasks:
                numbers = [(shard.split, shard.number) for shard in shards]
                yield self.client.submit(render_some, *about, numbers, pure=False, retries=RETRIES)

        waiting, futures = begun(), set[Any]()
        running = distributed.as_completed(loop=self.client.loop)
        try:
            for _, future in zip(range(ahead), waiting, strict=False):
                futures.add(future)
                running.add(future)
            for future in running:
                futures.discard(future)
                if future.status == "finished":
                    yield future.result()
                elif future.status == "cancelled":
                    raise _lost(None)
                elif isinstance(error := future.exception(), VpngenError) and not isinstance(error, RunError):
                    raise type(error)(f"on a worker, with its own environment: {error}") from error
                else:
                    failed(str(error).partition("\n")[0][:300] or type(error).__name__)
                future.release()
                if (more := next(waiting, None)) is not None:
                    futures.add(more)
                    running.add(more)
        except (OSError, RuntimeError) as error:
            raise _lost(error) from error
        finally:
            with contextlib.suppress(Exception):  # of a scheduler that is lost
                self.client.cancel(list(futures))


def _lost(error: BaseException | None) -> RunError:
    why = "" if error is None else f" ({error or type(error).__name__})"
    return RunError(f"the scheduler was lost{why}. What was finished stays; give the same command again to go on")


def render_some(
    spec: str, layout: dict[str, Any], place: Place, backend: str, version: str, shards: Sequence[tuple[str, int]]
) -> Done:
    """Render shards, on a worker: those that are still pending there; gives what was stored.

    Raises:
        MissingError: this worker has another version, or not the backend.
        RunError: the target failed, or others are writing the shards.
    """
    if version != __version__:
        raise MissingError(f"this worker has vpngen {__version__}, and the work is of {version}")
    _keep_memory()
    plan = store_plan(Spec.from_dict(json.loads(spec)), Layout(**layout))
    target, done = target_of(place), Done()
    executor = Threads(backends.choose(backend, plan.spec.generator), 1)
    for split, number in shards:
        shard = plan.shard(split, number)
        found = executor.run(plan.only([shard]), target)
        if found.rendered:
            done.append((split, number, found.rendered, found.nbytes))
    return done


@functools.cache
def _keep_memory() -> None:
    """Let the C library keep what is freed for the next video, as it does of itself.

    Dask's nannies tell it to give all back at once, and every buffer is then made of new pages: a tenth of the time of rendering.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        mallopt(M_MMAP_THRESHOLD, 2**25)
        mallopt(M_TRIM_THRESHOLD, 2**27)


@contextlib.contextmanager
def connected(scheduler: str, workers: int) -> Iterator[distributed.Client]:
    """A client of the scheduler at an address, or with `local` of a cluster of `workers` processes of this machine, which ends with it.

    Raises:
        ArgumentError: no scheduler answers at the address.
        MissingError: Dask is not installed.
    """
    try:
        import distributed
    except ImportError:
        raise MissingError("Dask is needed; install it with: pip install 'vpngen[dask]'") from None
    with contextlib.ExitStack() as opened:
        for name in [name for name in logging.root.manager.loggerDict if name.partition(".")[0] == "distributed"]:
            logger = logging.getLogger(name)  # what is lost is said once, by an error
            opened.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.CRITICAL)
        if scheduler == "local":
            made = distributed.LocalCluster(
                n_workers=workers, threads_per_worker=1, dashboard_address=":0", silence_logs=logging.CRITICAL
            )
            scheduler = opened.enter_context(made).scheduler_address
        try:
            client = distributed.Client(scheduler, timeout=CONNECTING)
        except (OSError, ValueError, TimeoutError) as error:
            why = str(error).partition("\n")[0]
            raise ArgumentError(f"is no scheduler that answers: {why}", "scheduler", scheduler) from None
        yield opened.enter_context(client)
