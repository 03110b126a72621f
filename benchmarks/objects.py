"""Sets in object stores and on clusters: what a bucket costs beside a disk, a cluster beside threads, and what grows with a set.

The servers are packages of others on loopback, `localbucket` in Python: they, not a network, bound what is written and read a second.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr

import vpngen
from benchmarks import common, servers
from benchmarks.common import spread, table
from vpngen import store
from vpngen.store.layout import VIDEO, Layout, record, skeleton, store_plan
from vpngen.store.places import Objects, place_of
from vpngen.store.targets.objects import ObjectTarget

TITLE = "Object stores and clusters"
NEEDS = ("obstore", "localbucket", "distributed")
CLIP, BATCH = (16, 112, 112), 128
DELAYS = (0, 20)
"""Milliseconds that each request is late."""
SHARDS = 4096
"""Of the store that is gone on with."""
SCALES = 2**14, 2**17, 2**20
OURS, DISK = "ClipReader, S3", "ClipReader, local disk"
ZARR, ZARR_MANY = "zarr-python over obstore, one after the other", "zarr-python over obstore, 64 threads"


def at(port: int, name: str) -> Objects:
    """A place in the bucket."""
    given = {"endpoint": f"http://127.0.0.1:{port}", "allow_http": "true", "region": "us-east-1"}
    found = place_of(f"s3://{servers.BUCKET}/{name}", {**given, "access_key_id": "x", "secret_access_key": "x"})
    assert isinstance(found, Objects)
    return found


def run(quick: bool, folder: Path) -> dict[str, Any]:
    folder = folder.absolute()
    with servers.server("localbucket", folder / "bucket") as port:
        found = {
            "cores": common.cores(),
            "writing": _writing(quick, port, folder / "writing"),
            "resume": _resume(quick, port, folder),
        }
    return {
        **found,
        "dask": _dask(quick, folder / "dask"),
        "scale": [_scaled(n) for n in ((64, 512) if quick else SCALES)],
    }


# --- reading: for `benchmarks.delivery`


def reading(quick: bool, folder: Path) -> dict[str, Any]:
    """Random clips a second of a zstd store on the disk, and in a bucket, with requests that are late or not."""
    spec = vpngen.perlin(categories=4 if quick else 36, instances=1)
    batch, rounds = (16, 1) if quick else (BATCH, 5)
    local, found = folder / "set.zarr", dict[str, Any]()
    vpngen.write(spec, local, codec="zstd", shard_videos=9)
    with servers.server("localbucket", folder / "bucket") as port:
        place = at(port, "set.zarr")
        _copied(local, place)
        for delay in DELAYS:
            with servers.slow(port, delay) as late:
                there = at(port if not delay else late, "set.zarr")
                ways = _ways(spec, local, there, batch)
                truth = ways[DISK]().copy()
                for name, way in ways.items():
                    if not np.array_equal(way(), truth):
                        raise SystemExit(f"WRONG: {name} gives other clips")
                costs = common.alternate(ways, rounds)
            found[str(delay)] = {
                name: {"wall": spread(batch / c.wall for c in each), "cpu": spread(batch / c.cpu for c in each)}
                for name, each in costs.items()
            }
    return {"batch": batch, "videos": spec.n_videos(), "clips": found}


def _ways(spec: vpngen.Spec, local: Path, place: Objects, batch: int) -> dict[str, Callable[[], Any]]:
    draw = np.random.default_rng(0)
    videos = draw.integers(spec.n_videos(), size=batch)
    most = np.array(spec.shape) - CLIP + 1
    starts = draw.integers(most, size=(batch, 3))
    windows = np.array([[t, 1, y, x, 0] for t, y, x in starts.tolist()], np.int32)
    out = np.empty((batch, *CLIP), np.uint8)
    readers = {OURS: store.ClipReader(place, "train"), DISK: store.ClipReader(local, "train")}
    array: Any = zarr.open_group(zarr.storage.ObjectStore(place.store, read_only=True), mode="r")["train/video"]

    def ours(reader: store.ClipReader) -> Any:
        reader.read(videos, windows, out, 1)
        return out

    def cut(i: int) -> None:
        (t, y, x), (frames, height, width) = starts[i], CLIP
        out[i] = array[int(videos[i]), t : t + frames, y : y + height, x : x + width]

    def theirs(threads: int) -> Any:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(cut, range(batch)))
        return out

    return {name: partial(ours, reader) for name, reader in readers.items()} | {
        ZARR: partial(theirs, 1),
        ZARR_MANY: partial(theirs, 64),
    }


def reading_report(r: dict[str, Any]) -> str:
    """The table of `reading`."""
    rows = [
        (name, *(f"{r['clips'][delay][name][by]['median']:,.0f}" for delay in r["clips"] for by in ("wall", "cpu")))
        for name in r["clips"]["0"]
    ]
    head = [f"{delay} ms late: {by}" for delay in r["clips"] for by in ("clips/s", "a CPU second")]
    return table((f"batches of {r['batch']} clips, {r['videos']} videos, zstd", *head), rows)


def _copied(folder: Path, place: Objects) -> None:
    """The files of a folder as objects."""
    names = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda name: place.put(name, (folder / name).read_bytes()), names))


# --- writing, resuming, clusters


def _writing(quick: bool, port: int, folder: Path) -> dict[str, Any]:
    """CPU and wall seconds of rendering to S3 on loopback over those to the disk."""
    spec = vpngen.perlin(categories=4, instances=4 if quick else 32)
    counter, found = iter(range(10**6)), {}
    for codec in ("none", "zstd"):
        costs = common.alternate(
            {
                "disk": lambda codec=codec: vpngen.write(
                    spec, folder / f"{next(counter)}.zarr", codec=codec, threads=1
                ),  # type: ignore[misc]
                "S3": lambda codec=codec: vpngen.write(spec, at(port, f"{next(counter)}.zarr"), codec=codec, threads=1),  # type: ignore[misc]
            },
            1 if quick else 3,
        )
        pairs = list(zip(costs["S3"], costs["disk"], strict=True))
        found[codec] = {
            "seconds": {name: spread(c.wall for c in each) for name, each in costs.items()},
            "wall": spread(a.wall / b.wall for a, b in pairs),
            "cpu": spread(a.cpu / b.cpu for a, b in pairs),
        }
    return {"videos": spec.n_videos(), "codecs": found}


def _resume(quick: bool, port: int, folder: Path) -> dict[str, Any]:
    """Seconds that the same command takes for a store that is finished, with requests that are 20 ms late."""
    shards = 64 if quick else SHARDS
    spec = vpngen.perlin(categories=4, instances=shards // 4)
    vpngen.write(spec, folder / "many.zarr", codec="formula", shard_videos=1, threads=1)
    _copied(folder / "many.zarr", at(port, "many.zarr"))
    with servers.slow(port, 20) as late:
        place, seconds = at(late, "many.zarr"), []
        for _ in range(1 if quick else 3):
            start = time.perf_counter()
            done = vpngen.write(spec, place, codec="formula", shard_videos=1, threads=1)
            seconds.append(time.perf_counter() - start)
            if done.rendered:
                raise SystemExit("WRONG: a finished store was rendered")
    return {"shards": shards, "delay": 20, "seconds": spread(seconds)}


def _dask(quick: bool, folder: Path) -> dict[str, Any]:
    """Seconds with a local cluster over those with threads, a shard of about a minute each. The cluster is there already."""
    import distributed

    each = 2 if quick else 640
    spec, workers = vpngen.leaves(instances=-(-each * common.cores() // 64)), common.cores()
    counter = iter(range(10**6))
    options = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": ":0"}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        ways: dict[str, Any] = {"threads": {"threads": workers}, "dask": {"client": client}}
        for more in ways.values():  # compiled and loaded
            vpngen.write(
                vpngen.leaves(instances=1, shape=(2, 48, 48)),
                folder / f"{next(counter)}.zarr",
                shard_videos=4,
                **more,
            )
        calls = {
            name: partial(_write, spec, folder, counter, shard_videos=each, codec="zstd", **more)
            for name, more in ways.items()
        }
        costs = common.alternate(calls, 1 if quick else 2)
    over = [a.wall / b.wall for a, b in zip(costs["dask"], costs["threads"], strict=True)]
    return {
        "videos": spec.n_videos(), "shard_videos": each, "workers": workers, "wall": spread(over),
        "seconds": {name: spread(c.wall for c in found) for name, found in costs.items()},
    }  # fmt: skip


def _write(spec: vpngen.Spec, folder: Path, counter: Any, **options: Any) -> None:
    vpngen.write(spec, folder / f"{next(counter)}.zarr", **options)


# --- at scale, by simulation


def _scaled(shards: int) -> dict[str, Any]:
    """What a process takes that plans, claims and records so many shards in memory, and goes on with the store."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.objects", str(shards)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def simulated(shards: int) -> dict[str, Any]:
    """Plan, claim and record `shards` shards, and list what is pending, against objects in memory; seconds and megabytes of each."""
    from obstore.store import MemoryStore

    spec = vpngen.perlin(categories=16, instances=shards // 16)
    found: dict[str, Any] = {"shards": shards}
    before = [_megabytes()]

    def step(name: str, call: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        value = call()
        found[name] = {"seconds": time.perf_counter() - start, "megabytes": _megabytes() - before[0]}
        before[0] = _megabytes()
        return value

    target = ObjectTarget(Objects("memory://", MemoryStore()))
    plan = step("plan", lambda: store_plan(spec, Layout("formula", 1)))
    target.place.put("zarr.json", skeleton(spec, plan.layout)[0]["zarr.json"])

    def recorded() -> None:
        for shard in target.pending(plan):
            target.claim(shard)
            target.put(shard, [b"x"])
            target.publish(shard, record(plan, shard, {VIDEO: (1, "0" * 64)}))

    step("claims and records", recorded)
    left = step("resume", lambda: target.pending(plan))
    if len(left):
        raise SystemExit(f"WRONG: {len(left)} of {shards} shards are pending")
    return found


def _megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


# --- the report


def summary(r: dict[str, Any]) -> list[tuple[str, str, str]]:
    resume, dask = r["resume"], r["dask"]
    rows = [
        (
            f"rendering to S3 on loopback over local disk, {codec}: wall, CPU",
            "",
            f"{w['wall']['median']:.2f} x, {w['cpu']['median']:.2f} x",
        )
        for codec, w in r["writing"]["codecs"].items()
    ]
    rows.append((f"seconds to go on with a finished store of {resume['shards']:,} shards, requests 20 ms late", "under 10", f"{resume['seconds']['median']:.1f}"))  # fmt: skip
    rows.append(("a Dask cluster over threads, shards of a minute", "under 1.05", f"{dask['wall']['median']:.3f} x"))
    return rows


def report(r: dict[str, Any]) -> str:
    rows = [
        (codec, *(f"{w['seconds'][name]['median']:.1f}" for name in ("disk", "S3")), *(f"{w[by]['median']:.2f} ({w[by]['least']:.2f} to {w[by]['most']:.2f})" for by in ("wall", "cpu")))
        for codec, w in r["writing"]["codecs"].items()
    ]  # fmt: skip
    dask, resume = r["dask"], r["resume"]
    steps = ("plan", "claims and records", "resume")
    scale = [
        (f"{s['shards']:,}", *(f"{s[n]['seconds']:.2f} s, {s[n]['megabytes']:.0f} MB" for n in steps), *(f"{s[n]['seconds'] / s['shards'] * 1e6:.0f}" for n in steps[1:]))
        for s in r["scale"]
    ]  # fmt: skip
    return "\n".join([
        f"{r['writing']['videos']} videos rendered by one thread and written whole; the server is another process of this machine, and a Python program.\n",
        table(("codec", "disk, s", "S3, s", "S3 over disk, wall", "CPU"), rows),
        f"\nThe same command for a finished store of {resume['shards']:,} shards, each request {resume['delay']} ms late: "
        f"{resume['seconds']['median']:.1f} s ({resume['seconds']['least']:.1f} to {resume['seconds']['most']:.1f}).\n",
        f"{dask['videos']} videos of dead leaves in shards of {dask['shard_videos']}, zstd: {dask['seconds']['threads']['median']:.1f} s with {dask['workers']} threads, "
        f"{dask['seconds']['dask']['median']:.1f} s with as many Dask workers, {dask['wall']['median']:.3f} times "
        f"({dask['wall']['least']:.3f} to {dask['wall']['most']:.3f}).\n",
        "By simulation, against objects in memory, which hold the objects too; the memory is what a step added at its peak:\n",
        table(("shards", *steps, "us a shard to record", "to resume"), scale),
    ])  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(simulated(int(sys.argv[1]))))
