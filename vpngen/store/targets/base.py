"""What a place for stores must do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

from vpngen.store.layout import VIDEO, Plan, Shard


class Target(ABC):
    """A place for one store. A shard without a record does not exist: the record is published last, and once.

    A shard is written by its owner: `claim`, `put`, then `publish` or `release`. Different shards may be written from
    different threads. `str(target)` names the place in messages.
    """

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
        """Make the store without its shards, in one step, where it is not there; `overwrite` replaces what is there.

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
    def pending(self, plan: Plan) -> Sequence[Shard]:
        """The shards of a plan that are to be rendered: without a valid record, or not of the size that it says."""

    @abstractmethod
    def claim(self, shard: Shard, arrays: Sequence[str] = (VIDEO,)) -> None:
        """Become the owner of the files of a shard. Raises ConflictError where another process is, and RunError."""

    @abstractmethod
    def put(self, shard: Shard, data: Iterable[bytes | memoryview], array: str = VIDEO) -> None:
        """Store the bytes of a claimed shard's file of an array; put again, they replace the first.

        Each piece is valid until the next is asked for. What asking for it raises, this raises.

        Raises:
            RunError: the place failed.
        """

    @abstractmethod
    def publish(self, shard: Shard, record: bytes) -> None:
        """Make the files of a claimed shard last, then its record, and release it; where that fails as well. Raises RunError."""

    @abstractmethod
    def release(self, shard: Shard) -> None:
        """Give up a claimed shard; what was put of it vanishes."""

    @abstractmethod
    def free_bytes(self) -> int | None:
        """What a store may take here, in bytes; None where there is no limit to know."""

    @abstractmethod
    def stored_bytes(self) -> int:
        """The bytes of what is here."""
