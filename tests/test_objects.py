"""Stores of objects, on real servers: the bytes of a folder, whatever servers, networks and other runs do meanwhile."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import random
import re
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import objects
import obstore
import pytest
import stores
import tensorstore
import torch
import xarray
import zarr
from commands import Run
from obstore.store import MemoryStore, S3Store
from stores import pixels, plan_of, small, tiny, tree, write

import vpngen
from vpngen import ArgumentError, ConflictError, MissingError, RunError, health
from vpngen.backends.reference import Reference
from vpngen.errors import UnreachableError
from vpngen.store import ClipReader, is_complete, places, target_of
from vpngen.store.packing import render_shard, shard_record
from vpngen.store.places import Objects, place_of
from vpngen.store.targets import objects as targets
from vpngen.store.targets.objects import CLAIMS, ObjectTarget

SPEC = tiny()
MOVING = vpngen.clouds(instances=1, val_instances=1, shape=(4, 24, 24), directions=4, speeds=(0.5,), frequencies=(0.1,))
SERVERS = ("localbucket", "moto")


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    """A server of each kind."""
    with contextlib.ExitStack() as running:
        yield {k: running.enter_context(objects.server(k, tmp_path_factory.mktemp("s3") / k)) for k in SERVERS}


@pytest.fixture
def port(ports: dict[str, int]) -> int:
    return ports["moto"]


def a_url() -> str:
    return f"s3://sets/{uuid.uuid4().hex[:12]}/set.zarr"


def at(port: int, url: str | None = None, **more: str) -> Objects:
    """A place in the bucket."""
    quick = {"max_retries": "8", "retry_timeout": "30"}
    found = place_of(a_url() if url is None else url, objects.options(port, **quick | more))
    assert isinstance(found, Objects)
    return found


def held(place: Objects) -> dict[str, bytes]:
    return {name: place.read(name) for name, _ in place.walk()}


# --- the same bytes as in a folder


@pytest.mark.parametrize("kind", SERVERS)
def test_a_set_in_a_bucket_is_that_of_a_folder(kind: str, ports: dict[str, int], tmp_path: Path) -> None:
    for number, (codec, motion) in enumerate((("none", True), ("zstd", False), ("formula", False))):
        spec = MOVING if motion else SPEC
        place, folder = at(ports[kind]), tmp_path / str(number)
        done = write(spec, place, codec=codec, with_motion=motion)
        again = write(spec, place, codec=codec, with_motion=motion)
        write(spec, folder, codec=codec, with_motion=motion)
        assert (done.kept, again.rendered, again.kept) == (0, 0, done.rendered)
        assert held(place) == tree(folder)
        assert vpngen.verify(place, render=True, backend="reference").problems == ()
        assert target_of(place).stored_bytes() == sum(map(len, tree(folder).values()))
        assert is_complete(place) and is_complete(place, "val")


def test_other_readers_open_it(ports: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """zarr-python and xarray over obstore, and tensorstore with a client of its own."""
    port = ports["moto"]
    place = at(port)
    write(SPEC, place, codec="zstd")
    expected = pixels(SPEC)
    theirs = zarr.storage.ObjectStore(place.store, read_only=True)
    group = zarr.open_group(theirs, mode="r")
    assert np.array_equal(group["train/video"][:], expected)
    data = xarray.open_zarr(theirs, group="train", consolidated=False)
    assert np.array_equal(data["video"].values, expected) and data["label"].values.tolist() == [0, 1] * 3
    for name, value in objects.environment(port).items():
        monkeypatch.setenv(name, value)
    prefix = place.url.removeprefix("s3://sets/")
    where = {"bucket": "sets", "path": f"{prefix}/train/video/", "endpoint": f"http://127.0.0.1:{port}"}
    array = tensorstore.open(
        {"driver": "zarr3", "kvstore": {"driver": "s3", "aws_region": "us-east-1", **where}}
    ).result()
    assert np.array_equal(array.read().result(), expected)


def test_views_readers_and_streams_read_it(port: int, tmp_path: Path) -> None:
    spec = small(shape=(40, 48, 48))
    for codec in ("zstd", "formula"):
        place, folder = at(port), tmp_path / codec
        for where in (place, folder):
            write(spec, where, codec=codec)
        view, local = vpngen.open(place), vpngen.open(folder)
        assert view.path == place.url and view.finished()
        assert np.array_equal(view.video[5, 10:30, 3:9, 40:], pixels(spec)[5, 10:30, 3:9, 40:])
        assert {n: a[:].tolist() for n, a in view.parameters.items()} == {
            n: a[:].tolist() for n, a in local.parameters.items()
        }
        assert sorted(zarr.open_group(view.video.store_path.store, mode="r").group_keys()) == ["train", "val"]
        both = [
            [(clips.numpy().tobytes(), labels.tolist()) for clips, labels in vpngen.ClipStream(s, 4, clip=(16, 32, 32), device="cpu")]
            for s in (place, folder)
        ]  # fmt: skip
        assert both[0] == both[1] and len(both[0]) == 5
    reader = pickle.loads(pickle.dumps(ClipReader(at(port, place.url.replace("formula", "zstd")), "train")))
    assert reader.spec == spec


def test_worker_processes_read_it(port: int) -> None:
    """Connections do not survive a fork: workers are started otherwise, and a forked process is told."""
    place = at(port)
    write(SPEC, place, codec="zstd")
    batches = vpngen.loader(place, 2, clip=(8, 8, 8), device="cpu", num_workers=1)
    alone = vpngen.loader(place, 2, clip=(8, 8, 8), device="cpu")
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(batches, alone, strict=True))
    with pytest.raises(ArgumentError, match="forkserver or spawn"):
        vpngen.loader(place, 2, clip=(8, 8, 8), device="cpu", num_workers=1, multiprocessing_context="fork")
    write(SPEC, memory := MemoryStore())
    with pytest.raises(ArgumentError, match="memory of this process"):
        vpngen.loader(memory, 2, clip=(8, 8, 8), device="cpu", num_workers=1)
    if (child := os.fork()) == 0:
        try:
            place.read("zarr.json")
        except RunError as error:
            os._exit(7 if "forkserver" in str(error) else 1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_a_set_grows_and_is_replaced(port: int, tmp_path: Path) -> None:
    place, folder = at(port), tmp_path / "set.zarr"
    for spec, overwrite in ((SPEC, False), (tiny(instances=7, val_instances=2), False), (tiny(seed=3), True)):
        for where in (place, folder):
            write(spec, where, overwrite=overwrite)
        assert held(place) == tree(folder)
    with pytest.raises(ConflictError, match=r"seed: 3 there, 0 asked for"):
        write(SPEC, place)
    assert held(place) == tree(folder)


def test_any_store_of_obstore_is_a_place(port: int, tmp_path: Path) -> None:
    memory = MemoryStore()
    write(SPEC, memory)
    theirs = S3Store.from_url(
        url := a_url(), config={k: v for k, v in objects.options(port, disable_bulk_delete="true").items() if k != "allow_http"},
        client_options={"allow_http": True},
    )  # fmt: skip
    write(SPEC, theirs)
    write(SPEC, obstore.store.LocalStore(tmp_path / "a.zarr", mkdir=True))
    write(SPEC, f"file://{tmp_path}/b%20b.zarr")
    whole = tree(tmp_path / "a.zarr")
    assert held(place_of(memory)) == held(at(port, url)) == tree(tmp_path / "b b.zarr") == whole  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="a path, a URL, or a store of obstore"):
        vpngen.open(7)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("url", "kind", "options"),
    [
        ("s3://b/x.zarr", "S3Store", {"region": "x"}),
        ("gs://b/x.zarr", "GCSStore", {}),
        ("az://b/x.zarr", "AzureStore", {"account_name": "x"}),
    ],
)
def test_each_cloud_has_its_store(url: str, kind: str, options: dict[str, str]) -> None:
    place = place_of(url, options)
    assert isinstance(place, Objects) and type(place.store).__name__ == kind and str(place) == url
    again = pickle.loads(pickle.dumps(place))
    assert again == place and type(again.store).__name__ == kind


# --- damage


def test_damage_is_found_and_repaired(port: int, tmp_path: Path) -> None:
    place, plan = at(port), plan_of(SPEC, "zstd")
    write(SPEC, place, codec="zstd")
    whole = held(place)
    first, second, third = plan.shards
    data = bytearray(whole[first.key])
    data[len(data) // 3] ^= 4
    place.put(first.key, bytes(data))
    place.delete(second.record)
    place.put(third.key, b"")
    place.put("train/label/c.0", b"nonsense")
    place.put("notes.txt", b"mine")
    place.put(f"{CLAIMS}/train.1", json.dumps(targets._process() | {"pid": 2**22 + 1, "lease": 60}).encode())
    found = {p.path: p.what for p in vpngen.verify(place).problems}
    assert {first.key, second.key, third.key, "train/label/c.0", "notes.txt", f"{CLAIMS}/train.1"} == found.keys()
    assert found[f"{CLAIMS}/train.1"] == "left by a writer that was killed"
    with pytest.raises(RunError, match=r"c\.0\.0\.0\.0.*vpngen verify"):
        ClipReader(place, "train").read(
            np.arange(4), np.tile(np.int32([0, 1, 0, 0, 0]), (4, 1)), np.empty((4, 4, 4, 4), np.uint8)
        )
    left = vpngen.verify(place, repair=True, backend="reference")
    assert [p.path for p in left.problems if not p.repaired] == ["notes.txt"]
    place.delete("notes.txt")
    assert held(place) == whole


# --- bad networks and servers


def every(number: int, answer: objects.Answer) -> Callable[[str, str, int], objects.Answer]:
    return lambda method, path, count: answer if count % number == 0 else None


@pytest.mark.parametrize("rule", [every(3, 503), every(5, "cut")], ids=["503", "cut"])
def test_a_bad_server_costs_time_alone(rule: Any, port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("places", "targets.objects"):
        monkeypatch.setattr(f"vpngen.store.{module}.PART", 5 * 2**20)  # the least that servers take
    spec = vpngen.perlin(categories=6, instances=4, shape=(16, 240, 240))
    with objects.Proxy(port, rule) as proxy:
        place = at(proxy.port)
        write(spec, place, shard_videos=12, backend="numba")
        write(spec, tmp_path / "set.zarr", shard_videos=12, backend="numba")
        assert vpngen.verify(place).problems == ()
    assert held(at(port, place.url)) == tree(tmp_path / "set.zarr")


def test_a_shard_whose_parts_run_out_of_tries_is_sent_whole_again(
    port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("places", "targets.objects"):
        monkeypatch.setattr(f"vpngen.store.{module}.PART", 5 * 2**20)
    spec, parts = vpngen.perlin(categories=2, instances=6, shape=(16, 240, 240)), list[str]()

    def rule(method: str, path: str, count: int) -> objects.Answer:
        if "partNumber=2" in path:
            parts.append(path.partition("uploadId=")[2])
        return 500 if "partNumber=2" in path and len(parts) <= 2 else None

    with objects.Proxy(port, rule) as proxy:
        place = at(proxy.port, max_retries="1")
        write(spec, place, shard_videos=12, backend="numba")
    assert len(set(parts)) == 2, "two uploads"
    write(spec, tmp_path / "set.zarr", shard_videos=12, backend="numba")
    assert held(at(port, place.url)) == tree(tmp_path / "set.zarr")


def test_a_server_that_fills_up_keeps_what_was_finished(
    port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vpngen.executors.threads.random.randrange", lambda n: 0)  # from the first shard on
    full = [True]

    def rule(method: str, path: str, count: int) -> objects.Answer:
        return 507 if full[0] and method == "PUT" and "/video/c.1" in path else None

    with objects.Proxy(port, rule) as proxy:
        place = at(proxy.port, max_retries="0")
        with pytest.raises(RunError, match=r"c\.1\.0\.0\.0.*507.*What was finished stays; give the same command again"):
            write(SPEC, place)
        assert place.sizes(CLAIMS) == {}
        full[0] = False
        done = write(SPEC, place)
        assert done.kept > 0 and done.rendered > 0
    write(SPEC, tmp_path / "set.zarr")
    assert held(at(port, place.url)) == tree(tmp_path / "set.zarr")


def test_an_answer_that_is_lost_is_no_conflict(port: int, tmp_path: Path) -> None:
    """A create-only PUT that went through is refused when it is sent again: it is known as one's own."""
    lost = set[str]()

    class Loses(objects._Handler):
        def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            if self.command == "PUT" and self.path not in lost and (".done" in self.path or CLAIMS in self.path):
                lost.add(self.path)
                status, body = 500, b""
            super()._answer(status, headers, body)

    with objects.Proxy(port, lambda *_: None) as proxy:
        proxy.RequestHandlerClass = Loses
        place = at(proxy.port)
        done = write(SPEC, place)
        assert (done.rendered, len(lost)) == (8, 6)
    write(SPEC, tmp_path / "set.zarr")
    assert held(at(port, place.url)) == tree(tmp_path / "set.zarr")


