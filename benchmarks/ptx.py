"""What NVRTC makes of the kernels, run without a GPU: PTX taken apart here, and run warp by warp by `ptx.cpp`.

    module = ptx.Module(ptx.compile_source(source, options))   # PTX, then its kernels
    module.launch("kernel", blocks, threads, arguments, memory=[...])

Needed are g++ and, for PTX of our own sources, NVRTC (PyPI `nvidia-cuda-nvrtc`) or nvcc. An instruction that is not known
is an error that names it. What `ptx.cpp` checks, and in which orders lanes run, is said there.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from vpngen.backends import cuda
from vpngen.generators import GENERATORS

OPERANDS: Final = 10
NONE: Final = -1
SCHEDULES: Final = ("converged", "converged backwards", "lanes forwards", "lanes backwards", "lanes shuffled")
"""How the threads of a block take turns. Counts are those of `converged`."""
SPACES: Final = {"global": 1, "shared": 2, "local": 3, "param": 4}
BITS: Final = {"pred": 1, "b16": 16, "b32": 32, "f32": 32, "b64": 64}
"""Of a register, by its declared type."""
SPECIALS: Final = {"%tid.x": 0, "%ntid.x": 1, "%ctaid.x": 2, "%nctaid.x": 3, "%laneid": 4, "%warpid": 5}
HINTS: Final = {"nc", "ca", "cg", "cs", "lu", "cv", "wb", "wt", "volatile", "relaxed", "weak", "cta", "gpu", "sys"}
"""Of loads and stores: where to keep what is read; no value depends on them where a block shares only shared memory."""
ENDS: Final = {"bra", "ret"}
COLLECTIVES: Final = ("shfl.", "redux.", "vote.", "bar.warp.")


class PtxError(Exception):
    """PTX that is not known here, or that does what no kernel may do."""


# --- making PTX

CUPY_OPTIONS: Final = ("-ftz=true", "--device-as-default-execution-space")
"""Which CuPy adds to those that it is given (cupy/cuda/compiler.py)."""


def folders_of_packages(*names: str) -> list[Path]:
    """Folders of these names in what NVIDIA and Triton have put on PyPI, where they are installed."""
    specs = filter(None, map(importlib.util.find_spec, ("nvidia", "triton")))
    homes = [Path(home) for spec in specs for home in spec.submodule_search_locations or ()]
    return [home / name for home in homes for name in names if (home / name).is_dir()]


@functools.cache
def nvrtc() -> ctypes.CDLL | None:
    """The library of PyPI's nvidia-cuda-nvrtc, which needs no driver; None where it is not installed."""
    for folder in folders_of_packages("cu13/lib", "cuda_nvrtc/lib"):
        for path in sorted(folder.glob("libnvrtc.so.*")):
            for builtins in sorted(folder.glob("libnvrtc-builtins.so.*")):
                ctypes.CDLL(str(builtins), mode=ctypes.RTLD_GLOBAL)  # the library looks for it by name alone
            return ctypes.CDLL(str(path))
    return None


def compiler() -> str:
    """What makes PTX here: NVRTC, nvcc, or nothing."""
    library = nvrtc()
    if library is not None:
        major, minor = ctypes.c_int(), ctypes.c_int()
        library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
        return f"NVRTC {major.value}.{minor.value}"
    return "nvcc" if shutil.which("nvcc") else "nothing"


def missing() -> str | None:
    """What is to be installed before PTX can be made and run here; None where all is there."""
    if shutil.which("g++") is None:
        return "install g++"
    return "install nvidia-cuda-nvrtc, or nvcc" if compiler() == "nothing" else None


def compile_source(source: str, options: Sequence[str], architecture: str = "sm_90") -> str:
    """The PTX of a source as CuPy would ask for it.

    Raises:
        PtxError: the source does not compile, or there is no compiler.
    """
    options = (*options, *CUPY_OPTIONS)
    library = nvrtc()
    if library is None:
        return _by_nvcc(source, options, architecture)
    program = ctypes.c_void_p()
    flags = [option.encode() for option in (*options, f"-arch={architecture}")]
    library.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"source.cu", 0, None, None)
    try:
        if library.nvrtcCompileProgram(program, len(flags), (ctypes.c_char_p * len(flags))(*flags)):
            raise PtxError(_text_of(library, program, "ProgramLog"))
        return _text_of(library, program, "PTX")
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


