"""The doors of the store: a target that is a dictionary, and an executor that is a loop, write a set that verifies whole."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest
import stores
from stores import plan_of, tiny, tree, write

import vpngen
from vpngen import ConflictError, RunError
from vpngen.backends.reference import Reference
from vpngen.executors import check_space
from vpngen.executors.base import Executor, Outcome, Progress
from vpngen.executors.threads import Threads
from vpngen.store import CODECS, LocalTarget, Plan, Shard
from vpngen.store.layout import VIDEO, parse_record, recorded, skeleton, table_files
from vpngen.store.packing import render_shard, shard_record
from vpngen.store.targets.base import Target


class Dictionary(Target):
    """Files by their path within the store."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.claimed: dict[Shard, dict[str, bytes]] = {}

    def check(self, plan: Plan, overwrite: bool = False) -> None:
        pass

    def prepare(self, plan: Plan, overwrite: bool = False) -> None:
        self.files = {
            **skeleton(plan.spec, plan.layout)[0],
            **dict(table_files(plan.spec)),
            **({} if overwrite else self.files),
        }

    def settle(self, plan: Plan) -> None:
        pass

    def pending(self, plan: Plan) -> list[Shard]:
        def finished(shard: Shard) -> bool:
            fields = parse_record(plan, shard, self.files.get(shard.record, b""))
            return fields is not None and all(
                recorded(fields, array)[0] == len(self.files[shard.file(array)]) for array in plan.arrays
            )

        return [s for s in plan.shards if not finished(s)]

    def claim(self, shard: Shard, arrays: Sequence[str] = (VIDEO,)) -> None:
        if shard in self.claimed:
            raise ConflictError("somebody has it")
        self.claimed[shard] = {}

    def put(self, shard: Shard, data: Iterable[bytes | memoryview], array: str = VIDEO) -> None:
        self.claimed[shard][shard.file(array)] = stores.taken(data)

    def publish(self, shard: Shard, record: bytes) -> None:
        self.files |= self.claimed.pop(shard)
        self.files[shard.record] = record

    def release(self, shard: Shard) -> None:
        del self.claimed[shard]

    def free_bytes(self) -> None:
        return None

    def stored_bytes(self) -> int:
        return sum(map(len, self.files.values()))


class Loop(Executor):
    """One shard after the other."""

    def run(self, plan: Plan, target: Target, progress: Callable[[Progress], None] | None = None) -> Outcome:
        pending = plan.only(target.pending(plan))
        for shard in pending.shards:
            files = {array: render_shard(plan, shard, Reference(), array=array) for array in plan.arrays}
            target.claim(shard, plan.arrays)
            try:
                for array, data in files.items():
                    target.put(shard, data, array)
            except BaseException:
                target.release(shard)
                raise
            target.publish(shard, shard_record(plan, shard, files))
        return Outcome(pending.videos, plan.videos - pending.videos, (), 0)


EXECUTORS = {"loop": Loop(), "one thread": Threads(Reference(), 1), "three threads": Threads(Reference(), 3)}
each_executor = pytest.mark.parametrize("executor", EXECUTORS.values(), ids=list(EXECUTORS))
SPEC = tiny()


@pytest.fixture(params=[Dictionary, LocalTarget])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Target:
    """A prepared one of each kind, without a shard."""
    made: Target = Dictionary() if request.param is Dictionary else LocalTarget(tmp_path / "set.zarr")
    made.prepare(plan_of(SPEC))
    return made


def files(target: Target) -> dict[str, bytes]:
    return tree(target.root) if isinstance(target, LocalTarget) else dict(vars(target)["files"])


# --- whoever writes where, the set is the same


