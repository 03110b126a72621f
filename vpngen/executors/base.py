"""What a way to run a plan must do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from vpngen.store.layout import Plan, Shard
from vpngen.store.targets.base import Target


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        done: videos done in it.
        total: those to do.
        nbytes: bytes that have been stored.
        waiting: shards that other runs have claimed, which this one waits for, with nothing else to do; workers of a cluster do not tell.
    """

    done: int
    total: int
    nbytes: int
    waiting: int = 0


OnProgress: TypeAlias = Callable[[Progress], None] | None
"""What is told how far a run is, from the calling thread; None for nobody."""


@dataclass(frozen=True)
class Outcome:
    """What a run did with a plan.

    Attributes:
        rendered: videos that it rendered.
        kept: videos that had a record before.
        missing: shards that have no record now: other processes are writing them.
        nbytes: bytes that it stored.
        why: what is known of why some are missing, in words.
    """

    rendered: int
    kept: int
    missing: tuple[Shard, ...]
    nbytes: int
    why: str = ""


class Executor(ABC):
    """Renders the shards of a plan into a target. What it does it reads from the records: it keeps no list of its own."""

    @abstractmethod
    def run(
        self, plan: Plan, target: Target, progress: OnProgress = None, pending: Sequence[Shard] | None = None
    ) -> Outcome:
        """Render the pending shards of `plan` into a prepared target; `progress` is called from the calling thread after each video.

        `pending` are those that were pending a moment ago, if somebody has asked; None: the target is asked.

        Raises:
            RunError: the target failed. This and every other error stops the run, and no shard stays claimed.
        """