def _text_of(library: ctypes.CDLL, program: ctypes.c_void_p, what: str) -> str:
    size = ctypes.c_size_t()
    getattr(library, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
    text = ctypes.create_string_buffer(size.value)
    getattr(library, f"nvrtcGet{what}")(program, text)
    return text.value.decode()


def _by_nvcc(source: str, options: Sequence[str], architecture: str) -> str:
    program = shutil.which("nvcc")
    if program is None:
        raise PtxError("there is no compiler of CUDA; install nvidia-cuda-nvrtc from PyPI")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "source.cu")
        path.write_text(source)
        flags = [option for option in options if option != "--device-as-default-execution-space"]  # of NVRTC alone
        command = [program, f"-arch={architecture}", "-ptx", *flags, "-o", f"{folder}/source.ptx", str(path)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise PtxError(done.stderr)
        return Path(folder, "source.ptx").read_text()


@functools.cache
def compiled(source: str, options: tuple[str, ...], architecture: str = "sm_90") -> Module:
    """The kernels of a source as CuPy gets them."""
    return Module(compile_source(source, options, architecture))


def module_of(generator: str, *options: str) -> Module:
    """The kernels of a generator as the CUDA backend gets them; more options change no instruction."""
    return compiled(cuda.expanded_source(generator), (*cuda.compile_options(generator), *options))


# --- taking PTX apart


@dataclass
class Instruction:
    """One instruction of a kernel.

    Attributes:
        text: as it stands in the PTX.
        name: its operation, such as `add.s32`; that of a load or store without space, hints and number of values.
        guard: the predicate that it hangs on, None where there is none; `unless` it must be false.
        operands: registers, constants and addresses, the results first. None where there is none.
        results: how many of the operands are written.
        target: of a branch.
        meeting: where the lanes of a branch meet again, NONE where they do not.
    """

    text: str
    name: str
    guard: str | None = None
    unless: bool = False
    operands: list[str | None] = field(default_factory=list)
    results: int = 0
    space: int = 0
    count: int = 1
    wide: bool = False
    offset: int = 0
    target: int = NONE
    meeting: int = NONE

    @property
    def reads(self) -> list[str]:
        found = [o for o in self.operands[self.results :] if o is not None]
        return [*found, self.guard] if self.guard else found

    @property
    def writes(self) -> list[str]:
        return [o for o in self.operands[: self.results] if o is not None]


@dataclass
class Kernel:
    """One kernel: its instructions, registers by name, and what it takes.

    Attributes:
        registers: name -> bits.
        params: name -> (offset, bytes).
        symbols: shared and local memory, name -> address.
        static_bytes: of shared memory that the kernel declares itself.
        local_bytes: of a thread.
        places: where each instruction begins in the text of the module.
        origins: the functions of the source that each instruction came of, the innermost first; empty without `-lineinfo`.
    """

    name: str
    instructions: list[Instruction]
    registers: dict[str, int]
    params: dict[str, tuple[int, int]]
    symbols: dict[str, int]
    static_bytes: int
    local_bytes: int
    places: list[int] = field(default_factory=list)
    origins: list[tuple[str, ...]] = field(default_factory=list)


LOCATION: Final = re.compile(
    r"\.loc\s+(\d+\s+\d+\s+\d+)(?:,\s*function_name\s+([$\w]+)(?:\+\d+)?,\s*inlined_at\s+(\d+\s+\d+\s+\d+))?\s*;"
)
"""A place in the source; where it was put in the place of a call, the function and where that call stands."""
STATEMENT: Final = re.compile(r"\s*(?:([$\w]+):(?!:)|(\{)|(\})|((?:[^;{}]|\{[^}]*\})+);)")
MEMORY: Final = re.compile(r"\[([%$\w]+)(?:\+(-?\d+))?\]$")


class Module:
    """The kernels of a PTX text."""

    def __init__(self, text: str) -> None:
        text = re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.DOTALL)
        text = re.sub(r"^\s*\.file\b[^\n]*$", "", text, flags=re.MULTILINE)
        text = re.sub(r"^(\s*\.loc\b[^\n]*)$", r"\1;", text, flags=re.MULTILINE)  # statements like all others
        functions = _names(text)
        text = re.sub(r"\.section\s+\.debug_str\s*\{[^}]*\}", "", text)
        self.text = re.sub(LOCATION, lambda match: " " * len(match[0]), text)
        entry = re.compile(r"\.entry\s+(\w+)\s*\(([^)]*)\)([^{]*)\{", re.DOTALL)
        first = entry.search(text)
        head = text[: first.start()] if first else text
        self.kernels: dict[str, Kernel] = {}
        self._programs: dict[str, Program] = {}
        for match in entry.finditer(text):
            self.kernels[match[1]] = _kernel(match[1], match[2], text, match.end(), head, functions)
        if re.search(r"\.func\b", text):
            raise PtxError("a function that was not put in place")

    def program(self, kernel: str) -> Program:
        if kernel not in self._programs:
            self._programs[kernel] = Program(self.kernels[kernel])
        return self._programs[kernel]


