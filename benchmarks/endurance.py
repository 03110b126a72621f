"""Does a long run grow? Resident memory of streams over 100,000 batches, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.common import table

TITLE = "Long runs"
NEEDS = ("torch",)
BATCHES = 100_000

WAYS = {
    "rendering, a batch in hand, two made ahead": "ClipStream(spec, 4, **options)",
    "reading a store": "ClipStream(sys.argv[2], 4, **options)",
    "rendering in two worker processes": "vpngen.loader(ClipStream(spec, 4, **options), num_workers=2)",
}
CODE = """
import json, os, pathlib, sys, warnings
import torch, vpngen
from vpngen import ClipStream
warnings.simplefilter("ignore")
torch.set_num_threads(1)
spec = vpngen.perlin(categories=4, instances=4, val_instances=0, shape=(16, 48, 48), noise_frequencies=(1, 2))
options = {"clip": (4, 16, 16), "threads": 1, "device": "cpu", "length": "infinite"}
if not os.path.exists(sys.argv[2]):
    vpngen.write(spec, sys.argv[2], threads=1)

def resident():
    family = [os.getpid()]
    for task in pathlib.Path("/proc/self/task").iterdir():
        family += (task / "children").read_text().split()
    return sum(int(pathlib.Path(f"/proc/{p}/statm").read_text().split()[1]) for p in family) * os.sysconf("SC_PAGESIZE")

batches, seen = iter(WAY), {}
for i in range(1, int(sys.argv[1]) + 1):
    next(batches)
    if i in (1000, int(sys.argv[1]) // 10, int(sys.argv[1])):
        seen[i] = resident()
print(json.dumps(seen))
"""


def run(quick: bool, folder: Path) -> dict[str, Any]:
    count = 10_000 if quick else BATCHES
    found = {}
    for way, make in WAYS.items():
        done = subprocess.run(
            [sys.executable, "-c", CODE.replace("WAY", make), str(count), str(folder / "set.zarr")],
            capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        found[way] = {int(k): v / 2**20 for k, v in json.loads(done.stdout).items()}
    return {"batches": count, "resident_mb": found}


def summary(found: dict[str, Any]) -> list[tuple[str, str, str]]:
    growth = [max(mb.values()) - mb[1000] for mb in found["resident_mb"].values()]
    return [
        (
            f"a stream's memory after {found['batches']:,} batches, over that after 1,000",
            "none",
            f"{max(growth):+.1f} MB at most",
        )
    ]


def report(found: dict[str, Any]) -> str:
    marks = list(next(iter(found["resident_mb"].values())))
    rows = [(way, *(f"{mb[m]:.1f}" for m in marks)) for way, mb in found["resident_mb"].items()]
    return "Resident memory in MB, worker processes included, of batches of 4 clips of 4 x 16 x 16.\n\n" + table(
        ("", *(f"after {m:,} batches" for m in marks)), rows
    )
