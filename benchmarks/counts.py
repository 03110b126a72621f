"""How many instructions the CUDA kernels issue, counted without a GPU: `python -m benchmarks.gpu --count`.

The PTX of each kernel runs on the host (`ptx.py`), which counts how often each instruction is issued to a warp. What a GPU
issues for it is read from the assembler: every PTX instruction stands on a line of its own, and the line table of the binary
says which machine instructions (SASS) came of it. Where there is no assembler or disassembler, a table of weights takes its
place; where there is, the table is checked.

At one instruction a cycle for each scheduler, a count becomes a time. That is a bound, not a measurement.
"""

from __future__ import annotations

import collections
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

import vpngen
from benchmarks import common, ptx
from vpngen.backends import cuda, cuda_perlin
from vpngen.backends.base import WHOLE, kernels
from vpngen.generators import Shape

ARCHITECTURE: Final = "sm_90"
H100: Final = cuda.Gpu(132, 232448)
SCHEDULERS: Final = 4
"""Of a multiprocessor; each can issue one instruction to a warp in a cycle."""
CLOCK: Final = 1.755e9
"""Cycles a second of an H100 under load."""
REGISTERS: Final = 65536
"""Of a multiprocessor."""
SHARED_BYTES: Final = 233472
"""Of a multiprocessor; each block takes `RESERVED_BYTES` beside its own."""
RESERVED_BYTES: Final = 1024
MOST_WARPS: Final = 64
"""Of a multiprocessor."""

CLIP: Final = (16, 112, 112)
PIXELS: Final = 128
"""What counts are for: four pixels of each lane, were no lane idle."""
VIDEOS, CLIPS = 24, 128
"""Of a batch, as in gpu.py."""
BLOCKS: Final = 3
"""Of a whole video, drawn at random, where one kernel makes it."""

KINDS: Final = {
    "arithmetic": "FADD FMUL FFMA FMNMX MUFU FCHK IADD3 VIADD UIADD3 IMAD UIMAD LEA ULEA IABS VIMNMX VIADDMNMX IMNMX SHF USHF "
    "LOP3 ULOP3 BREV FLO UFLO POPC UPOPC PRMT UPRMT SGXT USGXT BMSK HFMA2 HADD2 HMUL2 "
    "abs add and bfe bfi clz div fma lop3 mad max min mul neg not or popc prmt rem shf shl shr sqrt sub xor",
    "compare, select": "FSETP ISETP UISETP HSETP2 PLOP3 UPLOP3 FSEL SEL USEL setp selp",
    "move": "MOV UMOV CS2R S2R S2UR R2UR P2R R2P mov cvta pack unpack",
    "convert": "F2I I2F I2FP F2F F2FP I2I cvt",
    "load, shared": "LDS ld.shared",
    "store, shared": "STS st.shared",
    "load, global": "LDG LD ld.global ld",
    "store, global": "STG ST st.global st",
    "load, store, local": "LDL STL ld.local st.local",
    "load, constant": "LDC ULDC ld.param",
    "control": "BRA BRX BSSY BSYNC BREAK EXIT CALL RET WARPSYNC BMOV YIELD bra ret",
    "exchange": "SHFL VOTE VOTEU REDUX CREDUX shfl vote redux",
    "barrier": "BAR DEPBAR MEMBAR bar",
    "other": "",
}  # fmt: skip
"""Machine instructions, and those of PTX, by what they are for."""
KIND_OF: Final = {name: kind for kind, names in KINDS.items() for name in names.split()}

STAGES: Final = {
    "perlin": {
        "set up": "locate share_out place_pixels plan_frames take_pixels", "gradients": "gradients", "along_y": "along_y",
        "along_x": "make_planes", "along_t": "along_t", "store": "store fold",
    },
    "fractal": {
        "hash": "philox", "orbit": "orbit", "place": "both find_place scale", "draw": "draw", "copy_out": "copy_out",
        "fade": "faded",
    },
}  # fmt: skip
"""Stage -> the functions of `kernels/` that it is made of. An instruction belongs to the innermost of them that it came of."""
BETWEEN: Final = "between them"

WEIGHTS: Final = {
    "div.s32": 25, "div.u32": 18, "div.s64": 30, "rem.s32": 14, "rem.u32": 16, "div.rn": 12, "sqrt.rn": 10, "setp.eq.s64": 2,
    "add.s64": 1.2, "mul.lo.s64": 3, "shl.b64": 0.2, "shr.u64": 0, "cvt.u32.u64": 0, "cvt.u64.u32": 0, "cvt.s64.s32": 0.3,
    "cvta": 0, "ld.param": 0, "mov": 0.3, "xor.b32": 0.6, "and.pred": 0.3, "or.pred": 0.3, "not.pred": 0, "abs": 0.3, "neg": 0.5,
    "bra": 1.5,
}  # fmt: skip
"""Machine instructions for one of PTX, by the longest beginning of its name; 1 where there is none."""