def _end(text: str, start: int) -> int:
    """Of a body that begins at `start`."""
    depth, at = 1, start
    while depth:
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        at += 1
    return at - 1


def _align(at: int, size: int) -> int:
    return -(-at // size) * size


def _variables(text: str, space: str, at: int) -> tuple[dict[str, int], int]:
    """Addresses of the variables of a space that a text declares, from `at` on; what has no size comes last."""
    symbols, open_ended = {}, []
    for align, name, size in re.findall(rf"\.{space}\s+\.align\s+(\d+)\s+\.b8\s+(\w+)\[(\d*)\]", text):
        at = _align(at, int(align))
        if not size:
            open_ended.append((name, int(align)))
            continue
        symbols[name], at = at, at + int(size)
    for name, align in open_ended:
        at = _align(at, align)
        symbols[name] = at
    return symbols, at


def _names(text: str) -> dict[str, str]:
    """Label -> name of a function, as `-lineinfo` has put them into a section of strings; without what it takes."""
    names = {}
    for label, data in re.findall(r"(\$L__info_string\d+):((?:\s*\.b8[^\n]*)+)", text):
        mangled = bytes(map(int, re.findall(r"\b\d+\b", data.replace(".b8", "")))).split(b"\0")[0].decode()
        parts = []
        rest = re.sub(r"^_ZN?K?", "", mangled)
        while (sized := re.match(r"(\d+)", rest)) is not None:
            size = int(sized[1])
            parts.append(rest[len(sized[1]) :][:size])
            rest = rest[len(sized[1]) + size :]
        names[label] = parts[-1] if parts else mangled
    return names


def _kernel(name: str, params: str, text: str, start: int, head: str, functions: Mapping[str, str]) -> Kernel:
    offsets, at = {}, 0
    for declared in filter(None, map(str.strip, params.split(","))):
        last = re.search(r"(\w+)(?:\[(\d+)\])?$", declared)
        size = int(last[2]) if last and last[2] else int(re.search(r"\.[busf](\d+)", declared)[1]) // 8  # type: ignore[index]
        align = re.search(r"\.param\s+\.align\s+(\d+)", declared)
        at = _align(at, int(align[1]) if align else size)
        offsets[last[1]] = (at, size)  # type: ignore[index]
        at += size
    end = _end(text, start)
    body = text[start:end]
    shared, static = _variables(head + body, "shared", 0)
    local, local_bytes = _variables(body, "local", 0)
    kernel = Kernel(name, [], {}, offsets, {**shared, **local}, static, _align(local_bytes, 16))
    _Reader(kernel, functions).read(text, start, end)
    return kernel


class _Reader:
    """Reads the body of a kernel."""

    def __init__(self, kernel: Kernel, functions: Mapping[str, str]) -> None:
        self.kernel, self.functions = kernel, functions
        self.origin: tuple[str, ...] = ()  # of what follows
        self.callers: dict[str, tuple[str, ...]] = {}  # place of a call -> the functions that it stands in
        self.labels: dict[str, int] = {}
        self.branches: list[tuple[Instruction, str]] = []
        self.named: dict[str, str] = {}  # registers that a scope declares by name
        self.scopes = 0

    def read(self, text: str, at: int, end: int) -> None:
        end = at + len(text[at:end].rstrip())
        while at < end:
            match = STATEMENT.match(text, at, end)
            if match is None:
                raise PtxError(f"cannot read: {text[at:end].strip().splitlines()[0]}")
            at = match.end()
            if match[1]:
                self.labels[match[1]] = len(self.kernel.instructions)
            elif match[2]:
                self.scopes += 1
            elif match[4]:
                self.statement(" ".join(match[4].split()), match.start(4))
        for instruction, label in self.branches:
            instruction.target = self.labels[label]
        _set_meetings(self.kernel.instructions)

    def statement(self, text: str, place: int) -> None:
        if text.startswith(".reg"):
            _, kind, names = text.split(None, 2)
            if kind[1:] not in BITS:
                raise PtxError(f"registers of a type that is not known: {text}")
            for name in (n.strip() for n in names.split(",")):
                many = re.match(r"(%\w+)<(\d+)>$", name)
                if many:
                    self.kernel.registers |= {f"{many[1]}{i}": BITS[kind[1:]] for i in range(int(many[2]))}
                else:
                    self.named[name] = f"{name}.{self.scopes}"
                    self.kernel.registers[self.named[name]] = BITS[kind[1:]]
        elif match := LOCATION.match(text + ";"):
            around = self.callers.get(match[3], ()) if match[3] else ()
            self.origin = (self.functions.get(match[2], match[2]), *around) if match[2] else ()
            self.callers[match[1]] = self.origin
        elif not text.startswith((".shared", ".local", ".pragma")):
            self.kernel.instructions.append(self.instruction(text))
            self.kernel.places.append(place)
            self.kernel.origins.append(self.origin)

    def operand(self, text: str) -> str | None:
        text = text.strip()
        return None if text == "_" else self.named.get(text, text)

    def instruction(self, text: str) -> Instruction:
        match = re.match(r"(?:@(!?)(%?\w+)\s+)?([\w.:]+)\s*(.*)$", text)
        if match is None:
            raise PtxError(f"cannot read: {text}")
        made = Instruction(text, match[3], self.operand(match[2]) if match[2] else None, match[1] == "!")
        parts = made.name.split(".")
        operands = _split(match[4])
        if parts[0] in ("ld", "st"):
            self.memory(made, parts, operands)
        elif parts[0] == "bra":
            made.name = "bra"
            self.branches.append((made, operands[0]))
        elif made.name in ("ret", "exit"):
            made.name = "ret"
        elif made.name in ("bar.sync", "barrier.sync", "barrier.sync.aligned", "bar.cta.sync"):
            made.name = "bar.sync"
            if operands != ["0"]:
                raise PtxError(f"a barrier of some of the threads: {text}")
        elif made.name == "bar.warp.sync":
            made.operands = [*[None] * (OPERANDS - 1), self.operand(operands[0])]
        elif parts[0] in ("shfl", "redux", "vote"):
            results = [self.operand(o) for o in operands[0].split("|")]
            rest = [self.operand(o) for o in operands[1:]]
            made.operands = [*results, None][:2] + rest[:-1]
            made.operands += [None] * (OPERANDS - 1 - len(made.operands)) + [rest[-1]]
            made.results = 2
        elif parts[0] == "mov" and operands[0].startswith("{"):
            made.name, made.results = f"unpack.{parts[1][1:]}", 2
            made.operands = [*map(self.operand, operands[0][1:-1].split(",")), self.operand(operands[1])]
        elif parts[0] == "mov" and operands[1].startswith("{"):
            made.name, made.results = f"pack.{parts[1][1:]}", 1
            made.operands = [self.operand(operands[0]), *map(self.operand, operands[1][1:-1].split(","))]
        else:
            made.operands, made.results = [self.operand(o) for o in operands], 1
            if (
                parts[0] == "cvt"
                and not parts[-1].endswith("64")
                and self.kernel.registers.get(made.operands[1] or "") == 64
            ):
                made.name = ".".join([*parts[:-1], "64", parts[-1]])
        if _library().ptx_operation(made.name.encode()) < 0:
            raise PtxError(f"the instruction {match[3]} is not known: {text}")
        return made

    def memory(self, made: Instruction, parts: list[str], operands: list[str]) -> None:
        load = parts[0] == "ld"
        rest = [part for part in parts[1:] if part.partition("::")[0] not in (*HINTS, "L1", "L2")]
        if rest and rest[0].partition("::")[0] in SPACES:
            made.space = SPACES[rest.pop(0).partition("::")[0]]
        if rest and rest[0] in ("v2", "v4"):
            made.count = int(rest.pop(0)[1])
        address, values = (operands[1], operands[0]) if load else (operands[0], operands[1])
        match = MEMORY.match(address.replace(" ", ""))
        if match is None:
            raise PtxError(f"an address that cannot be read: {made.text}")
        base, made.offset = self.named.get(match[1], match[1]), int(match[2] or 0)
        if made.space == SPACES["param"]:
            made.offset += self.kernel.params[base][0]
            base = "0"
        made.wide = self.kernel.registers.get(base) == 64
        each = [self.operand(v) for v in values.strip("{}").split(",")]
        made.operands = [*each, base] if load else [base, *each]
        made.results = len(each) if load else 0
        wider = not rest[-1].endswith("64") and self.kernel.registers.get(each[0] or "") == 64
        made.name = ".".join([parts[0], *["64"] * wider, *rest])


def _split(text: str) -> list[str]:
    """Operands, apart at commas that are in no braces."""
    return [part.strip() for part in re.split(r",(?![^{\[]*[}\]])", text)] if text else []


def successors(instructions: Sequence[Instruction], at: int) -> tuple[int, ...]:
    """Of an instruction; the end is `len(instructions)`."""
    this = instructions[at]
    onwards = (at + 1,) if this.guard or this.name not in ENDS else ()
    if this.name == "bra":
        return (*onwards, this.target)
    return (*onwards, len(instructions)) if this.name == "ret" else onwards


def straight_runs(instructions: Sequence[Instruction]) -> list[tuple[int, int]]:
    """Straight runs of instructions [first, last): only the last may branch, only the first is branched to."""
    starts = {0} | {i.target for i in instructions if i.name == "bra"}
    starts |= {k + 1 for k, i in enumerate(instructions) if i.name in ENDS}
    ordered = sorted(s for s in starts if s < len(instructions))
    return list(zip(ordered, [*ordered[1:], len(instructions)], strict=True))


def _set_meetings(instructions: list[Instruction]) -> None:
    """The immediate post-dominator of each conditional branch."""
    blocks = straight_runs(instructions)
    number = {first: k for k, (first, _) in enumerate(blocks)}
    end = number[len(instructions)] = len(blocks)
    after = [[number[s] for s in successors(instructions, last - 1)] for _, last in blocks]
    everything = (1 << (end + 1)) - 1
    passed = [everything] * end + [1 << end]  # blocks that every way to the end leads through, as bits
    changed = True
    while changed:
        changed = False
        for k in reversed(range(end)):
            common = everything
            for s in after[k]:
                common &= passed[s]
            common |= 1 << k
            if common != passed[k]:
                passed[k], changed = common, True
    for k, (_, last) in enumerate(blocks):
        branch = instructions[last - 1]
        if branch.name != "bra" or not branch.guard:
            continue
        strict = passed[k] & ~(1 << k)
        # The nearest of them is the one that all others are passed after.
        nearest = next(m for m in range(end + 1) if strict >> m & 1 and passed[m] == strict)
        branch.meeting = NONE if nearest == end else blocks[nearest][0]


# --- running it


class _Instruction(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int) for name in ("operation", "guard", "unless")),
        ("slots", ctypes.c_int * OPERANDS),
        *((name, ctypes.c_int) for name in ("space", "count", "wide", "target", "meeting")),
        ("offset", ctypes.c_longlong),
    ]