@each_executor
@pytest.mark.parametrize("codec", CODECS)
def test_any_executor_fills_any_target(executor: Executor, codec: str, tmp_path: Path) -> None:
    write(SPEC, tmp_path / "whole", codec=codec)
    plan = plan_of(SPEC, codec)
    for target in (Dictionary(), LocalTarget(tmp_path / "set.zarr")):
        target.check(plan)
        target.prepare(plan)
        half = plan.only(plan.shards[::2])
        assert executor.run(half, target).rendered == half.videos
        target.prepare(plan)  # again: what is there stays
        done = executor.run(plan, target)
        assert (done.rendered, done.kept, done.missing) == (plan.videos - half.videos, half.videos, ())
        assert files(target) == tree(tmp_path / "whole")
        assert target.stored_bytes() == sum(map(len, files(target).values()))
        before = files(target)
        done = executor.run(plan, target, lambda _: pytest.fail("something was rendered"))
        assert (done.rendered, done.kept, done.missing, done.nbytes) == (0, plan.videos, (), 0)
        assert files(target) == before
        for name, data in before.items():
            (tmp_path / "copy" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "copy" / name).write_bytes(data)
        assert vpngen.verify(tmp_path / "copy", render=True, backend="reference").problems == ()


def test_the_bytes_of_a_shard_are_those_of_its_file(tmp_path: Path) -> None:
    """A pure function: of plan and shard, however often and by whomever it is called, whatever shard was before."""
    for codec in CODECS:
        write(SPEC, tmp_path / codec, codec=codec)
        plan = plan_of(SPEC, codec)
        for shard in (*reversed(plan.shards), *plan.shards):
            taken: list[int] = []
            data = render_shard(plan, shard, Reference(), each=taken.append)
            assert (data.size, data.digest) == (0, "")
            content = stores.taken(data)
            assert content == (tmp_path / codec / shard.key).read_bytes()
            assert shard_record(plan, shard, {VIDEO: data}) == (tmp_path / codec / shard.record).read_bytes()
            index = 16 * plan.layout.shard_videos * plan.chunks_a_video + 4
            assert data.size == len(content) == sum(taken) + index and len(taken) == shard.count


def test_a_piece_that_is_kept_without_a_copy_is_an_error() -> None:
    """Its memory is used again for the next video: without the error a target would store that one twice."""
    for codec in ("none", "zstd"):
        plan = plan_of(SPEC, codec)
        with pytest.raises((TypeError, ValueError), match="memoryview"):
            b"".join(render_shard(plan, plan.shards[0], Reference()))


def test_a_target_without_a_limit_has_room() -> None:
    check_space(Dictionary(), plan_of(SPEC), plan_of(SPEC).shards, needed=10**18)


# --- what every target promises


def test_a_shard_without_a_record_does_not_exist(target: Target) -> None:
    plan = plan_of(SPEC)
    empty, (first, second, *_) = files(target), plan.shards
    data = render_shard(plan, first, Reference())
    target.claim(first)
    target.put(first, data)
    assert target.pending(plan) == list(plan.shards)
    target.release(first)
    assert files(target) == empty
    target.claim(first)
    target.put(first, [b"something else, and longer than what follows" * 1000])
    target.put(first, render_shard(plan, first, Reference()))
    target.claim(second)  # one does not keep the other
    target.publish(first, shard_record(plan, first, {VIDEO: data}))
    assert target.pending(plan) == list(plan.shards[1:])
    target.release(second)
    assert not any(vars(target).get(name) for name in ("claimed", "_claimed")), "publishing releases"
    assert files(target).keys() - empty.keys() == {first.key, first.record}


def test_a_record_of_another_shard_set_or_size_counts_for_nothing(target: Target) -> None:
    plan, other = plan_of(SPEC), plan_of(tiny(seed=1))
    first, second = plan.shards[:2]
    for of, shard, content in ((plan, second, None), (other, first, None), (plan, first, [b"short"])):
        data = render_shard(of, shard, Reference())
        target.claim(first)
        target.put(first, data)
        if content is not None:
            target.put(first, content)
        target.publish(first, shard_record(of, shard, {VIDEO: data}))
        assert first in target.pending(plan)
    assert EXECUTORS["loop"].run(plan, target).rendered == plan.videos
    assert target.pending(plan) == []


def test_a_shard_has_one_owner(target: Target) -> None:
    """The others get an error or leave it out; what they can do, they do."""
    plan = plan_of(SPEC)
    held = plan.shards[1]
    owner = target if isinstance(target, Dictionary) else LocalTarget(str(target))
    owner.claim(held)
    with pytest.raises(ConflictError):
        target.claim(held)
    for threads in (1, 3):
        done = Threads(Reference(), threads).run(plan, target)
        assert done.missing == (held,) and target.pending(plan) == [held]
    owner.release(held)
    assert Threads(Reference(), 2).run(plan, target).rendered == held.count