def test_an_outage_is_waited_for(port: int, tmp_path: Path) -> None:
    """Longer than a request is sent again for."""
    down = list[float]()

    def rule(method: str, path: str, count: int) -> objects.Answer:
        if not down and "/video/c.1" in path and method == "PUT":
            down.append(time.monotonic() + 1.5)
        return "cut" if down and time.monotonic() < down[0] else None

    with objects.Proxy(port, rule) as proxy:
        place = at(proxy.port, max_retries="1")
        assert write(SPEC, place).rendered == 8 and down
    write(SPEC, tmp_path / "set.zarr")
    assert held(at(port, place.url)) == tree(tmp_path / "set.zarr")


def test_a_server_that_wants_to_be_asked_again_is(port: int, tmp_path: Path) -> None:
    """409 is no object that is there already."""
    asked = set[str]()

    def rule(method: str, path: str, count: int) -> objects.Answer:
        if method != "PUT" or path in asked or "/video/c." not in path:
            return None
        asked.add(path)
        return 409

    with objects.Proxy(port, rule) as proxy:
        place = at(proxy.port)
        assert write(SPEC, place).rendered == 8 and len(asked) == 6
    write(SPEC, tmp_path / "set.zarr")
    assert held(at(port, place.url)) == tree(tmp_path / "set.zarr")