class _Constant(ctypes.Structure):
    _fields_ = [("slot", ctypes.c_longlong), ("wide", ctypes.c_longlong), ("value", ctypes.c_ulonglong)]


class _Range(ctypes.Structure):
    _fields_ = [
        ("first", ctypes.c_ulonglong), ("last", ctypes.c_ulonglong), ("memory", ctypes.c_void_p), ("writable", ctypes.c_longlong),
    ]  # fmt: skip


class _Launch(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("code", "constants", "ranges", "blocks", "params", "counts", "message")),
        *((name, ctypes.c_longlong) for name in (
            "n_code", "n_slots", "n_constants", "n_ranges", "n_blocks", "grid", "param_bytes", "shared_bytes", "local_bytes",
            "threads", "schedule", "races",
        )),
        ("special", ctypes.c_int * len(SPECIALS)),
    ]  # fmt: skip


@functools.cache
def _library() -> ctypes.CDLL:
    """`ptx.cpp`, built once a process."""
    compiler = shutil.which("g++")
    if compiler is None:
        raise PtxError("g++ is needed to run PTX")
    machine = ["-mfma"] if "fma" in Path("/proc/cpuinfo").read_text().split() else []
    with tempfile.TemporaryDirectory() as folder:
        out = f"{folder}/ptx.so"
        command = [compiler, "-std=c++20", "-O1", *machine, "-ffp-contract=off", "-shared", "-fPIC"]
        done = subprocess.run(
            [*command, "-o", out, str(Path(__file__).with_suffix(".cpp"))], capture_output=True, text=True
        )
        if done.returncode:
            raise PtxError(done.stderr)
        library = ctypes.CDLL(out)
    sizes = (ctypes.c_int * 2)()
    library.ptx_sizes(sizes)
    assert tuple(sizes) == (ctypes.sizeof(_Instruction), ctypes.sizeof(_Launch))
    return library


