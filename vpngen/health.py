"""What `vpngen doctor` examines: versions, CPU, GPUs, caches, tools; whether all backends give the right bytes; and object stores."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from vpngen import __version__, backends
from vpngen.backends import cuda
from vpngen.errors import ArgumentError, MissingError, UnreachableError, VpngenError
from vpngen.generators import kinds
from vpngen.rendering import Window, render
from vpngen.spec import Spec
from vpngen.units import size_text, usable_cpus

if TYPE_CHECKING:
    from vpngen.store.places import Objects

PACKAGES = ("numpy", "numba", "llvmlite", "zarr", "numcodecs", "crc32c", "click", "rich", "pillow", "imageio-ffmpeg")
NEEDED = ("numba", "reference")
"""The backends that run on every machine; others are a bonus."""


@dataclass(frozen=True)
class Finding:
    """One line of the report; `remedy` says what to do where it is not `good`."""

    name: str
    value: str
    good: bool = True
    remedy: str = ""


def examine() -> list[Finding]:
    """Everything `vpngen doctor` shows, in order."""
    return [
        Finding("vpngen", __version__),
        Finding("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        *_packages(PACKAGES, needed=True),
        _processor(),
        *_packages(("cupy-cuda12x", "cupy-cuda13x", "torch"), needed=False),
        *(Finding(name, value) for name, value in cuda.describe()),
        *_generators(),
        *_backends(),
        _kernel_cache(),
        _ffmpeg(),
        Finding("disk", f"{size_text(shutil.disk_usage(Path.cwd()).free)} free in the current folder"),
    ]


PROBE_BYTES: Final = 32 * 2**20
"""What is sent to an object store and read again, to see how fast that is: in parts, as shards are."""


def examine_objects(place: Objects) -> list[Finding]:
    """What `vpngen doctor URL` shows: whether an object store can what stores need, and how fast it is. It leaves nothing there.

    Only where the server goes meanwhile, what was sent stays.

    Raises:
        ArgumentError: no such bucket, or it cannot be reached that way.
        UnreachableError: nothing answers.
    """
    probe, data = f"doctor-{uuid.uuid4().hex}", np.random.default_rng(0).bytes(PROBE_BYTES)
    seconds: dict[str, float] = {}

    def created_once() -> str:
        place.put(probe, b"1", create=True)
        with contextlib.suppress(FileExistsError):
            place.put(probe, b"2", create=True)
            raise MissingError("a second create-only PUT of the same object was not refused")
        if place.read(probe) != b"1":
            raise MissingError("a refused create-only PUT changed the object")
        return "the second of two was refused"

    def sent() -> str:
        start = time.perf_counter()
        place.put(probe, iter([data]))
        seconds["sent"] = time.perf_counter() - start
        return f"{size_text(PROBE_BYTES / seconds['sent'])} a second"

    def suffix() -> str:
        size, tail = place.end(probe, 1000)
        if (size, tail) != (len(data), data[-1000:]):
            raise MissingError(f"a suffix range gave {len(tail)} bytes of {size:,}, and not the last of {len(data):,}")
        return "right: the last bytes, and the size of all"

    def ranges() -> str:
        start, step = time.perf_counter(), PROBE_BYTES // 32
        with ThreadPoolExecutor(place.in_flight) as pool:
            parts = pool.map(lambda first: bytes(place.range(probe, first, step)), range(0, PROBE_BYTES, step))
            if b"".join(parts) != data:
                raise MissingError("ranges gave other bytes than were sent")
        took = time.perf_counter() - start
        begun = time.perf_counter()
        place.range(probe, 5, 5)
        return f"{size_text(PROBE_BYTES / took)} a second; one takes {(time.perf_counter() - begun) * 1000:.0f} ms"

    def listed() -> str:
        found = place.sizes("")
        if "sent" in seconds and found.get(probe) != PROBE_BYTES:
            raise MissingError("an object that was sent is not listed")
        return "lists what was sent at once" if "sent" in seconds else "works"

    def removed() -> str:
        place.delete(probe)
        if probe in place.sizes(""):
            raise MissingError("an object that was removed is still listed")
        return "works"

    needs = {
        "create-only PUT": (created_once, "claims and records need it: ask for If-None-Match, S3 has it since 2024"),
        "PUT in parts": (sent, "shards need it: allow multipart uploads"),
        "suffix range": (suffix, "sharded Zarr needs `Range: bytes=-N` answered with 206; another server has it"),
        "ranges": (ranges, "readers need them"),
        "list": (listed, "resume needs it: allow ListBucket on the prefix"),
        "delete": (
            removed,
            f"claims need it: allow it on the prefix, and remove {place}/{probe} by hand; S3 look-alikes may need disable_bulk_delete=true",
        ),
    }
    findings = [Finding("objects", str(place)), *_packages(("obstore",), needed=True)]
    reached = True
    try:
        for name, (tried, remedy) in needs.items():
            if "sent" not in seconds and tried in (suffix, ranges):
                findings.append(Finding(name, "not tried: there is nothing to read", False, remedy))
                continue
            try:
                findings.append(Finding(name, tried()))
            except (ArgumentError, UnreachableError):
                raise
            except (VpngenError, OSError) as error:
                findings.append(Finding(name, f"FAILS: {error}", False, remedy))
    except UnreachableError:
        reached = False
        raise
    finally:
        if reached:
            with contextlib.suppress(VpngenError, OSError):
                place.delete(probe)
    return findings


def _packages(names: Iterable[str], needed: bool) -> Iterator[Finding]:
    for name in names:
        try:
            yield Finding(name, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            if needed:
                yield Finding(name, "not installed", False, f"pip install {name}")


def _processor() -> Finding:
    value = f"{usable_cpus()} usable"
    with contextlib.suppress(ImportError, MissingError):  # as numba is not there, or may not compile
        from vpngen.backends.cpu import processor

        name, fused = processor()
        value += f", {name}" if fused else f", {name}, no fused multiply-add: rendering is right but slow"
    return Finding("CPUs", value)


def trials() -> dict[str, Spec]:
    """What backends are tried on: a small set of each generator of which nothing is missing."""
    return {kind.name: Spec.make(kind.name, **kind.trial) for kind in kinds() if kind.missing() is None}


def _generators() -> list[Finding]:
    return [
        Finding(f"generator {kind.name}", "not whole" if problem else kind.title, not problem, problem or "")
        for kind, problem in ((kind, kind.missing()) for kind in kinds())
    ]


def _backends() -> Iterator[Finding]:
    """Each backend against the reference on windows of videos of every generator, and its speed on one thread."""
    windows = [Window(t=(i, i + 9, 2), y=(i, i + 20), x=(3 * i, 3 * i + 33), flip=bool(i % 2)) for i in range(0, 60, 6)]
    sets = trials()
    videos = {n: np.linspace(0, spec.n_videos() - 1, len(windows)).astype(int) for n, spec in sets.items()}
    expected = {n: render(spec, videos[n], windows, backend="reference") for n, spec in sets.items()}
    for name in backends.BACKENDS:
        rates, wrong, absent = [], [], {}
        for n, spec in sets.items():
            out = np.empty((48, *spec.shape[1:]), np.uint8)
            try:
                same = np.array_equal(render(spec, videos[n], windows, backend=name, threads=1), expected[n])
                start = time.perf_counter()
                render(spec, int(videos[n][5]), Window(t=(0, 48)), backend=name, threads=1, out=out)
            except VpngenError as error:
                absent[n] = str(error)
                continue
            rates.append(f"{size_text(out.size / (time.perf_counter() - start))} of {n}")
            if not same:
                wrong.append(n)
        good, remedy, why = not wrong, "", next(iter(absent.values()), "no generator to try it on")
        if wrong:
            value, remedy = (
                f"WRONG PIXELS of {' and '.join(wrong)}",
                "please report this with the output of vpngen doctor",
            )
        elif rates:
            without = f"; not for {' and '.join(absent)}" if absent else ""
            value = f"right, {' or '.join(rates)} a second on one thread{without}"
        elif name in NEEDED:
            value, good, remedy = "not available", False, why
        else:
            value = f"not here: {why}"
        yield Finding(f"backend {name}", value, good, remedy)


def _kernel_cache() -> Finding:
    """Asked after `_backends`, which has used it."""
    try:
        kernels = backends.kernels("numba", kinds()[0].name)
    except MissingError as error:
        return Finding("kernel cache", "none", False, str(error))
    from vpngen.backends.compiled import cache_state

    folder, problem = cache_state(kernels.run)
    remedy = (
        f"{problem}; kernels are compiled anew in each process: set NUMBA_CACHE_DIR to a folder with 64 MB to write in"
    )
    return Finding("kernel cache", folder or "none", not problem, remedy)


def _ffmpeg() -> Finding:
    try:
        import imageio_ffmpeg

        path = imageio_ffmpeg.get_ffmpeg_exe()
        line = subprocess.run([path, "-version"], capture_output=True, text=True, check=True, timeout=60).stdout
        return Finding("ffmpeg", " ".join(line.split()[:3]))
    except (ImportError, RuntimeError, OSError, subprocess.SubprocessError):
        return Finding("ffmpeg", "none", False, "pip install --force-reinstall imageio-ffmpeg")
