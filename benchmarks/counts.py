"""How many instructions the CUDA kernels issue, without a GPU: `python -m benchmarks.gpu --count`.

The PTX of each kernel runs on the host (`ptx.py`), which counts how often each instruction is issued to a warp. What of it a
GPU issues is read from the assembler: every PTX instruction is given a line of its own, and the disassembly says which
machine instructions (SASS) came of that line. Where there is no assembler or disassembler, a table of weights takes its place.

At one instruction a cycle for each scheduler, a count becomes a time. That is a bound, not a measurement: no GPU waits for
nothing.
"""

from __future__ import annotations

import collections
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

import vpngen
from benchmarks import common, ptx
from vpngen.backends import cuda
from vpngen.backends.base import kernels
from vpngen.generators import Shape

ARCHITECTURE: Final = "sm_90"
H100: Final = cuda.Gpu(132, 232448)
SCHEDULERS: Final = 4
"""Of a multiprocessor; each can issue one instruction to a warp in a cycle."""
CLOCK: Final = 1.755e9
"""Cycles a second of an H100 under load."""
CLIP: Final = (16, 112, 112)
PIXELS: Final = 128
"""Counts are for so many pixels: four a lane, were each lane to make only its own."""

KINDS: Final = {
    "arithmetic": "FADD FMUL FFMA FMNMX MUFU FCHK FSWZADD IADD3 VIADD UIADD3 IMAD UIMAD LEA ULEA IABS VIMNMX VIADDMNMX "
    "IMNMX SHF USHF LOP3 ULOP3 BREV FLO POPC PRMT UPRMT SGXT BMSK HFMA2 HADD2 HMUL2 REDUX",
    "compare, select": "FSETP ISETP UISETP HSETP2 PLOP3 UPLOP3 FSEL SEL USEL PSETP",
    "move": "MOV UMOV CS2R S2R S2UR R2UR P2R R2P",
    "convert": "F2I I2F I2FP F2F F2FP I2I",
    "load shared": "LDS LDSM",
    "store shared": "STS",
    "load global": "LDG LD LDGSTS",
    "store global": "STG ST",
    "local": "LDL STL",
    "constant": "LDC ULDC",
    "control": "BRA BRX BRXU BSSY BSYNC BREAK EXIT CALL RET WARPSYNC BMOV YIELD NANOSLEEP JMP",
    "exchange": "SHFL VOTE VOTEU",
    "barrier": "BAR DEPBAR MEMBAR ERRBAR CCTL",
}  # fmt: skip
"""Machine instructions by what they are for."""
KIND_OF: Final = {name: kind for kind, names in KINDS.items() for name in names.split()}


# --- what the assembler makes of PTX


def tool(name: str) -> str | None:
    """A program of the CUDA toolkit: in the path, beside nvcc, or in a package of PyPI."""
    toolkits = [str(folder) for folder in sorted(Path("/usr/local").glob("cuda*/bin"))]
    packaged = [
        str(folder) for folder in ptx.folders_of_packages("cu13/bin", "cuda_nvdisasm/bin", "backends/nvidia/bin")
    ]
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join([*toolkits, *packaged]))


class Machine(NamedTuple):
    """One straight run of machine instructions: their names, and the PTX instructions that each came of."""

    names: list[str]
    origins: list[int | None]


def numbered(text: str) -> str:
    """PTX in which each instruction of a kernel stands at a line of its number, for the line table of the assembler."""
    lines, inside, n = [], False, 0
    for line in text.splitlines():
        word = line.strip()
        if word.startswith((".loc", ".file")):
            continue
        if ".entry" in word:
            n = 0
        if line in ("{", "}"):
            inside = line == "{"
        # an inline block of several statements has one line each, as ptx.Module counts them
        elif inside and word and not word.startswith((".", "{", "}", "$", "//")):
            for _ in range(word.split("//")[0].count(";")):
                n += 1
            lines.append(f".loc 1 {n} 0")
        lines.append(line)
    return "\n".join([*lines, '.file 1 "kernel"', ""])


def assembled(text: str) -> dict[str, list[Machine]] | None:
    """The machine instructions of each kernel of a PTX text, subroutines left out; None where the tools are missing."""
    assembler, disassembler = tool("ptxas"), tool("nvdisasm")
    if not assembler or not disassembler:
        return None
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder, "kernel.ptx"), Path(folder, "kernel.cubin")
        source.write_text(numbered(text))
        subprocess.run([assembler, f"-arch={ARCHITECTURE}", "-lineinfo", str(source), "-o", str(made)], check=True)
        done = subprocess.run([disassembler, "-g", "-c", str(made)], check=True, capture_output=True, text=True)
    found: dict[str, list[Machine]] = {}
    kernel: list[Machine] | None = None
    origin: int | None = None
    for line in done.stdout.splitlines():
        if section := re.match(r"\.text\.(\w+):", line):
            kernel, origin = found.setdefault(section[1], [Machine([], [])]), None
        elif line.startswith(".section"):
            kernel = None
        elif line.startswith("$"):  # a subroutine, such as the slow path of a division
            kernel = None
        elif place := re.search(r'//## File "kernel", line (\d+)', line):
            origin = int(place[1]) - 1
        elif kernel is not None and re.match(r"\.L_x_\d+:", line):
            kernel.append(Machine([], []))
        elif kernel is not None and (code := re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z]\w*)", line)):
            if code[1] == "NOP":
                continue
            kernel[-1].names.append(code[1])
            kernel[-1].origins.append(origin)
            if code[1] in ("BRA", "BRX", "EXIT", "RET"):
                kernel.append(Machine([], []))
    return {name: [run for run in runs if run.names] for name, runs in found.items()}