def test_a_shard_that_is_finished_when_it_is_claimed_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process did so since the pending shards were listed."""
    plan, target = plan_of(SPEC), Dictionary()
    target.prepare(plan)
    late, real = plan.shards[1], Dictionary.claim

    def claim(self: Dictionary, shard: Shard, arrays: Sequence[str] = (VIDEO,)) -> None:
        real(self, shard, arrays)
        if shard == late:
            data = render_shard(plan, late, Reference())
            self.files[late.key] = stores.taken(data)
            self.files[late.record] = shard_record(plan, late, {VIDEO: data})

    monkeypatch.setattr(Dictionary, "claim", claim)
    done = Threads(Reference(), 1).run(plan, target)
    assert (done.rendered, done.missing) == (plan.videos - late.count, ())
    assert not target.claimed and not target.pending(plan)


# --- failures


def broken(data: Iterable[bytes | memoryview]) -> Iterator[Any]:
    """Half of a shard, then an error."""
    yield from (piece for piece, _ in zip(data, repeat(None, 5), strict=False))
    raise RunError("the wire was cut")


@each_executor
def test_a_put_that_fails_half_way_leaves_no_record(
    executor: Executor, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(SPEC)
    real, bad, calls = type(target).put, plan.shards[1], []

    def put(self: Target, shard: Shard, data: Iterable[bytes | memoryview], array: str = VIDEO) -> None:
        calls.append(shard)
        real(self, shard, broken(data) if shard == bad else data, array)

    with monkeypatch.context() as patch:
        patch.setattr(type(target), "put", put)
        with pytest.raises(RunError, match="cut"):
            executor.run(plan, target)
    assert bad in target.pending(plan)
    assert not {bad.key, bad.record, f"{bad.key}.partial"} & files(target).keys()
    again = executor.run(plan, target)
    assert again.rendered == plan.videos - again.kept > 0
    assert not target.pending(plan)


@pytest.mark.parametrize("call", ["claim", "publish", "pending"])
def test_a_target_that_fails_stops_the_threads(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error comes out of the run, and no shard stays claimed."""
    plan, target = plan_of(tiny(instances=20)), Dictionary()
    target.prepare(plan)
    real, calls = getattr(Dictionary, call), []

    def refuse(self: Dictionary, *args: Any) -> Any:
        calls.append(args)
        if len(calls) == 4:
            if call == "publish":
                self.release(args[0])
            raise RunError("no more")
        return real(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Dictionary, call, refuse)
        with pytest.raises(RunError, match="no more"):
            Threads(Reference(), 2).run(plan, target)
    assert not target.claimed and 0 < len(target.pending(plan)) < len(plan.shards)
    assert Threads(Reference(), 2).run(plan, target).missing == ()
    assert target.pending(plan) == []


def test_progress_is_told_of_every_video() -> None:
    plan, target, seen = plan_of(SPEC), Dictionary(), list[Progress]()
    target.prepare(plan)
    done = Threads(Reference(), 2).run(plan, target, seen.append)
    assert [(p.done, p.total) for p in seen] == [(n, plan.videos) for n in range(1, plan.videos + 1)]
    assert (
        seen[-1].nbytes
        == done.nbytes
        == sum(len(target.files[s.key]) - 16 * plan.layout.shard_videos * plan.chunks_a_video - 4 for s in plan.shards)
    )


def test_a_run_that_is_stopped_while_a_shard_is_put_leaves_no_claim() -> None:
    class Slow(Dictionary):
        def put(self, shard: Shard, data: Iterable[bytes | memoryview], array: str = VIDEO) -> None:
            super().put(shard, data, array)
            time.sleep(0.3)  # the run is over meanwhile

    plan, target = plan_of(SPEC), Slow()
    target.prepare(plan)

    def stop(progress: Progress) -> None:
        if progress.done == plan.shards[0].count:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Threads(Reference(), 1).run(plan, target, stop)
    assert target.claimed == {}