def test_a_server_that_is_silent_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    """Nor does it keep signals from being heard."""
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(UnreachableError, match="it does not answer"):
        health.examine_objects(at(silent.getsockname()[1], read_timeout="100ms", max_retries="1"))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        env = objects.environment(silent.getsockname()[1])
        command = [sys.executable, "-m", "vpngen", "info", a_url()]
        info = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)
        silent.settimeout(60)
        with silent.accept()[0]:
            info.send_signal(signal.SIGINT)
            _, said = info.communicate(timeout=60)
    assert info.returncode == 130 and said == "Stopped.\n"


def test_a_server_has_longer_for_what_is_large(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "SILENCE", "150ms")
    with objects.Proxy(port, lambda *_: None, delay=0.4) as proxy:
        place = at(proxy.port, max_retries="0")
        for each in (place, pickle.loads(pickle.dumps(place))):
            for small in (lambda: each.read("zarr.json"), lambda: each.put("small", b"1"), lambda: each.sizes("")):  # noqa: B023
                with pytest.raises(UnreachableError, match="it does not answer"):
                    small()
            each.put("large", bytes(places.SMALL + 1))


def test_a_claim_whose_answer_was_late_is_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A create-only PUT whose answer did not come is not sent again by the client; the claim is known when it is asked for again."""
    place = place_of(MemoryStore())
    assert isinstance(place, Objects)
    target, shard, real, late = ObjectTarget(place), plan_of(SPEC).shards[0], Objects.put, [True]
    monkeypatch.setattr(targets, "PAUSES", (0.01,))

    def put(self: Objects, *args: Any, **options: Any) -> Any:
        made = real(self, *args, **options)
        if late.pop() if late else False:
            raise UnreachableError("no answer in time")
        return made

    monkeypatch.setattr(Objects, "put", put)
    target.claim(shard)
    with pytest.raises(ConflictError):
        target.claim(shard)  # it is held, by this process
    target.release(shard)
    assert not late and place.sizes(CLAIMS) == {}


def test_the_404_of_a_gateway_is_no_missing_object(port: int) -> None:
    class Gateway(objects._Handler):
        def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            super()._answer(404, {}, b"404 page not found")

    place = at(port)
    write(SPEC, place)
    with objects.Proxy(port, lambda *_: 404) as proxy:
        proxy.RequestHandlerClass = Gateway
        for use in (vpngen.open, is_complete, vpngen.verify, lambda where: write(SPEC, where)):
            with pytest.raises(RunError, match="answer of a gateway"):
                use(at(proxy.port, place.url))


# --- claims


def claims_of(place: Objects) -> targets.Claims:
    return ObjectTarget(place)._claims


def test_a_claim_that_is_not_renewed_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a writer on another machine that is all that can be seen; clocks are not compared."""
    monkeypatch.setattr(targets, "LEASE", 0.2)
    place = place_of(MemoryStore())
    assert isinstance(place, Objects)
    theirs = {"owner": "x", "machine": "elsewhere", "pid": 1, "started": "1", "lease": 0.2, "renewed": 0}

    def renew(times: int) -> None:
        place.put(f"{CLAIMS}/train.0", json.dumps(theirs | {"renewed": times}).encode())

    claims = claims_of(place)
    renew(0)
    for times in range(1, 6):  # for longer than the lease
        assert not claims.take("train.0")
        time.sleep(0.08)
        renew(times)
    assert not claims.take("train.0")
    time.sleep(0.25)
    assert claims.take("train.0")
    before = place.read(f"{CLAIMS}/train.0")
    assert not claims_of(place).take("train.0"), "its writer is this process, which lives"
    time.sleep(0.2)
    assert place.read(f"{CLAIMS}/train.0") != before, "it is renewed"
    claims.drop("train.0")
    assert place.sizes(CLAIMS) == {} and claims.take("train.0")
    claims.drop("train.0")


