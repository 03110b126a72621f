"""The doors of the store: any target, and an executor that is a loop, write a set that verifies whole."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest
import stores
from obstore.store import MemoryStore
from stores import plan_of, tiny, tree, write

import vpngen
from vpngen import ConflictError, RunError
from vpngen.backends.reference import Reference
from vpngen.executors import check_space
from vpngen.executors.base import Executor, OnProgress, Outcome, Progress
from vpngen.executors.threads import Threads
from vpngen.store import CODECS, LocalTarget, Plan, Shard
from vpngen.store.layout import VIDEO
from vpngen.store.packing import render_shard, shard_record
from vpngen.store.places import Objects
from vpngen.store.targets import ObjectTarget
from vpngen.store.targets.base import Target


def memory() -> ObjectTarget:
    """Objects that are nowhere else."""
    return ObjectTarget(Objects("memory://", MemoryStore()))


class Loop(Executor):
    """One shard after the other."""

    def run(
        self, plan: Plan, target: Target, progress: OnProgress = None, pending: Sequence[Shard] | None = None
    ) -> Outcome:
        left = plan.only(target.pending(plan) if pending is None else pending)
        for shard in left.shards:
            files = {array: render_shard(plan, shard, Reference(), array=array) for array in plan.arrays}
            target.claim(shard, plan.arrays)
            try:
                for array, data in files.items():
                    target.put(shard, data, array)
            except BaseException:
                target.release(shard)
                raise
            target.publish(shard, shard_record(plan, shard, files))
        return Outcome(left.videos, plan.videos - left.videos, (), 0)


EXECUTORS = {"loop": Loop(), "one thread": Threads(Reference(), 1), "three threads": Threads(Reference(), 3)}
each_executor = pytest.mark.parametrize("executor", EXECUTORS.values(), ids=list(EXECUTORS))
SPEC = tiny()


@pytest.fixture(params=[ObjectTarget, LocalTarget])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Target:
    """A prepared one of each kind, without a shard."""
    made: Target = memory() if request.param is ObjectTarget else LocalTarget(tmp_path / "set.zarr")
    made.prepare(plan_of(SPEC))
    return made


def files(target: Target) -> dict[str, bytes]:
    return {name: target.place.read(name) for name, kind in target.walk() if kind == "file"}


# --- whoever writes where, the set is the same


@each_executor
@pytest.mark.parametrize("codec", CODECS)
def test_any_executor_fills_any_target(executor: Executor, codec: str, tmp_path: Path) -> None:
    write(SPEC, tmp_path / "whole", codec=codec)
    plan = plan_of(SPEC, codec)
    for target in (memory(), LocalTarget(tmp_path / "set.zarr")):
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
    check_space(memory(), plan_of(SPEC), plan_of(SPEC).shards, needed=10**18)


# --- what every target promises


def test_a_shard_without_a_record_does_not_exist(target: Target) -> None:
    plan = plan_of(SPEC)
    empty, (first, second, *_) = files(target), plan.shards
    data = render_shard(plan, first, Reference())
    target.claim(first)
    target.put(first, data)
    assert target.pending(plan) == list(plan.shards)
    target.release(first)
    assert files(target).keys() - {first.key} == empty.keys()
    target.claim(first)
    target.put(first, [b"something else, and longer than what follows" * 1000])
    target.put(first, render_shard(plan, first, Reference()))
    target.claim(second)  # one does not keep the other
    target.publish(first, shard_record(plan, first, {VIDEO: data}))
    assert target.pending(plan) == list(plan.shards[1:])
    target.release(second)
    assert files(target).keys() - empty.keys() == {first.key, first.record}, "publishing releases"


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


def another(target: Target) -> Target:
    """The same place, as another process has it."""
    return LocalTarget(target.root) if isinstance(target, LocalTarget) else ObjectTarget(vars(target)["place"])


def test_a_shard_has_one_owner(target: Target) -> None:
    """The others get an error, and do what else there is; what is left they miss, or wait for where claims run out."""
    plan = plan_of(SPEC)
    held, owner = plan.shards[1], another(target)
    owner.claim(held)
    with pytest.raises(ConflictError):
        target.claim(held)
    for threads in (1, 3):
        if target.lease is None:
            assert Threads(Reference(), threads).run(plan, target).missing == (held,)
        else:
            with ThreadPoolExecutor(1) as pool:
                running = pool.submit(Threads(Reference(), threads).run, plan, target)
                while len(target.pending(plan)) > 1:
                    time.sleep(0.01)
                time.sleep(0.1)
                assert not running.done()
                owner.release(held)
                assert running.result().missing == ()
            return
        assert target.pending(plan) == [held]
    owner.release(held)
    assert Threads(Reference(), 2).run(plan, target).rendered == held.count


def test_a_shard_that_is_finished_when_it_is_claimed_is_left(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process did so since the pending shards were listed."""
    plan = plan_of(SPEC)
    late, real = plan.shards[1], type(target).claim

    def claim(self: Target, shard: Shard, arrays: Sequence[str] = (VIDEO,)) -> None:
        if shard == late and self is target:
            data, other = render_shard(plan, late, Reference()), another(target)
            real(other, late, arrays)
            other.put(late, data)
            other.publish(late, shard_record(plan, late, {VIDEO: data}))
        real(self, shard, arrays)

    monkeypatch.setattr(type(target), "claim", claim)
    done = Threads(Reference(), 1).run(plan, target)
    assert (done.rendered, done.missing) == (plan.videos - late.count, ())
    assert not target.pending(plan)


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
    assert not {bad.key, bad.record, f"{bad.key}.partial", f"claims/{bad.split}.{bad.number}"} & files(target).keys()
    again = executor.run(plan, target)
    assert again.rendered == plan.videos - again.kept > 0
    assert not target.pending(plan)


