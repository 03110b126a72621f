"""What a place for stores must do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar, Literal

from vpngen.spec import Spec
from vpngen.store.layout import VIDEO, Plan, Shard
from vpngen.store.places import Place

Kind = Literal["file", "folder", "other"]
"""What there is under a name; `other` is a link, a pipe and the like."""


class Target(ABC):
    """A place for one store. A shard without a record does not exist: the record is published last, and once.

    A shard is written by its owner: `claim`, `put`, then `publish` or `release`. Different shards may be written from
    different threads. `str(target)` names the place in messages.

    Attributes:
        place: where what is there is read.
        lease: seconds after which the claim of a writer that was killed is nobody's; None where it ends with its process. Then
            whoever finds a shard claimed leaves it; with a lease, runs wait for each other's shards.
    """

    place: Place
    lease: ClassVar[float | None]

    @abstractmethod
    def check(self, plan: Plan, overwrite: bool = False) -> None:
        """See whether a plan may be written here; changes nothing.

        Raises:
            ArgumentError: there can be no store here.
            ConflictError: something else is here, and `overwrite` may not replace it.
            MissingError: nothing may be written here.
        """

    @abstractmethod
    def prepare(self, plan: Plan, overwrite: bool = False) -> None:
        """Make the store without its shards where it is not there; `overwrite` replaces what is there.

        A store of fewer instances becomes one of the plan that is not finished: its shards stay.

        Raises:
            ConflictError: another process made another store meanwhile.
            RunError: the place failed.
        """

    @abstractmethod
    def settle(self, plan: Plan) -> None:
        """End a run of a plan: once nothing is left of the smaller set that a store was grown from, it is as if there had been none.

        Raises:
            RunError: the place failed.
        """

    @abstractmethod
    def beginning(self, plan: Plan) -> Spec | None:
        """What the store holds of the set of a plan, if it holds any of it."""

    @abstractmethod
    def pending(self, plan: Plan) -> Sequence[Shard]:
        """The shards of a plan that are to be rendered: without a valid record, or not of the size that it says."""

    @abstractmethod
    def claim(self, shard: Shard, arrays: Sequence[str] = (VIDEO,)) -> None:
        """Become the owner of the files of a shard. Raises ConflictError where another process is, and RunError."""

    @abstractmethod
    def put(self, shard: Shard, data: Iterable[bytes | memoryview], array: str = VIDEO) -> None:
        """Store the bytes of a claimed shard's file of an array; put again, they replace the first.

        Each piece is valid until the next is asked for; all may be asked for again, from the first on. What asking raises, this raises.

        Raises:
            RunError: the place failed.
        """

    @abstractmethod
    def publish(self, shard: Shard, record: bytes) -> None:
        """Make the files of a claimed shard last, then its record, and release it; where that fails as well. Raises RunError."""

    @abstractmethod
    def release(self, shard: Shard) -> None:
        """Give up a claimed shard; what was put of it vanishes, or does not count."""

    @abstractmethod
    def write(self, name: str, data: bytes) -> None:
        """Write a small file, whole or not at all. Raises ConflictError where another process does, and RunError."""

    @abstractmethod
    def walk(self) -> Iterator[tuple[str, Kind]]:
        """All that is here, in no order, and what it is."""

    @abstractmethod
    def written(self, name: str) -> str | None:
        """The file that is being written, where what is here under a name is its writer's; None where it is not."""

    @abstractmethod
    def is_live(self, name: str, remove: bool = False) -> bool:
        """Whether the writer lives whose is what is here under a name; with `remove`, what a dead one left is removed.

        Raises:
            FileNotFoundError: it is gone.
            OSError: it cannot be seen, or not be removed.
        """

    @abstractmethod
    def free_bytes(self) -> int | None:
        """What a store may take here, in bytes; None where there is no limit to know."""

    @abstractmethod
    def stored_bytes(self) -> int:
        """The bytes of what is here."""
