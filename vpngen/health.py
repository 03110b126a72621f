"""What `vpngen doctor` looks at: versions, processor, caches, tools; and whether the fast backend gives the right bytes."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import platform
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vpngen import __version__, backends, systems
from vpngen.errors import VpngenError
from vpngen.rendering import Window, render
from vpngen.spec import Spec, mixed, perlin
from vpngen.units import size_text, usable_cpus

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
        *map(_package, PACKAGES),
        _processor(),
        *_cards(),
        _systems(),
        *_backends(),
        _kernel_cache(),
        _ffmpeg(),
        _disk(),
    ]


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _package(name: str) -> Finding:
    version = _version(name)
    return Finding(name, version) if version else Finding(name, "not installed", False, f"pip install {name}")


def _processor() -> Finding:
    cpus = usable_cpus()
    try:
        from vpngen.backends.cpu import processor

        name, fused = processor()
    except ImportError:
        return Finding("processors", f"{cpus} usable")
    note = "" if fused else ", no fused multiply-add: rendering is right but slow"
    return Finding("processors", f"{cpus} usable, {name}{note}")


def _cards() -> list[Finding]:
    """CuPy, torch, NVRTC, the driver and the cards, as far as they are here; a machine needs none of them."""
    found = [Finding(n, version) for n in ("cupy-cuda12x", "cupy-cuda13x", "torch") if (version := _version(n))]
    from vpngen.backends.cuda import describe

    return [*found, *(Finding(name, value) for name, value in describe())]


def _systems() -> Finding:
    """The categories of fractals that come with the package."""
    found = len(systems.read_found(systems.SHIPPED, 0))
    if not found:
        return Finding("systems", "damaged or missing", False, "pip install --force-reinstall vpngen")
    return Finding("systems", f"{found:,} of fractals come with the package")


def _trials() -> dict[str, tuple[Spec, list[int], int]]:
    """What backends are tried on, by what it is called: a spec, videos of every kind, and one to time."""
    noise = perlin(categories=400, instances=1)
    trials = {"noise": (noise, [i * 44 % noise.n_videos() for i in range(10)], 189)}
    if systems.read_found(systems.SHIPPED, 0):
        fractals = systems.fractal(8, 5, shape=noise.shape, points_per_frame=400)
        both = mixed(dataclasses.replace(noise, instances=5), fractals)
        trials["fractals"] = both, [400 + i % 8 + i // 2 * 408 for i in range(10)], 400
    return trials


def _backends() -> list[Finding]:
    """Each backend against the reference on windows of every kind of cell and of fractals, and its speed on one thread."""
    findings = []
    windows = [Window(t=(i, i + 9, 2), y=(i, i + 20), x=(3 * i, 3 * i + 33), flip=bool(i % 2)) for i in range(0, 60, 6)]
    trials = _trials()
    expected = {n: render(spec, videos, windows, backend="reference") for n, (spec, videos, _) in trials.items()}
    for name in backends.BACKENDS:
        try:
            same = all(
                np.array_equal(render(spec, videos, windows, backend=name, threads=1), expected[n])
                for n, (spec, videos, _) in trials.items()
            )
        except VpngenError as error:
            if name in NEEDED:
                findings.append(Finding(f"backend {name}", "not available", False, str(error)))
            else:
                findings.append(Finding(f"backend {name}", f"not here: {error}"))
            continue
        rates = []
        for kind, (spec, _, video) in trials.items():
            window = Window(t=(0, 48))
            out = np.empty((48, 240, 240), np.uint8)
            start = time.perf_counter()
            render(spec, video, window, backend=name, threads=1, out=out)
            rates.append(f"{size_text(out.size / (time.perf_counter() - start))} of {kind}")
        findings.append(
            Finding(f"backend {name}", f"right, {' or '.join(rates)} a second on one thread")
            if same
            else Finding(
                f"backend {name}", "WRONG PIXELS", False, "please report this with the output of vpngen doctor"
            )
        )
    return findings


def _kernel_cache() -> Finding:
    try:
        from vpngen.backends import numba_perlin
    except ImportError:
        return Finding("kernel cache", "none", False, "pip install numba")
    folder = numba_perlin.run.stats.cache_path or ""
    good = bool(folder) and os.access(folder, os.W_OK)
    return Finding("kernel cache", str(folder) or "none", good, "set NUMBA_CACHE_DIR to a folder that can be written")


def _ffmpeg() -> Finding:
    try:
        import imageio_ffmpeg

        path = imageio_ffmpeg.get_ffmpeg_exe()
        line = subprocess.run([path, "-version"], capture_output=True, text=True, check=True, timeout=60).stdout
        return Finding("ffmpeg", " ".join(line.split()[:3]))
    except (ImportError, RuntimeError, OSError, subprocess.SubprocessError):
        return Finding("ffmpeg", "none", False, "pip install --force-reinstall imageio-ffmpeg")


def _disk() -> Finding:
    import shutil

    return Finding("disk", f"{size_text(shutil.disk_usage(Path.cwd()).free)} free in the current folder")