MEMORY: Final = ("LDS", "STS", "LDG", "STG", "LD", "ST", "BAR", "SHFL")


def issued(kernel: ptx.Kernel, runs: Sequence[Machine], counts: npt.NDArray[np.uint64]) -> dict[str, float]:
    """Machine instructions by name that a launch issued, from how often each PTX instruction was.

    The assembler moves instructions, so a run is taken to go as often as the block of PTX that most of it came of. It also
    unrolls loops: a block whose loads and stores are there k times goes through each copy a k-th of the times.
    """
    blocks = ptx.straight_runs(kernel.instructions)
    block_of = np.concatenate([np.full(last - first, k) for k, (first, last) in enumerate(blocks)])
    copies: dict[int, list[int]] = {}
    times = collections.Counter(
        o for run in runs for name, o in zip(run.names, run.origins, strict=True) if name in MEMORY and o is not None
    )
    for origin, n in times.items():
        copies.setdefault(int(block_of[origin]), []).append(n)
    found: dict[str, float] = collections.defaultdict(float)
    for run in runs:
        votes = collections.Counter(int(block_of[o]) for o in run.origins if o is not None)
        if not votes:
            continue
        home = votes.most_common(1)[0][0]
        each = float(counts[blocks[home][0]]) / max(1.0, float(np.median(copies.get(home, [1]))))
        for name in run.names:
            found[name] += each
    return dict(found)


# --- launches


class Sample(NamedTuple):
    """Some windows of a batch and what a part of its blocks issued, scaled to all of them.

    Attributes:
        pixels: of these windows.
        counts: kernel -> how often each of its PTX instructions was issued.
    """

    pixels: float
    counts: dict[str, npt.NDArray[np.float64]]


def sample(
    spec: vpngen.Spec, videos: npt.NDArray[np.int64], windows: npt.NDArray[np.int32], extent: Shape,
    of: Iterable[int], blocks: int, rng: np.random.Generator,
) -> Sample:  # fmt: skip
    """Run windows `of` a batch; where a launch is one kernel, so many of the blocks of each, else all of them."""
    name = spec.generator.name
    params = spec.params(videos)
    out = np.empty(len(videos) * int(np.prod(extent)), np.uint8)  # of which hardly any is touched
    address = 1 << 40
    totals: dict[str, npt.NDArray[np.float64]] = {}
    first = pixels = 0
    for plan in kernels("cuda", name, "plan")(params, extent, H100):
        mine = slice(first, first + plan.n)
        target = ptx.Memory(out, address - first * int(np.prod(extent)), True)
        for w in (w - first for w in of if first <= w < first + plan.n):
            chosen = {}
            for step in plan.steps:
                each = step.blocks // plan.n
                every = np.arange(w * each, (w + 1) * each)
                if len(plan.steps) == 1 and blocks < each:
                    every = rng.choice(every, blocks, replace=False)
                chosen[step.kernel] = (every, each / len(every))
            counts = ptx.run(
                name, plan, params[mine], windows[mine], [target], address, races=False,
                blocks={kernel: every for kernel, (every, _) in chosen.items()},
            )  # fmt: skip
            for kernel, n in counts.items():
                totals[kernel] = totals.get(kernel, 0) + n * chosen[kernel][1]
            pixels += int(np.prod(extent))
        first += plan.n
    return Sample(pixels, totals)


class Counter:
    """Counts what kernels of a generator issue."""

    def __init__(self, generator: str) -> None:
        source, options = cuda.expanded_source(generator), cuda.compile_options(generator)
        text = ptx.compile_source(source, options, ARCHITECTURE)
        self.kernels = ptx.module_of(generator).kernels
        self.machine = assembled(text)

    def by_name(self, found: Sample) -> dict[str, dict[str, float]]:
        """Kernel -> machine instruction -> how many for 128 pixels."""
        made = {}
        for kernel, counts in found.counts.items():
            if self.machine is None:
                raise SystemExit("ptxas and nvdisasm are needed")
            names = issued(self.kernels[kernel], self.machine[kernel], counts)
            made[kernel] = {name: n / found.pixels * PIXELS for name, n in names.items()}
        return made


def main(quick: bool, out: Path) -> None:
    """The command."""
    counter = Counter("perlin")
    rng = np.random.default_rng(0)
    spec = vpngen.perlin(categories=400, instances=16)
    categories = np.linspace(0, 399, 25 if quick else 400).astype(int)
    for what, extent, n, blocks in (("whole videos", spec.shape, 24, 3), ("clips", CLIP, 128, 10**9)):
        room = np.array(spec.shape) - extent + 1
        totals, kinds = [], collections.Counter()
        for category in categories:
            videos = category + 400 * rng.integers(16, size=n)
            t0, y0, x0 = rng.integers(room, size=(n, 3)).T
            windows = np.stack([t0, np.ones(n, int), y0, x0, rng.integers(2, size=n)], axis=1).astype(np.int32)
            found = sample(spec, videos, windows, extent, range(2 if quick else 4), blocks, rng)
            names = counter.by_name(found)["perlin_render"]
            totals.append(sum(names.values()))
            for name, count in names.items():
                kinds[KIND_OF.get(name, name)] += count / len(categories)
        bound = H100.multiprocessors * SCHEDULERS * CLOCK * PIXELS / np.mean(totals)
        print(
            f"{what}: mean {np.mean(totals):.1f}, {min(totals):.1f} to {max(totals):.1f} (category {spec.category(int(categories[int(np.argmax(totals))]))}); "
            f"{bound / 1e12:.2f} TB/s at one instruction a cycle, a bound; 128 clips in {128 * np.prod(CLIP) / bound * 1e6:.0f} us"
        )
        print("   ", {kind: round(n, 1) for kind, n in kinds.most_common()})
