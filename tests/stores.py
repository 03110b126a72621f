"""What the tests of the store share: sets that render in milliseconds, and their files as values."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

import vpngen
from vpngen import Spec
from vpngen.executors import Written
from vpngen.files import Folder
from vpngen.generators import Pixels
from vpngen.store import Layout, LocalTarget, Plan, Shard, store_plan, verifier
from vpngen.store.layout import skeleton as make_skeleton
from vpngen.store.packing import read_index
from vpngen.store.targets import local
from vpngen.store.targets.local import open_partial

SHARD_VIDEOS = 4
SKELETONS: dict[tuple[Spec, Layout], Any] = {}


def skeleton(spec: Spec, layout: Layout) -> Any:
    """As the one of the store, which takes zarr 0.1 s: made once for each set, and tests write few sets many times."""
    if (spec, layout) not in SKELETONS:
        SKELETONS[spec, layout] = make_skeleton(spec, layout)
    return SKELETONS[spec, layout]


local.skeleton = verifier.skeleton = skeleton


def small(**changes: Any) -> Spec:
    """Six categories, 18 videos and 6: 20 frames pad the last chunk of 16, and the last shard of a split is not full."""
    given: dict[str, Any] = {
        "divisions_x": (2, 4),
        "divisions_y": (1, 3, 6),
        "shape": (20, 48, 48),
        "noise_frequencies": (1, 2, 4),
        "noise_terms": 1,
        "instances": 3,
        "val_instances": 1,
    }
    return vpngen.perlin(**{**given, **changes})


def tiny(**changes: Any) -> Spec:
    """The same in miniature, for tests that write it many times: shards of 4 and 2 videos, and one of 2."""
    given: dict[str, Any] = {
        "divisions_x": (2,),
        "divisions_y": (1, 2),
        "shape": (20, 8, 12),
        "noise_frequencies": (1, 2),
        "noise_terms": 1,
        "instances": 3,
        "val_instances": 1,
    }
    return vpngen.perlin(**{**given, **changes})


def write(spec: Spec, path: Path, **options: Any) -> Written:
    """`vpngen.write` with small shards, one thread and the backend that needs no compiler."""
    return vpngen.write(spec, path, **{"shard_videos": SHARD_VIDEOS, "threads": 1, "backend": "reference", **options})


def plan_of(spec: Spec, codec: str = "none") -> Plan:
    return store_plan(spec, Layout(codec, SHARD_VIDEOS))


@functools.cache
def pixels(spec: Spec, split: str = "train") -> Pixels:
    """All videos of a split, (N, T, Y, X), by the reference."""
    videos: Pixels = vpngen.render(spec, np.arange(spec.n_videos(split)), split=split, backend="reference")
    return videos


def tree(root: Path) -> dict[str, bytes]:
    """Every file below a folder, by its path within it; folders that hold none as well, ending with a slash."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_dir():
            found.update({} if any(path.iterdir()) else {f"{name}/": b""})
        else:
            found[name] = path.read_bytes()
    return found


def copy(root: Path, to: Path) -> Path:
    """A copy of a store, in place of what was at `to`."""
    if to.exists():
        shutil.rmtree(to)
    shutil.copytree(root, to, symlinks=True)
    return to


def record_file(root: Path, shard: Shard) -> Path:
    return root / shard.record


def pending(root: Path, plan: Plan) -> list[Shard]:
    return list(LocalTarget(root).pending(plan))


def index_of(root: Path, plan: Plan, shard: Shard) -> tuple[npt.NDArray[np.uint64], bytes]:
    """The index of a shard, (videos, chunks of a video, 2) of offset and size, and its bytes."""
    with Folder(root).file(shard.key) as file:
        return read_index(file, plan)


def taken(data: Iterable[bytes | memoryview]) -> bytes:
    """The bytes of a shard; a piece of them is valid until the next is asked for."""
    return b"".join(bytes(piece) for piece in data)


def mtimes(root: Path) -> dict[str, int]:
    return {str(p.relative_to(root)): p.stat().st_mtime_ns for p in root.rglob("*")}


def hold(root: Path, shard: Shard) -> BinaryIO:
    """Be the process that is writing a shard, until the file is closed."""
    return open(open_partial(Folder(root), shard.key), "wb")