@pytest.mark.parametrize("call", ["claim", "publish", "pending"])
def test_a_target_that_fails_stops_the_threads(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error comes out of the run, and no shard stays claimed."""
    plan, target = plan_of(tiny(instances=20)), memory()
    target.prepare(plan)
    real, calls = getattr(ObjectTarget, call), []

    def refuse(self: ObjectTarget, *args: Any) -> Any:
        calls.append(args)
        if len(calls) == 4:
            if call == "publish":
                self.release(args[0])
            raise RunError("no more")
        return real(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(ObjectTarget, call, refuse)
        with pytest.raises(RunError, match="no more"):
            Threads(Reference(), 2).run(plan, target)
    assert not target.place.sizes("claims") and 0 < len(target.pending(plan)) < len(plan.shards)
    assert Threads(Reference(), 2).run(plan, target).missing == ()
    assert target.pending(plan) == []


def test_progress_is_told_of_every_video() -> None:
    plan, target, seen = plan_of(SPEC), memory(), list[Progress]()
    target.prepare(plan)
    done = Threads(Reference(), 2).run(plan, target, seen.append)
    assert [(p.done, p.total) for p in seen] == [(n, plan.videos) for n in range(1, plan.videos + 1)]
    assert (
        seen[-1].nbytes
        == done.nbytes
        == sum(target.place.size(s.key) - 16 * plan.layout.shard_videos * plan.chunks_a_video - 4 for s in plan.shards)
    )


def test_a_run_that_is_stopped_while_a_shard_is_put_leaves_no_claim() -> None:
    class Slow(ObjectTarget):
        def put(self, shard: Shard, data: Iterable[bytes | memoryview], array: str = VIDEO) -> None:
            super().put(shard, data, array)
            time.sleep(0.3)  # the run is over meanwhile

    plan, target = plan_of(SPEC), Slow(memory().place)
    target.prepare(plan)

    def stop(progress: Progress) -> None:
        if progress.done == plan.shards[0].count:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Threads(Reference(), 1).run(plan, target, stop)
    assert target.place.sizes("claims") == {}