# --- what the assembler makes of PTX


class Run(NamedTuple):
    """Machine instructions that follow one another: their names, and the number of the PTX instruction that each came of."""

    names: list[str]
    origins: list[int | None]


@dataclass(frozen=True)
class Machine:
    """What the assembler makes of a kernel; subroutines, such as the slow path of a division, are left out."""

    runs: list[Run]
    registers: int
    spilled_bytes: int


def tool(name: str) -> str | None:
    """A program of the CUDA toolkit: in the path, in a toolkit, or in a package of PyPI."""
    toolkits = sorted(Path("/usr/local").glob("cuda*/bin"))
    packaged = ptx.folders_of_packages("cu13/bin", "cuda_nvdisasm/bin", "backends/nvidia/bin")
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(map(str, [*toolkits, *packaged])))


def numbered(module: ptx.Module) -> str:
    """The text of a module, each instruction of a kernel on a line of its own: its number from 1 on, for the line table."""
    parts, at = [], 0
    for kernel in module.kernels.values():
        for number, place in enumerate(kernel.places, start=1):
            parts += [module.text[at:place], f"\n.loc 1 {number} 0\n"]
            at = place
    return "".join([*parts, module.text[at:], '\n.file 1 "kernel"\n'])


def assembled(module: ptx.Module) -> dict[str, Machine] | None:
    """The kernels of a module as the GPU gets them; None where the tools are missing."""
    assembler, disassembler = tool("ptxas"), tool("nvdisasm")
    if not assembler or not disassembler:
        return None
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder, "kernel.ptx"), Path(folder, "kernel.cubin")
        source.write_text(numbered(module))
        command = [assembler, f"-arch={ARCHITECTURE}", "-v", "-lineinfo", str(source), "-o", str(made)]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stderr
        command = [disassembler, "-g", "-c", str(made)]
        code = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = {}
    for name, runs in _runs(code.splitlines()).items():
        about = said[said.index(f"Function properties for {name}\n") :]
        numbers = [re.search(rf"(\d+) {what}", about) for what in ("bytes spill stores", "bytes spill loads")]
        used = re.search(r"Used (\d+) registers", about)
        found[name] = Machine(runs, int(used[1]) if used else 0, sum(int(n[1]) for n in numbers if n))
    return found


def _runs(lines: Iterable[str]) -> dict[str, list[Run]]:
    """The straight runs of each kernel in a disassembly."""
    found: dict[str, list[Run]] = {}
    runs: list[Run] | None = None
    origin: int | None = None
    for line in lines:
        if section := re.match(r"\.text\.(\w+):", line):
            runs, origin = found.setdefault(section[1], [Run([], [])]), None
        elif line.lstrip().startswith((".section", "$")):  # the latter is a subroutine
            runs = None
        elif place := re.search(r'//## File "kernel", line (\d+)', line):
            origin = int(place[1]) - 1
        elif runs is None:
            continue
        elif re.match(r"\.L_x_\d+:", line):
            runs.append(Run([], []))
        elif code := re.match(r"\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z]\w*)", line):
            if code[1] == "NOP":  # which fills up the end
                continue
            runs[-1].names.append(code[1])
            runs[-1].origins.append(origin)
            if code[1] in ("BRA", "BRX", "EXIT", "RET"):
                runs.append(Run([], []))
    return {name: [run for run in runs if run.names] for name, runs in found.items()}


class Issue(NamedTuple):
    """How often a machine instruction was issued, and the number of the PTX instruction that it came of."""

    name: str
    origin: int
    times: float


NEVER_MERGED: Final = ("LDS", "STS", "LDG", "STG", "LD", "ST", "BAR", "SHFL")