def test_a_claim_of_a_killed_process_of_this_machine_is_nobodys() -> None:
    place = place_of(MemoryStore())
    assert isinstance(place, Objects)
    child = subprocess.Popen(["sleep", "60"])
    about = targets._process() | {"pid": child.pid, "started": targets._started(child.pid), "lease": 60}
    for data, dead in ((json.dumps(about).encode(), False), (b"{", True), (b"[]", True), (b'{"lease": "x"}', True)):
        place.put(f"{CLAIMS}/train.0", data)
        assert claims_of(place).is_live("train.0") is not dead
    place.put(f"{CLAIMS}/train.0", json.dumps(about).encode())
    child.kill()
    child.wait()
    claims = claims_of(place)
    assert claims.take("train.0")
    claims.drop("train.0")


def test_a_claim_that_was_left_by_this_process_runs_out_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shard and the removal of its claim both failed; nothing renews it, and the next call goes on."""
    monkeypatch.setattr(targets, "LEASE", 0.3)
    place = place_of(MemoryStore())
    assert isinstance(place, Objects)
    write(SPEC, place)
    whole = held(place)
    first = plan_of(SPEC).shards[0]
    place.delete(first.record)
    left = targets._process() | {"lease": float("inf"), "renewed": 0}
    place.put(f"{CLAIMS}/train.0", json.dumps(left).encode())
    told = list[int]()
    done = vpngen.write(SPEC, place, shard_videos=4, progress=lambda p: told.append(p.waiting))
    assert done.rendered == first.count and held(place) == whole and told[0] == 1 and told[-1] == 0
    child = subprocess.Popen(["true"])
    while Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.01)
    assert targets._started(child.pid) is None, "it has ended, though nobody has waited for it yet"
    child.wait()


# --- several runs that want different things


def test_a_run_that_was_overtaken_leaves_the_set_of_others() -> None:
    """It had claimed and put a shard, and was stopped; meanwhile another run has replaced the set."""
    place, plan, new = place_of(MemoryStore()), plan_of(SPEC), tiny(seed=5)
    assert isinstance(place, Objects)
    late, shard = ObjectTarget(place), plan.shards[0]
    late.prepare(plan)
    late.claim(shard)
    data = render_shard(plan, shard, Reference())
    late.put(shard, data)
    place.delete(f"{CLAIMS}/train.0")  # as if it had run out
    write(new, place, overwrite=True)
    place.put(shard.key, stores.taken(render_shard(plan, shard, Reference())))  # what was on its way arrives
    with pytest.raises(ConflictError, match="another set"):
        late.publish(shard, shard_record(plan, shard, {"video": data}))
    with pytest.raises(ConflictError, match="another set"):
        late.put(shard, data)
    assert not is_complete(place)
    write(new, place)
    write(new, again := MemoryStore())
    assert held(place) == held(place_of(again))  # type: ignore[arg-type]


def test_a_set_that_two_runs_grow_at_once_does_not_shrink(monkeypatch: pytest.MonkeyPatch) -> None:
    place, wanted = place_of(MemoryStore()), place_of(MemoryStore())
    assert isinstance(place, Objects) and isinstance(wanted, Objects)
    five, nine = tiny(instances=5), tiny(instances=9)
    write(SPEC, place)
    write(nine, wanted)
    real, once = ObjectTarget.check, list[int]()

    def check(self: ObjectTarget, plan: Any, overwrite: bool = False) -> None:
        real(self, plan, overwrite)
        if plan.spec == five:
            once.append(1)
            if len(once) == 2:  # it has looked, and is about to say what the store holds from now on
                write(nine, place)

    monkeypatch.setattr(ObjectTarget, "check", check)
    with pytest.raises(ConflictError, match="does not shrink"):
        write(five, place)
    assert held(place) == held(wanted)


def test_claims_alone_are_no_store_and_in_no_way() -> None:
    place = place_of(MemoryStore())
    assert isinstance(place, Objects)
    place.put(f"{CLAIMS}/train.0", b"{")
    with pytest.raises(ArgumentError, match="is not there"):
        vpngen.open(place)
    write(SPEC, place)
    assert vpngen.verify(place).whole
    place.delete("nothing", "train/label/c.0", "nothing either", "val/label/c.0")
    assert not {"train/label/c.0", "val/label/c.0"} & held(place).keys()


RUN = [
    "-m",
    "vpngen",
    "render",
    "--categories",
    "4",
    "--instances",
    "40",
    "--val-instances",
    "0",
    "--shape",
    "16x32x32",
]
LIKE = vpngen.perlin(categories=4, instances=40, val_instances=0, shape=(16, 32, 32))


def running(port: int, url: str, *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, *RUN, url, "--shard-videos", "2", "--threads", "1", "--format", "json", *more]
    return subprocess.Popen(command, env=objects.environment(port), stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_runs_that_are_killed_are_gone_on_with(port: int, tmp_path: Path) -> None:
    url, draw = a_url(), random.Random(0)
    place, plan = at(port, url), plan_of(LIKE)
    kills = 0
    with objects.Proxy(port, lambda *_: None, delay=0.01) as proxy:
        for _ in range(3):
            run = running(proxy.port, url)
            before = len(place.sizes("train/video"))
            end = time.monotonic() + 60
            while (
                run.poll() is None
                and len(place.sizes("train/video")) < before + draw.randint(5, 20)
                and time.monotonic() < end
            ):
                time.sleep(0.01)
            kills += run.poll() is None
            run.send_signal(signal.SIGKILL)
            run.communicate()
        last = running(proxy.port, url)
        out, err = last.communicate(timeout=120)
    assert last.returncode == 0 and json.loads(out)["finished"], err
    assert kills >= 2 and json.loads(out)["kept"] > 0
    vpngen.write(LIKE, tmp_path / "set.zarr", shard_videos=2, threads=1)
    assert plan.videos == 160 and held(place) == tree(tmp_path / "set.zarr")


def test_runs_share_the_work_without_slices(port: int, tmp_path: Path) -> None:
    """The first is stopped while it holds shards, and goes on when the other is at work: none is rendered twice."""
    place = at(port)
    first = running(port, place.url)
    while not place.sizes(CLAIMS):
        time.sleep(0.01)
    first.send_signal(signal.SIGSTOP)
    done = len(place.sizes("train/video"))
    second = running(port, place.url)
    while len(place.sizes("train/video")) <= done + 4:
        time.sleep(0.01)
    first.send_signal(signal.SIGCONT)
    found = []
    for run in (first, second):
        out, err = run.communicate(timeout=120)
        assert run.returncode == 0, err
        found.append(json.loads(out))
    assert all(f["finished"] and f["rendered"] > 0 for f in found)
    assert sum(f["rendered"] for f in found) == 160
    vpngen.write(LIKE, tmp_path / "set.zarr", shard_videos=2, threads=1)
    assert held(place) == tree(tmp_path / "set.zarr")


# --- bad input


def test_what_is_wrong_is_said_in_one_line(port: int, tmp_path: Path) -> None:
    place = at(port)
    write(SPEC, place)
    options = objects.options(port, max_retries="0")
    newer = at(port)
    for name, data in held(place).items():
        newer.put(name, data)
    root = json.loads(place.read("zarr.json"))
    root["attributes"]["vpngen"]["spec"]["format_version"] = 99
    newer.put("zarr.json", json.dumps(root).encode())
    other = at(port)
    other.put("photo.jpg", b"mine")

    def answers(status: int, code: str) -> tuple[dict[str, str], Any]:
        proxy = objects.Proxy(port, lambda *_: status)
        return options | {"endpoint": f"http://127.0.0.1:{proxy.port}"}, proxy

    denied, proxy = answers(403, "AccessDenied")
    cases: list[tuple[str, dict[str, str], type[Exception], str]] = [
        ("s3://nothing-there/set.zarr", options, ArgumentError, "no bucket that is there"),
        ("s4://sets/set.zarr", options, ArgumentError, "no kind that is known"),
        ("s3://sets/nothing.zarr", options, ArgumentError, "is not there"),
        (place.url, options | {"regoin": "x"}, ArgumentError, "`storage_options`.*'regoin' is not valid"),
        (str(tmp_path), options, ArgumentError, "are of URLs"),
        (place.url, {k: v for k, v in options.items() if k != "allow_http"}, ArgumentError, "allow_http"),
        (place.url, options | {"endpoint": f"https://127.0.0.1:{port}"}, RunError, "http, not https"),
        (
            place.url,
            options | {"endpoint": f"http://127.0.0.1:{objects.free_port()}"},
            UnreachableError,
            "nothing listens at its endpoint",
        ),
        (
            place.url,
            {k: v for k, v in options.items() if "access" not in k}
            | {"metadata_endpoint": f"http://127.0.0.1:{objects.free_port()}"},
            MissingError,
            "no credentials for .*AWS_ACCESS_KEY_ID",
        ),
        (f"{place.url}#2", options, ArgumentError, r"must not contain \? or #"),
        (f"{place.url}?x", options, ArgumentError, r"must not contain \? or #"),
        ("file://set.zarr", {}, ArgumentError, "three slashes"),
        (place.url, options | {"endpoint": "127.0.0.1:9000"}, ArgumentError, "begins with https://"),
        (place.url, options | {"retry_timeout": "abc"}, ArgumentError, "`storage_options` cannot be used"),
        ("s3://AKIA:hunter2@sets/x", options, ArgumentError, "no user and password before its bucket"),
        (place.url, denied, MissingError, "no permission for .*403"),
        (newer.url, options, ConflictError, "spec of .* cannot be used: .*99"),
        (other.url, options, ConflictError, "holds other objects.*NAME.zarr"),
    ]
    with proxy:
        for url, how, kind, said in cases:
            with pytest.raises(kind, match=said) as raised:
                vpngen.open(place_of(url, how))
            assert "\n" not in str(raised.value) and not {objects.SECRET, "hunter2"} & set(
                re.findall(r"[\w-]+", str(raised.value))
            ), raised.value
    with pytest.raises(ConflictError, match="left untouched"):
        write(SPEC, other)
    assert held(other) == {"photo.jpg": b"mine"}


def test_a_clock_that_is_wrong_is_said(port: int) -> None:
    class Skewed(objects._Handler):
        def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            said = b"<Error><Code>RequestTimeTooSkewed</Code><Message>The difference is too large.</Message></Error>"
            super()._answer(403, {}, said)

    with objects.Proxy(port, lambda *_: 403) as proxy:
        proxy.RequestHandlerClass = Skewed
        with pytest.raises(MissingError, match=r"clock of this machine is wrong.*NTP"):
            vpngen.open(at(proxy.port))


def test_credentials_that_may_only_read(port: int) -> None:
    place = at(port)
    write(SPEC, place)
    with objects.Proxy(port, lambda method, *_: 403 if method in ("PUT", "POST", "DELETE") else None) as proxy:
        may_read = at(proxy.port, place.url)
        assert write(SPEC, may_read).rendered == 0
        assert vpngen.verify(may_read).whole
        before = held(place)
        for spec, more in ((SPEC, {"overwrite": True}), (tiny(instances=5), {})):
            with pytest.raises(MissingError, match=r"no permission for .*403.*vpngen doctor URL"):
                write(spec, may_read, **more)
        assert held(place) == before
        failed = {f.name: f.value for f in health.examine_objects(may_read) if not f.good}
        assert {name for name, said in failed.items() if "403" in said} == {"create-only PUT", "PUT in parts", "delete"}
        assert {name for name, said in failed.items() if "not tried" in said} == {"suffix range", "ranges"}
        assert len(failed) == 5


def test_a_doctor_sees_what_a_server_cannot(port: int) -> None:
    place = at(port)
    assert all(f.good for f in health.examine_objects(place)) and held(place) == {}

    class NoSuffix(objects._Handler):
        def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            if self.headers.get("Range", "").startswith("bytes=-") and status == 206:
                headers, body = {n: v for n, v in headers.items() if n.lower() != "content-range"}, body
                status = 200
            super()._answer(status, headers, body)

    class NoCreate(objects._Handler):
        def _pass(self) -> None:
            del self.headers["If-None-Match"]
            super()._pass()

        do_PUT = _pass

    for handler, name in ((NoSuffix, "suffix range"), (NoCreate, "create-only PUT")):
        with objects.Proxy(port, lambda *_: None) as proxy:
            proxy.RequestHandlerClass = handler
            failed = [f for f in health.examine_objects(at(proxy.port)) if not f.good]
            assert [f.name for f in failed] == [name] and failed[0].remedy


def test_the_command_line_takes_urls(run: Run, port: int, tmp_path: Path) -> None:
    def vpn(*args: str) -> tuple[int | str | None, str]:
        done = run(*args, *(f"--storage-option={name}={value}" for name, value in objects.options(port).items()))
        assert objects.SECRET not in done.out + done.err
        return done.code, done.out + done.err

    url = a_url()
    code, said = vpn("render", url, *RUN[3:], "--dry-run")
    assert code == 0 and "free" not in said
    assert vpn("render", url, *RUN[3:], "--shard-videos", "64")[0] == 0
    export = ["export", url, "out", "--to", "npz", "--indices", "0,1"]
    for command in (["info", url], ["verify", url], ["preview", url], export):
        code, said = vpn(*command)
        assert code == 0, said
    assert len(list((tmp_path / "out").rglob("*.npz"))) == 2
    assert vpn("info", "s3://sets/none.zarr")[0] == 2
    for command in (["info"], ["doctor"], ["preview"], ["train", "out"], ["export", "vpn-256x512", "out2"]):
        code, said = vpn(*command)
        assert code == 2 and "of the URL of a store, and none is given" in said, said
    assert vpn("doctor", url)[0] == 0 and vpn("doctor", "folder")[0] == 2
    code, said = vpn("export", "vpn-256x512", "s3://sets/out")
    assert code == 2 and "is a URL: here a local folder is needed" in said
    assert vpn("info", url, "--storage-option", f"={objects.SECRET}")[0] == 2