@dataclass(frozen=True)
class Memory:
    """Bytes of the host that a kernel finds at an address of our choice."""

    array: npt.NDArray[Any]
    address: int
    writable: bool = False


class Program:
    """A kernel with its registers in slots, ready to run."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        constants = _constants(kernel)
        registers, n = _slots(kernel)
        slots: dict[tuple[str, bool], int] = {}
        self.constants = (_Constant * len(constants))()
        for k, ((text, wide), bits) in enumerate(constants.items()):
            slots[text, wide], n = n, n + 1 + wide
            self.constants[k] = _Constant(slots[text, wide], wide, bits)
        self.special = (ctypes.c_int * len(SPECIALS))(*[NONE] * len(SPECIALS))
        for text in {o for i in kernel.instructions for o in i.reads if o in SPECIALS}:
            self.special[SPECIALS[text]] = slots[text, False] = n
            n += 1
        self.n_slots = n
        self.code = (_Instruction * len(kernel.instructions))()
        for k, i in enumerate(kernel.instructions):
            found = [
                NONE if o is None else registers[o] if o in registers else slots[o, o not in SPECIALS and wide]
                for o, wide in zip(i.operands, _widths(i), strict=True)
            ]
            order = _address_first(i)
            self.code[k] = _Instruction(
                _library().ptx_operation(i.name.encode()),
                registers[i.guard] if i.guard else NONE,
                i.unless,
                (ctypes.c_int * OPERANDS)(*[found[j] for j in order], *[NONE] * (OPERANDS - len(order))),
                i.space, i.count, i.wide, i.target, i.meeting, i.offset,
            )  # fmt: skip

    def launch(
        self,
        grid: int,
        threads: int,
        arguments: Sequence[int],
        memory: Iterable[Memory],
        shared_bytes: int = 0,
        blocks: Iterable[int] | None = None,
        schedule: str = "converged",
        races: bool = True,
    ) -> npt.NDArray[np.uint64]:
        """Run a launch of `grid` blocks, all of them unless some are given; returns how often a warp issued each instruction.

        Arguments are integers: addresses, and numbers that are no floats. `shared_bytes` come beside what the kernel declares
        itself. With `races` it looks for threads that touch shared memory while others change it.

        Raises:
            PtxError: the kernel does what it may not do; names the instruction, the block and the thread.
        """
        kernel = self.kernel
        params = np.zeros(max([1, *(at + size for at, size in kernel.params.values())]), np.uint8)
        for value, (at, size) in zip(arguments, kernel.params.values(), strict=True):
            params[at : at + size] = np.frombuffer(int(value).to_bytes(size, "little", signed=value < 0), np.uint8)
        held = list(memory)
        ranges = (_Range * len(held))(*(
            _Range(m.address, m.address + m.array.nbytes, m.array.ctypes.data, m.writable) for m in held
        ))  # fmt: skip
        numbers = np.array(range(grid) if blocks is None else list(blocks), np.int64)
        counts = np.zeros(len(kernel.instructions), np.uint64)
        message = ctypes.create_string_buffer(512)
        launch = _Launch(
            *(ctypes.cast(p, ctypes.c_void_p) for p in (self.code, self.constants, ranges)),
            numbers.ctypes.data, params.ctypes.data, counts.ctypes.data, ctypes.cast(message, ctypes.c_void_p),
            len(self.code), self.n_slots, len(self.constants), len(held), len(numbers), grid, params.nbytes,
            _align(kernel.static_bytes, 16) + shared_bytes, kernel.local_bytes, threads, SCHEDULES.index(schedule), races,
            self.special,
        )  # fmt: skip
        failed = _library().ptx_run(ctypes.byref(launch))
        if failed:
            raise PtxError(f"{kernel.name}: {kernel.instructions[failed - 1].text}: {message.value.decode()}")
        return counts


def _address_first(i: Instruction) -> list[int]:
    """The order of operands that ptx.cpp takes: the address of a load before its values."""
    order = list(range(len(i.operands)))
    return [order[-1], *order[:-1]] if i.name.startswith("ld.") else order


def _widths(i: Instruction) -> list[bool]:
    """For each operand of an instruction, whether it has 64 bits."""
    parts = i.name.split(".")
    wide, n = parts[-1].endswith("64"), len(i.operands)
    if parts[0] in ("ld", "st"):
        each = [wide or parts[1] == "64"] * (n - 1)
        return [*each, i.wide] if parts[0] == "ld" else [i.wide, *each]
    if parts[0] in ("setp", "mov", "selp") or n == 0:
        return [wide and (parts[0], k) not in (("setp", 0), ("selp", 3)) for k in range(n)]
    if parts[0] == "cvt":
        return [parts[-3 if parts[-2] == "64" else -2].endswith("64"), *[wide or parts[-2] == "64"] * (n - 1)]
    if parts[0] == "pack":
        return [wide, False, False]
    if parts[0] == "unpack":
        return [False, False, wide]
    if parts[0] in ("shl", "shr"):
        return [wide, wide, False]
    if parts[1:2] == ["wide"]:
        return [k in (0, 3) and parts[-1].endswith("32") for k in range(n)]
    return [wide] * n


def _constants(kernel: Kernel) -> dict[tuple[str, bool], int]:
    """Operands that are no registers, with their width -> bits."""
    found = {}
    for i in kernel.instructions:
        for operand, wide in zip(i.operands, _widths(i), strict=True):
            if operand is None or operand in SPECIALS:
                continue
            if operand in kernel.registers:
                if (kernel.registers[operand] == 64) != wide:
                    raise PtxError(f"the width of {operand} is not known: {i.text}")
                continue
            if operand in kernel.symbols:
                bits = kernel.symbols[operand]
            elif re.match(r"0[fF][0-9a-fA-F]{8}$", operand):
                bits = int(operand[2:], 16)
            elif re.match(r"-?(0x[0-9a-fA-F]+|\d+)U?$", operand):
                bits = int(operand.rstrip("U"), 0) & (2**64 - 1 if wide else 2**32 - 1)
            else:
                raise PtxError(f"the operand {operand} is not known: {i.text}")
            found[operand, wide] = bits
    return found


def _slots(kernel: Kernel) -> tuple[dict[str, int], int]:
    """Register -> slot, and the number of slots: registers that live at different times share them.

    A register lives from the first to the last instruction, in the order of the text, before which its value may be needed.
    """
    instructions = kernel.instructions
    number = {name: k for k, name in enumerate(kernel.registers)}
    blocks = straight_runs(instructions)
    at = {first: k for k, (first, _) in enumerate(blocks)}
    gains, kills = [], []
    for first, last in blocks:
        needed = written = 0
        for i in instructions[first:last]:
            for r in i.reads:
                if r in number and not written >> number[r] & 1:
                    needed |= 1 << number[r]
            if not i.guard:
                for r in i.writes:
                    written |= 1 << number[r]
        gains.append(needed)
        kills.append(written)
    before, after = list(gains), [0] * len(blocks)
    changed = True
    while changed:
        changed = False
        for k in reversed(range(len(blocks))):
            out = 0
            for s in successors(instructions, blocks[k][1] - 1):
                out |= before[at[s]] if s in at else 0
            need = gains[k] | (out & ~kills[k])
            if out != after[k] or need != before[k]:
                before[k], after[k], changed = need, out, True
    spans: dict[int, list[int]] = {}

    def live(register: int, place: int) -> None:
        span = spans.setdefault(register, [place, place])
        span[0], span[1] = min(span[0], place), max(span[1], place)

    for k, (first, last) in enumerate(blocks):
        for bits, place in ((before[k], first), (after[k], last - 1)):
            for register in _members(bits):
                live(register, place)
        for place in range(first, last):
            for r in (*instructions[place].reads, *instructions[place].writes):
                if r in number:
                    live(number[r], place)
    names, sizes = list(kernel.registers), list(kernel.registers.values())
    free: dict[int, list[int]] = {
        bits: [] for bits in BITS.values()
    }  # a predicate is one word for all lanes: kept apart
    ending: dict[int, list[int]] = {}
    slots: dict[str, int] = {}
    n, now = 0, 0
    for register, (first, last) in sorted(spans.items(), key=lambda item: item[1]):
        while now < first:  # slots of what ended before this one begins
            for ended in ending.pop(now, ()):
                free[sizes[ended]].append(slots[names[ended]])
            now += 1
        bits = sizes[register]
        if free[bits]:
            slots[names[register]] = free[bits].pop()
        else:
            slots[names[register]], n = n, n + 1 + (bits == 64)
        ending.setdefault(last, []).append(register)
    return slots, n


def _members(bits: int) -> Iterator[int]:
    while bits:
        low = bits & -bits
        yield low.bit_length() - 1
        bits ^= low


# --- what the CUDA backend launches

FIRST_ADDRESS: Final = 0x7F00_0000_0000
"""Of the memory of a launch; each array has 2**40 addresses to itself."""


def run(
    generator: str,
    plan: cuda.LaunchPlan,
    params: npt.NDArray[Any],
    windows: npt.NDArray[np.int32],
    target: Sequence[Memory],
    address: int,
    step: cuda.Step | None = None,
    blocks: Mapping[str, Iterable[int]] | None = None,
    **how: Any,
) -> dict[str, npt.NDArray[np.uint64]]:
    """The kernels of a launch plan, or `step` in their place; returns how often a warp issued each instruction, by kernel.

    The output begins at `address`; `target` is what there is of it, so the whole can have any size. `blocks` of each kernel
    run, all of them unless they are given. More options are those of `Program.launch`.
    """
    module = module_of(generator)
    packed = np.ascontiguousarray(params, GENERATORS[generator].params_dtype).view(np.uint8)
    scratch = [np.full(max(1, size), 0xAA, np.uint8) for size in plan.scratch]
    places = [FIRST_ADDRESS + (k << 40) for k in range(2 + len(scratch))]
    windows = np.ascontiguousarray(windows, np.int32)
    memory = [
        Memory(packed, places[0]), Memory(windows, places[1]), *target,
        *(Memory(array, place, True) for array, place in zip(scratch, places[2:], strict=True)),
    ]  # fmt: skip
    arguments = plan.arguments(places[0], places[1], address, places[2:])
    return {
        s.kernel: module.program(s.kernel).launch(
            s.blocks, s.threads, arguments, memory, s.shared_bytes, blocks[s.kernel] if blocks else None, **how
        )
        for s in ([step] if step else plan.steps)
    }