def issued(kernel: ptx.Kernel, machine: Machine, counts: npt.NDArray[np.float64]) -> Iterator[Issue]:
    """The machine instructions that a launch issued, from how often each PTX instruction was.

    The assembler moves instructions, so a run goes as often as the block of PTX that most of it came of. It also unrolls
    loops: where the loads and stores of a block are there k times, each copy goes a k-th of the times.
    """
    blocks = ptx.straight_runs(kernel.instructions)
    block_of = np.repeat(np.arange(len(blocks)), [last - first for first, last in blocks]).tolist()
    times = collections.Counter(
        origin for run in machine.runs for name, origin in zip(*run, strict=True) if name in NEVER_MERGED
    )
    copies: dict[int, list[int]] = collections.defaultdict(list)
    for origin, n in times.items():
        if origin is not None:
            copies[block_of[origin]].append(n)
    for run in machine.runs:
        votes = collections.Counter(block_of[origin] for origin in run.origins if origin is not None)
        if votes:
            ((home, _),) = votes.most_common(1)
            each = float(counts[blocks[home][0]]) / max(1.0, float(np.median(copies.get(home, [1]))))
            last = blocks[home][0]
            for name, origin in zip(*run, strict=True):
                last = last if origin is None else origin
                yield Issue(name, last, each)


def weighed(kernel: ptx.Kernel, counts: npt.NDArray[np.float64]) -> Iterator[Issue]:
    """How many machine instructions a launch issued for those of PTX, by the table of weights."""
    spaces = {number: name for name, number in ptx.SPACES.items()}
    for origin, (instruction, n) in enumerate(zip(kernel.instructions, counts.tolist(), strict=True)):
        name = instruction.name
        beginnings = [name[:k] for k in range(len(name), 0, -1)]
        head = name.partition(".")[0]
        if head in ("ld", "st"):
            head = ".".join(filter(None, (head, spaces.get(instruction.space))))
            beginnings = [head]
        yield Issue(head, origin, n * next((WEIGHTS[b] for b in beginnings if b in WEIGHTS), 1))


# --- launches


class Totals(NamedTuple):
    """Machine instructions by kind and by stage, and how many there are by the table of weights."""

    kinds: dict[str, float]
    stages: dict[str, float]
    by_weights: float


class Counter:
    """Counts what the kernels of a generator issue."""

    def __init__(self, generator: str) -> None:
        self.stages: dict[str, str] = {
            name: stage for stage, names in STAGES.get(generator, {}).items() for name in names.split()
        }
        self.module = ptx.module_of(generator, "-lineinfo")
        self.machine = assembled(self.module)

    def stage(self, kernel: ptx.Kernel, origin: int) -> str:
        """Of an instruction of PTX."""
        return next((self.stages[name] for name in kernel.origins[origin] if name in self.stages), BETWEEN)

    def of(self, counts: Mapping[str, npt.NDArray[np.float64]]) -> Totals:
        """Machine instructions of all kernels."""
        totals = Totals(dict.fromkeys(KINDS, 0.0), dict.fromkeys([*self.stages.values(), BETWEEN], 0.0), 0.0)
        by_weights = 0.0
        for name, n in counts.items():
            kernel = self.module.kernels[name]
            estimated = list(weighed(kernel, n))
            by_weights += sum(issue.times for issue in estimated)
            for what, origin, times in issued(kernel, self.machine[name], n) if self.machine else estimated:
                totals.kinds[KIND_OF.get(what, "other")] += times
                totals.stages[self.stage(kernel, origin)] += times
        return totals._replace(by_weights=by_weights)


def launches(
    spec: vpngen.Spec,
    videos: npt.NDArray[np.int64],
    windows: npt.NDArray[np.int32],
    extent: Shape,
    of: int,
    rng: np.random.Generator,
    kernel: str | None = None,
) -> Iterator[tuple[cuda.LaunchPlan, dict[str, npt.NDArray[np.float64]]]]:
    """For each of the first `of` windows of a batch: its plan, and how often each instruction of each kernel was issued for it.

    The blocks of a window follow one another in a launch. Where one kernel makes a video, some of them speak for all.
    `kernel` comes in the place of the only step of the plan.
    """
    name, size = spec.generator.name, int(np.prod(extent))
    params = spec.params(videos)
    plan = kernels("cuda", name, "plan")(params, extent, H100)[0]
    out = np.empty(max(plan.n * size, plan.steps[0].blocks * 8), np.uint8)  # hardly any of it is touched
    target = [ptx.Memory(out, 1 << 40, True)]
    step = replace(plan.steps[0], kernel=kernel) if kernel else None
    for window in range(min(of, plan.n)):
        blocks, scale = {}, {}
        for each in [step] if step else plan.steps:
            many = each.blocks // plan.n
            few = min(many, BLOCKS) if len(plan.steps) == 1 and size > int(np.prod(CLIP)) else many
            blocks[each.kernel] = window * many + rng.choice(many, few, replace=False)
            scale[each.kernel] = many / few
        counts = ptx.run(
            name, plan, params[: plan.n], windows[: plan.n], target, 1 << 40, step, blocks=blocks, races=False
        )
        yield plan, {key: n * scale[key] for key, n in counts.items()}


