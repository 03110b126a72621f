"""The plan is a pure function, its slices come together in any order, and processes that meet do no harm."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import permutations
from pathlib import Path

import pytest
import stores
from hypothesis import given
from hypothesis import strategies as st
from stores import pending, plan_of, tiny, tree, write
from strategies import SPECS

import vpngen
from vpngen import ArgumentError, ConflictError, Spec
from vpngen.executors.base import Progress
from vpngen.files import Folder
from vpngen.store import Layout, LocalTarget, parse_slice, store_plan
from vpngen.store.targets import local
from vpngen.store.targets.local import open_partial

RUN = """
import json, sys
import stores, vpngen
from vpngen import Spec
path, spec, options = json.loads(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
try:
    done = stores.write(Spec.from_dict(spec), path, **options)
except vpngen.ConflictError as error:
    print(json.dumps(["told", str(error)]))
else:
    print(json.dumps(["done", done.rendered]))
"""


def processes(path: Path, spec: Spec, options: list[dict[str, object]]) -> list[list[object]]:
    """What processes that write one store, all started at the same time, have to say."""
    started = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", RUN, json.dumps([str(path), spec.to_dict(), o])],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parent, text=True,
        )
        for o in options
    ]  # fmt: skip
    for process in started:
        assert process.stdout is not None and process.stdin is not None
        assert process.stdout.readline() == "ready\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate(timeout=100)[0] for process in started]
    assert [process.returncode for process in started] == [0] * len(started)
    return [json.loads(text) for text in said]


# --- the plan


@given(spec=st.one_of(*SPECS.values()), shard_videos=st.integers(1, 9), n=st.one_of(st.integers(1, 9), st.just(10**6)))
def test_slices_share_the_plan_out(spec: Spec, shard_videos: int, n: int) -> None:
    layout = Layout("none", shard_videos)
    whole = store_plan(spec, layout)
    assert whole == store_plan(Spec.from_json(spec.to_json()), Layout("none", shard_videos))
    covered = [(s.split, i) for s in whole.shards for i in range(s.first, s.first + s.count)]
    assert covered == [(split, i) for split in spec.splits for i in range(spec.n_videos(split))]
    assert all(s.first == s.number * shard_videos and 1 <= s.count <= shard_videos for s in whole.shards)
    assert len({s.key for s in whole.shards}) == len(whole.shards)
    assert whole.videos == len(covered)
    parts = [store_plan(spec, layout, (i, n)).shards for i in range(1, min(n, len(whole.shards) + 1) + 1)]
    shared: list[str] = sorted(s.key for part in parts for s in part)
    assert shared == sorted(s.key for s in whole.shards)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1/1", (1, 1)), ("2/3", (2, 3)), ("3/3", (3, 3)), ("07/10", (7, 10)), ("1/1000000", (1, 1000000))],
)
def test_parse_slice(text: str, expected: tuple[int, int]) -> None:
    assert parse_slice(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "", "/", "1", "1/", "/1", "0/1", "2/1", "-1/2", "1/-2", "+1/2", "1/2/3", "1 / 2", " 1/2", "1/2\n", "1.0/2",
        "a/b", "1|2", "0/0", "1/0", "\u0661/\u0662", "\uff11/\uff12", "\u00b9/\u00b2", "0x1/0x2", "1_0/2_0", "1/" + "9" * 5000,
    ],
)  # fmt: skip
def test_parse_slice_refuses(text: str) -> None:
    with pytest.raises(ArgumentError, match="`slice`"):
        parse_slice(text)


# --- slices make the tree that one run makes


def test_slices_in_any_order(tmp_path: Path) -> None:
    spec = tiny()
    write(spec, tmp_path / "whole")
    whole = tree(tmp_path / "whole")
    for order in permutations((1, 2, 3)):
        path = tmp_path / "".join(map(str, order))
        done = [write(spec, path, slice=(i, 3)) for i in order]
        assert sum(d.rendered for d in done) == plan_of(spec).videos
        assert all(d.rendered and not d.kept for d in done)
        assert tree(path) == whole
        assert write(spec, path).rendered == 0


def test_more_slices_than_shards(tmp_path: Path) -> None:
    spec = tiny()
    write(spec, tmp_path / "whole")
    for i in range(1, 6):
        assert write(spec, tmp_path / "set", slice=(i, 5)).rendered == (4, 2, 2, 0, 0)[i - 1]
    assert tree(tmp_path / "set") == tree(tmp_path / "whole")


def test_slices_at_the_same_time(tmp_path: Path) -> None:
    spec = tiny(instances=9)
    write(spec, tmp_path / "whole")
    said = processes(tmp_path / "set", spec, [{"slice": (i, 3)} for i in (1, 2, 3)])
    assert [word for word, _ in said] == ["done"] * 3
    assert sum(int(str(rendered)) for _, rendered in said) == plan_of(spec).videos
    assert tree(tmp_path / "set") == tree(tmp_path / "whole")
    assert {p.name for p in tmp_path.iterdir()} == {"set", "whole"}


@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_whole_runs_at_the_same_time(codec: str, tmp_path: Path) -> None:
    spec = tiny(instances=20)
    write(spec, tmp_path / "whole", codec=codec)
    said = processes(tmp_path / "set", spec, [{"codec": codec, "threads": threads} for threads in (1, 2, 3)])
    assert "done" in [word for word, _ in said], said
    assert all("another process is writing" in str(text) for word, text in said if word == "told")
    assert tree(tmp_path / "set") == tree(tmp_path / "whole")
    assert {p.name for p in tmp_path.iterdir()} == {"set", "whole"}


def test_different_sets_at_the_same_time(tmp_path: Path) -> None:
    """One of them makes the store, the other is told what is there."""
    for trial in range(2):
        path = tmp_path / f"set{trial}"
        started = [
            subprocess.Popen(
                [sys.executable, "-W", "error", "-c", RUN, json.dumps([str(path), tiny(seed=seed).to_dict(), {}])],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parent, text=True,
            )
            for seed in (1, 2)
        ]  # fmt: skip
        said = [json.loads(p.communicate("go\n", timeout=100)[0].removeprefix("ready\n")) for p in started]
        assert sorted(word for word, _ in said) == ["done", "told"]
        assert any("seed" in str(text) for word, text in said if word == "told")
        there, _ = vpngen.store.read_spec(path)
        assert said[there.seed - 1][0] == "done"
        assert vpngen.verify(path, backend="reference", render=True).problems == ()


# --- two runs meet at a shard


def test_a_shard_in_other_hands_is_left_and_the_rest_is_done(tmp_path: Path) -> None:
    """The lock of another process is that of another open file: flock does not tell them apart."""
    spec, path = tiny(instances=9), tmp_path / "set.zarr"
    write(spec, tmp_path / "whole")
    write(spec, path, slice=(99, 99))
    plan = plan_of(spec)
    held = plan.shards[1]
    lock = stores.hold(path, held)
    for threads in (1, 3):
        with pytest.raises(ConflictError, match=r"another process is writing .*c\.1\.0\.0\.0") as told:
            write(spec, path, threads=threads)
        assert "--slice" in str(told.value)
        assert pending(path, plan) == [held]
        assert (path / f"{held.key}.partial").exists(), "the other's file was taken away"
    lock.close()
    assert write(spec, path).rendered == held.count
    assert tree(path) == tree(tmp_path / "whole")


def test_a_shard_that_the_other_finishes_meanwhile_is_no_conflict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, path = tiny(instances=9), tmp_path / "set.zarr"
    write(spec, tmp_path / "whole")
    write(spec, path, slice=(99, 99))
    plan = plan_of(spec)
    lock = stores.hold(path, plan.shards[0])

    def other(progress: Progress) -> None:
        if progress.done == 1:  # this run is past the first shard: the other one lets go of it, done
            for name in (plan.shards[0].key, f"{plan.shards[0].key}.done"):
                (path / name).write_bytes((tmp_path / "whole" / name).read_bytes())
            (path / f"{plan.shards[0].key}.partial").unlink()
            lock.close()

    done = write(spec, path, progress=other)
    assert done.rendered == plan.videos - plan.shards[0].count
    assert tree(path) == tree(tmp_path / "whole")


def test_a_shard_that_the_other_drops_meanwhile_is_rendered(tmp_path: Path) -> None:
    spec, path = tiny(instances=9), tmp_path / "set.zarr"
    write(spec, tmp_path / "whole")
    write(spec, path, slice=(99, 99))
    lock = stores.hold(path, plan_of(spec).shards[0])
    seen = []

    def other(progress: Progress) -> None:
        seen.append((progress.done, progress.total))
        lock.close()

    assert write(spec, path, progress=other).rendered == plan_of(spec).videos
    assert seen == [(n, plan_of(spec).videos) for n in range(1, plan_of(spec).videos + 1)]
    assert tree(path) == tree(tmp_path / "whole")


def test_a_partial_file_that_got_its_name_before_it_was_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the opening and the lock, the process that had it finishes; what it finished is not written over."""
    final = tmp_path / "c.0.0.0.0"
    final.with_name("c.0.0.0.0.partial").write_bytes(b"a shard")
    real, calls = local.try_lock, []

    def try_lock(fd: int) -> bool:
        calls.append(fd)
        if len(calls) == 1:
            final.with_name("c.0.0.0.0.partial").rename(final)
        return real(fd)

    monkeypatch.setattr(local, "try_lock", try_lock)
    with open(open_partial(Folder(tmp_path), final.name), "wb") as file:
        file.write(b"another shard")
    assert len(calls) == 3  # the file that went, its successor, and whether the one with the name has an owner
    assert final.read_bytes() == b"a shard"
    assert final.with_name("c.0.0.0.0.partial").read_bytes() == b"another shard"


def test_a_shard_has_its_owner_until_its_record_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, target = plan_of(tiny()), LocalTarget(tmp_path / "set")
    target.prepare(plan)
    shard, real = plan.shards[0], local.write_file

    def write_file(folder: Folder, name: str, data: bytes) -> None:
        with pytest.raises(ConflictError, match="another process is writing"):
            LocalTarget(tmp_path / "set").claim(shard)
        real(folder, name, data)

    monkeypatch.setattr(local, "write_file", write_file)
    target.claim(shard)
    target.put(shard, [b"a shard"])
    target.publish(shard, b"its record")
    assert not list(tmp_path.rglob("*.partial"))
    assert (target.root / shard.record).read_bytes() == b"its record"
    other = LocalTarget(tmp_path / "set")
    other.claim(shard)
    other.release(shard)
    assert (target.root / shard.key).read_bytes() == b"a shard"


def test_the_partial_file_of_a_killed_run_is_taken_up(tmp_path: Path) -> None:
    target, shard = LocalTarget(tmp_path), plan_of(tiny()).shards[0]
    partial = tmp_path / f"{shard.key}.partial"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(b"half a shard, and more of it than is written now")
    target.claim(shard)
    with pytest.raises(ConflictError):
        LocalTarget(tmp_path).claim(shard)
    target.put(shard, [b"a shard, ", b"again"])
    target.put(shard, [b"a ", b"shard"])
    assert partial.read_bytes() == b"a shard"
    target.release(shard)
    assert not partial.exists()
