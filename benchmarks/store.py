"""How fast do videos reach the disk? Who should write the shards, what `vpngen.write` reaches, and what binds it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from numcodecs import zstd

import vpngen
from benchmarks import common
from benchmarks.common import Cost, cpu_seconds, spread, table
from vpngen.store import LocalTarget, Plan, store_plan
from vpngen.store.layout import CHUNK_FRAMES, SHARD_VIDEOS, ZSTD_LEVEL, Layout
from vpngen.store.packing import ShardData, encode_video, shard_record

TITLE = "Writing Zarr"
PLAIN, PLAIN_2 = "plain loop", "plain loops in two threads"
OURS, ZARR, TENSORSTORE = "vpngen's shard writer", "zarr-python", "tensorstore"
COMPLETE = "vpngen.write, rendering included"
Videos = npt.NDArray[np.uint8]

# --- who writes: `shards` files of the same 32 videos from memory, each on the disk when the function returns


def plain(root: Path, videos: Videos, shards: int, first: int = 0, step: int = 1) -> None:
    """The least that any writer does. Chunk by chunk: larger writes measured slower on some systems, none faster."""
    chunk = CHUNK_FRAMES * videos[0, 0].nbytes
    data = memoryview(videos).cast("B")
    for number in range(first, shards, step):
        with open(root / f"plain{number}", "wb", buffering=0) as file:
            for start in range(0, len(data), chunk):
                file.write(data[start : start + chunk])
            os.fsync(file.fileno())


def plan_of(shards: int) -> Plan:
    return store_plan(vpngen.perlin(categories=SHARD_VIDEOS, instances=shards), Layout("none"))


def plain_twice(root: Path, videos: Videos, shards: int) -> None:
    threads = [threading.Thread(target=plain, args=(root, videos, shards, first, 2)) for first in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def ours(root: Path, videos: Videos, shards: int) -> None:
    plan, target = plan_of(shards), LocalTarget(root / "set.zarr")
    for shard in plan.shards:
        data = ShardData(plan, lambda: (encode_video(video, "none", CHUNK_FRAMES) for video in videos))
        target.claim(shard)
        target.put(shard, data)
        target.publish(shard, shard_record(plan, shard, {"video": data}))


def zarr_python(root: Path, videos: Videos, shards: int) -> None:
    path = root / "set.zarr" / "train" / "video"
    array = zarr.open_array(path, mode="r+")
    for number in range(shards):
        array[number * len(videos) : (number + 1) * len(videos)] = videos
        with open(path / f"c.{number}.0.0.0", "rb") as file:
            os.fsync(file.fileno())  # it leaves that out; the others do it


def tensor_store(root: Path, videos: Videos, shards: int) -> None:
    import tensorstore

    path = root.absolute() / "set.zarr" / "train" / "video"
    array = tensorstore.open({"driver": "zarr3", "kvstore": f"file://{path}/"}, open=True, write=True).result()
    for number in range(shards):
        array[number * len(videos) : (number + 1) * len(videos)].write(videos).result()


# --- the questions


def run(quick: bool, folder: Path) -> dict[str, Any]:
    spec = vpngen.perlin(categories=64 if quick else 256, instances=1)
    shards = spec.n_videos() // SHARD_VIDEOS
    videos = vpngen.render(spec, range(0, spec.n_videos(), shards))  # one shard, from all over the set
    root = folder / "store"

    def prepare(shards: int, skeleton: bool = False) -> None:
        """An empty folder; as much was just written and removed, so that all meet memory and disk in the same state."""
        for fill in (True, False):
            shutil.rmtree(root, ignore_errors=True)
            root.mkdir()
            if fill:
                plain(root, videos, shards)
        if skeleton:
            LocalTarget(root / "set.zarr").prepare(plan_of(shards))
        os.sync()

    few = 1 if quick else 3
    writers = {PLAIN: plain, PLAIN_2: plain_twice, OURS: ours, ZARR: zarr_python}
    if importlib.util.find_spec("tensorstore"):
        writers[TENSORSTORE] = tensor_store
    calls = {name: partial(write, root, videos, few) for name, write in writers.items()}
    patience = 0 if quick else 30
    costs = common.alternate(calls, 1 if quick else 4, partial(prepare, few, skeleton=True), patience)
    from_memory = {name: _rates(each, few * videos.nbytes) for name, each in costs.items()}

    calls = {name: partial(write, root, videos, shards) for name, write in ((PLAIN, plain), (PLAIN_2, plain_twice))}
    calls[COMPLETE] = partial(vpngen.write, spec, root / "set.zarr")
    costs = common.alternate(calls, 2 if quick else 7, partial(prepare, shards), patience)
    ratios = {
        name: spread(other.wall / own.wall for other, own in zip(costs[name], costs[COMPLETE], strict=True))
        for name in (PLAIN, PLAIN_2)
    }
    compressed = _compressed(spec, root / "set.zarr", partial(prepare, shards), 1 if quick else 3)
    shutil.rmtree(root)
    return {
        "cores": common.cores(),
        "from_memory_gb": few * videos.nbytes / 1e9,
        "from_memory": from_memory,
        "complete_gb": spec.nbytes / 1e9,
        "complete": {name: _rates(each, spec.nbytes) for name, each in costs.items()},
        "ratios": ratios,
        "zstd": compressed,
    }


def _rates(costs: list[Cost], nbytes: int) -> dict[str, Any]:
    """GB/s on the wall, and where the CPU seconds of a gigabyte went."""
    gigabytes = nbytes / 1e9
    seconds = {
        "user": [c.user for c in costs],
        "system": [c.system for c in costs],
        "others": [c.others for c in costs],
    }
    seconds["idle"] = [max(0.0, c.left - c.cpu) for c in costs]
    return {
        "gb_s": spread(gigabytes / each.wall for each in costs),
        "seconds_a_gb": {kind: float(np.median(values)) / gigabytes for kind, values in seconds.items()},
    }


def _compressed(spec: vpngen.Spec, path: Path, prepare: Callable[[], None], rounds: int) -> dict[str, Any]:
    """`vpngen.write` at zstd level 1, and the CPU seconds that nothing but the compressor takes for the same chunks."""
    costs = common.alternate({"zstd": partial(vpngen.write, spec, path, codec="zstd")}, rounds, prepare)["zstd"]
    stored = sum(file.stat().st_size for file in path.glob("*/video/c.*"))
    video = np.empty(spec.shape, np.uint8)

    def compress() -> None:
        for t in range(0, len(video), CHUNK_FRAMES):
            zstd.compress(video[t : t + CHUNK_FRAMES], ZSTD_LEVEL)

    pure = 0.0
    for index in range(spec.n_videos()):
        vpngen.render(spec, index, threads=1, out=video)
        pure += cpu_seconds(compress)
    return {
        **_rates(costs, spec.nbytes),
        "bytes_a_pixel": stored / spec.nbytes,
        "cpu_use": spread(min(1.0, each.cpu / each.left) for each in costs),
        "compressor_gb_s": spec.nbytes / 1e9 / pure,
        "compressor_share": spread(pure / each.cpu for each in costs),
    }


# --- what comes out


def summary(r: dict[str, Any]) -> list[tuple[str, str, str]]:
    one, two, z = r["ratios"][PLAIN], r["ratios"][PLAIN_2], r["zstd"]
    return [
        ("`vpngen.write`, codec none, over a plain loop that writes and fsyncs", "70 %", _percent(one)),
        ("... over two such loops at the same time", "", _percent(two)),
        ("`vpngen.write`, zstd level 1: CPUs in use, of what others left", "all", _percent(z["cpu_use"])),
        ("... of which the compressor alone", "most", _percent(z["compressor_share"])),
    ]


def _percent(values: dict[str, float]) -> str:
    return f"{values['median']:.0%} ({values['least']:.0%} to {values['most']:.0%})"


def _row(name: str, rates: dict[str, Any]) -> tuple[str, ...]:
    rate, each = rates["gb_s"], rates["seconds_a_gb"]
    seconds = (f"{each[kind]:.2f}" for kind in ("user", "system", "others", "idle"))
    return (name, f"{rate['median']:.2f}", f"{rate['least']:.2f} to {rate['most']:.2f}", *seconds)


def report(r: dict[str, Any]) -> str:
    header = ("GB/s", "range", "user s/GB", "system s/GB", "others s/GB", "idle s/GB")
    z = r["zstd"]
    return "\n".join([
        f"{r['from_memory_gb']:.2f} GB of rendered videos from memory, 32 to a shard file, each file synced:\n",
        table(("who writes", *header), (_row(name, rates) for name, rates in r["from_memory"].items())),
        f"\nThe complete run, {r['complete_gb']:.2f} GB, on {r['cores']} cores:\n",
        table(("codec none", *header), (_row(name, rates) for name, rates in r["complete"].items())),
        "\nProcessor seconds: in user and in system mode, taken by others (the system's own writing back included), and "
        f"idle, {r['cores']} cores together. The contestants take turns; run by run, `vpngen.write` reached "
        f"{_percent(r['ratios'][PLAIN])} of the plain loop and {_percent(r['ratios'][PLAIN_2])} of two of them.\n",
        f"At zstd level 1 the same set went to disk at {z['gb_s']['median']:.2f} GB of pixels a second "
        f"({z['bytes_a_pixel']:.2f} bytes a pixel), with {_percent(z['cpu_use'])} of what others left of the cores in use; compressing the "
        f"same chunks and nothing else runs at {z['compressor_gb_s']:.2f} GB/s a core, {_percent(z['compressor_share'])} "
        "of the CPU seconds of the complete run.",
    ])  # fmt: skip


def plot(r: dict[str, Any], path: Path) -> None:
    figure, axes = common.canvas(2, 10, 3)
    for ax, key, title in zip(axes, ("from_memory", "complete"), ("pixels in memory", "the complete run"), strict=True):
        rates = {name.replace(", ", ",\n"): each["gb_s"] for name, each in reversed(r[key].items())}
        middle = np.array([rate["median"] for rate in rates.values()])
        ends = np.array([[rate["least"], rate["most"]] for rate in rates.values()]).T
        own = [name.startswith("vpngen") for name in rates]
        ax.barh(list(rates), middle, color=["#2a6f97" if mine else "#9aa5b1" for mine in own])
        ax.errorbar(middle, range(len(rates)), xerr=abs(ends - middle), fmt="none", ecolor="#333", capsize=3, lw=1)
        ax.set_xlabel("GB/s, codec none: median and range")
        ax.set_title(title)
    figure.savefig(path)