def warps(machine: Machine, step: cuda.Step) -> int:
    """Of a multiprocessor of an H100 at the same time."""
    each = -(-step.threads // 32)
    of_a_scheduler = REGISTERS // SCHEDULERS // (-(-machine.registers * 32 // 256) * 256)  # each has its own registers
    return each * min(
        SCHEDULERS * of_a_scheduler // each,
        SHARED_BYTES // (step.shared_bytes + RESERVED_BYTES),
        MOST_WARPS // each,
        32,
    )


def windows_of(
    spec: vpngen.Spec, videos: npt.NDArray[np.int64], extent: Shape, rng: np.random.Generator
) -> npt.NDArray[np.int32]:
    """Windows of `extent` (N, 5): anywhere in their videos, some of them mirrored; whole videos as they are."""
    if extent == spec.shape:
        return np.repeat(WHOLE, len(videos), axis=0)
    n = len(videos)
    t0, y0, x0 = rng.integers([a - b + 1 for a, b in zip(spec.shape, extent, strict=True)], size=(n, 3)).T
    return np.stack([t0, np.ones(n, int), y0, x0, rng.integers(2, size=n)], axis=1).astype(np.int32)


def measure(
    counter: Counter,
    spec: vpngen.Spec,
    extent: Shape,
    categories: Sequence[int],
    windows: int,
    kernel: str | None = None,
) -> dict[str, Any]:
    """Machine instructions for 128 pixels of windows of some categories, each in a batch of its own."""
    rng = np.random.default_rng(0)
    n, each = (VIDEOS if extent == spec.shape else CLIPS), len(categories) * windows
    totals: dict[str, float] = {}
    kinds: dict[str, float] = collections.defaultdict(float)
    stages: dict[str, float] = collections.defaultdict(float)
    by_weights, least = 0.0, 10**9
    for category in categories:
        videos = category + spec.n_categories * rng.integers(spec.instances, size=n)
        total = 0.0
        for plan, counts in launches(spec, videos, windows_of(spec, videos, extent, rng), extent, windows, rng, kernel):
            found = counter.of(counts)
            share = PIXELS / float(np.prod(extent))
            for into, some in ((kinds, found.kinds), (stages, found.stages)):
                for key, many in some.items():
                    into[key] += many * share / each
            total += sum(found.kinds.values()) * share / windows
            by_weights += found.by_weights * share / each
            if counter.machine:
                steps = [replace(s, kernel=kernel or s.kernel) for s in plan.steps]
                least = min(least, *(warps(counter.machine[s.kernel], s) for s in steps), 10**9)
        totals["x".join(map(str, spec.category(int(category))))] = total
    return {
        "mean": float(np.mean(list(totals.values()))),
        "by_weights": by_weights,
        "kinds": dict(kinds),
        "stages": dict(stages),
        "warps": least if counter.machine else None,
        "by_category": totals,
    }


def run(quick: bool) -> dict[str, Any]:
    """All counts: of Perlin noise for all 400 categories, of the least and greatest values and of others for some."""
    perlin = vpngen.perlin(categories=400, instances=64)
    fractals = {
        what: vpngen.fractal(categories=1000, instances=100, **choices)
        for what, choices in (("patches", {}), ("points", {"draw": "point"}), ("a trail of 5", {"trail": 5}))
    }
    some, windows = np.linspace(0, 399, 25).astype(int).tolist(), 2 if quick else 4
    all_of_them = some if quick else list(range(400))
    counters = {name: Counter(name) for name in ("perlin", "fractal", "drift", "clouds", "leaves")}
    found = {
        "perlin, whole videos": measure(counters["perlin"], perlin, perlin.shape, all_of_them, windows),
        "perlin, clips": measure(counters["perlin"], perlin, CLIP, all_of_them, windows),
        "perlin, extremes": measure(counters["perlin"], perlin, perlin.shape, some, windows, cuda_perlin.EXTREMES),
    }
    few = np.linspace(0, 999, 4 if quick else 20).astype(int).tolist()
    for what, spec in fractals.items():
        found[f"fractal, whole videos, {what}"] = measure(counters["fractal"], spec, spec.shape, few, 1)
        found[f"fractal, clips, {what}"] = measure(counters["fractal"], spec, CLIP, few, 2)
    drift = vpngen.drift(instances=100)
    of_drift = list(range(1, 64, 16 if quick else 4))
    found["drift, clips"] = measure(counters["drift"], drift, CLIP, of_drift, 1)
    clouds = vpngen.clouds(instances=64)
    for what, shape in (("whole videos", clouds.shape), ("clips", CLIP)):
        found[f"clouds, {what}"] = measure(counters["clouds"], clouds, shape, [0, 21, 42, 63], windows)
    found["leaves, clips"] = measure(counters["leaves"], vpngen.leaves(instances=100), CLIP, [1, 22, 43, 62], 1)
    resources = {
        name: {"registers": machine.registers, "spilled_bytes": machine.spilled_bytes}
        for counter in counters.values()
        for name, machine in (counter.machine or {}).items()
    }
    return {
        "machine": common.machine(),
        "compiler": ptx.compiler(),
        "weights": "SASS" if resources else "table",
        "windows": windows,
        "resources": resources,
        "counts": found,
    }


def bytes_a_second(count: float) -> float:
    """The bound: one instruction a cycle from each scheduler of an H100, and a byte a pixel."""
    return H100.multiprocessors * SCHEDULERS * CLOCK / count * PIXELS


def report(results: dict[str, Any]) -> str:
    """The counts as Markdown, and the arithmetic that makes times of them."""
    counts = results["counts"]
    rows = []
    for what, r in counts.items():
        by_category = r["by_category"]
        least, most = (pick(by_category, key=by_category.get) for pick in (min, max))
        rate = bytes_a_second(r["mean"])
        time = f"{CLIPS * np.prod(CLIP) / rate * 1e6:.0f} us a batch" if "clips" in what else f"{rate / 1e12:.2f} TB/s"
        rows.append((
            what, f"{r['mean']:.0f}", f"{by_category[least]:.0f} ({least})", f"{by_category[most]:.0f} ({most})",
            len(by_category), r["warps"] or "", time, f"{r['by_weights']:.0f}",
        ))  # fmt: skip
    names = list(counts)
    kinds = [(kind, *(f"{counts[name]['kinds'][kind]:.1f}" for name in names)) for kind in KINDS]
    by_stage = "\n\n".join(
        common.table(
            ("", *some), [(s, *(f"{counts[n]['stages'][s]:.1f}" for n in some)) for s in (*STAGES[name], BETWEEN)]
        )
        for name in STAGES
        if (some := [n for n in names if n.startswith(name)])
    )
    how = "read from the assembler" if results["weights"] == "SASS" else "by the table of weights, without an assembler"
    used = ", ".join(
        f"`{k}` {r['registers']} registers, {r['spilled_bytes']} bytes spilled" for k, r in results["resources"].items()
    )
    return f"""# Instructions of the CUDA kernels

Warp instructions for {PIXELS} pixels, {how}; PTX by {results["compiler"]}, {results["machine"]["date"]}. No GPU took part. {used}.

{common.table(("", "mean", "least (category)", "most (category)", "categories", "warps a multiprocessor", "bound on an H100", "by weights"), rows)}

**The bound is arithmetic, not a measurement.** An H100 has {H100.multiprocessors} multiprocessors of {SCHEDULERS} schedulers, and each can issue one instruction a cycle, at
{CLOCK / 1e9} GHz: {H100.multiprocessors} x {SCHEDULERS} x {CLOCK / 1e9} GHz x {PIXELS} bytes / {counts["perlin, whole videos"]["mean"]:.0f} = {bytes_a_second(counts["perlin, whole videos"]["mean"]) / 1e12:.2f} TB/s of whole videos. A batch is {CLIPS} clips of 16 x 112 x 112. Latency, barriers,
memory and instruction fetch are not in it; kernels reach some part of it. "By weights" is the count that a table of weights gives,
for machines without an assembler.

How: the PTX of each kernel is run on the host, warp by warp, and lanes that part ways meet again where their paths do. A run
of machine instructions goes as often as the PTX that it came of, by the line table of the binary. Each category is a batch of {VIDEOS}
whole videos or {CLIPS} random clips, of which {results["windows"]} are counted: clips whole, of a video {BLOCKS} random blocks. Of fractals all blocks of one video
or two clips are counted, points and frames. Slow paths of divisions that are called as subroutines are left out.

## By stage

A stage is some functions of `kernels/` (README.md there says what they do); an instruction belongs to the one that it was compiled from.

{by_stage}

## By kind

{common.table(("", *names), kinds)}
"""


def main(quick: bool, out: Path) -> None:
    """The command; a quick run is printed and not kept."""
    results = run(quick)
    text = report(results)
    if not quick:
        out.mkdir(parents=True, exist_ok=True)
        (out / "counts.json").write_text(json.dumps(results, indent=1) + "\n")
        (out / "counts.md").write_text(text)
    print(text)
