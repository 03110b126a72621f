"""Where the categories of `fractal` come from: a search that anybody can repeat, or the files that FractalDB published.

A category is the first candidate of its number whose 100,000 points stay near the origin and fill a fifth of the canvas:
a pure function of (search seed, category). The finished search of seed 0 comes with the package, others are kept in a cache.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from vpngen import backends, checks, files
from vpngen.errors import ArgumentError, MissingError, RunError
from vpngen.generators import Fractal, Progress, Shape
from vpngen.generators import fractal as _fractal
from vpngen.units import usable_cpus

MOST_ATTEMPTS: Final = 2**16
"""Candidates of a category, of which one in fifty is accepted."""
ATTEMPTS_AT_ONCE: Final = 64
MOST_TABLE: Final = 2**16
"""Bytes of one of FractalDB's files, which have at most 7 lines of 7 numbers."""
FORM: Final = "vpngen systems 1"

USUAL_WEIGHT: Final = 0.4
"""FractalDB's best, for which the usable variants are kept with the systems."""

_T = TypeVar("_T")


def make(
    categories: int | None,
    shape: Shape,
    progress: Progress | None = None,
    *,
    ifs_dir: str | Path | None = None,
    **choices: Any,
) -> Fractal:
    """A generator with so many systems, for videos of `shape` (t, y, x).

    Args:
        categories: the number of iterated function systems; None for 1,000, or for all in `ifs_dir`.
        shape: of the videos.
        progress: called with (categories found, categories) while a search runs.
        ifs_dir: a folder of FractalDB's category files, in place of a search: one CSV a category, in the order of their
            names, a row of a, b, c, d, e, f, probability for each map.
        choices: the other fields: search_seed (without `ifs_dir`), weight, flips, draw, points_per_frame, trail, pad, level.

    Raises:
        ArgumentError: counts out of range, files that are no systems.
        MissingError: the numba backend, which searches, cannot run here.
    """
    if ifs_dir is not None and "search_seed" in choices:
        raise ArgumentError("is of a search, and category files take its place; leave one of them out", "search_seed")
    n = 1000 if ifs_dir is None else 1
    if categories is not None:
        categories = n = checks.integer("categories", categories, 1, _fractal.MOST_CATEGORIES)
    # What else is wrong is said before a search, which can take minutes.
    made = Fractal((1,) * n, attempts=(0,) * n, **choices)
    made.check(shape)
    if ifs_dir is not None:
        table, sizes = read_folder(Path(ifs_dir), categories)
        made = replace(made, variants=(1,) * len(sizes), attempts=(), table=table, sizes=sizes)
    else:
        attempts, variants = search(n, made.search_seed, progress)
        made = replace(made, variants=variants, attempts=attempts)
        if made.weight == USUAL_WEIGHT:
            return made
    return replace(made, variants=tuple(_variants(made, ifs_dir, progress)))


# --- the search


def search(categories: int, seed: int, progress: Progress | None = None) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The accepted attempt of each of the first `categories`, and the bits of its usable variants.

    Raises:
        MissingError: the numba backend cannot run here.
        RunError: a category of which no candidate is accepted.
    """
    known = max(read_found(SHIPPED, seed), read_found(_cache(seed), seed), key=len)
    if len(known) < categories:
        known += _search(len(known), categories, seed, progress)
        with contextlib.suppress(OSError, MissingError):  # a cache that cannot be written costs time, not results
            write_found(_cache(seed), seed, known)
    return tuple(a for a, _ in known[:categories]), tuple(v for _, v in known[:categories])


def _search(first: int, last: int, seed: int, progress: Progress | None) -> list[tuple[int, int]]:
    backend = backends.kernels("numba", "fractal")

    def one(category: int) -> tuple[int, int]:
        attempt = accepted(category, seed, backend)
        return attempt, usable_variants(*_fractal.candidates(seed, [category], [attempt]), USUAL_WEIGHT, backend)

    return _in_parallel(one, range(first, last), progress)


def accepted(category: int, seed: int, backend: Any) -> int:
    """The first attempt of a category that the search accepts. Raises RunError where it gives up."""
    enough = int(np.ceil(_fractal.FILL_RATE * _fractal.SEARCH_SHAPE[1] * _fractal.SEARCH_SHAPE[2]))
    for start in range(0, MOST_ATTEMPTS, ATTEMPTS_AT_ONCE):
        systems, keys = _fractal.candidates(seed, category, start + np.arange(ATTEMPTS_AT_ONCE))
        found = backend.fill(_fractal.trials(systems, keys), enough)
        if len(good := np.flatnonzero(found[:, 1] >= enough)):
            return start + int(good[0])
    raise RunError(f"none of {MOST_ATTEMPTS:,} candidates of category {category}, search seed {seed}, fills the canvas")


def usable_variants(systems: _fractal.Systems, keys: npt.NDArray[np.uint32], weight: float, backend: Any) -> int:
    """The bits of the variants of one system (1,) whose orbits stay near the origin and fill a hundredth of the canvas."""
    weighted = np.repeat(_fractal.trials(systems, keys), _fractal.VARIANTS)
    weighted["maps"] *= _fractal.factors(weight)[:, None, :]
    found = backend.fill(weighted)
    least = _fractal.VARIANT_RATE * _fractal.SEARCH_SHAPE[1] * _fractal.SEARCH_SHAPE[2]
    return sum(1 << v for v in range(_fractal.VARIANTS) if found[v, 1] >= least)


# --- what was found, on disk

SHIPPED: Final = Path(_fractal.__file__).with_name("systems.txt")
"""The search of seed 0, 1,000 categories: it comes with the package."""


def _cache(seed: int) -> Path:
    folder = os.environ.get("VPNGEN_CACHE_DIR") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "vpngen")
    try:
        return Path(folder).expanduser() / f"systems-{seed}.txt"
    except RuntimeError:  # nobody's home: nothing is kept
        return Path(os.devnull, f"systems-{seed}.txt")


def read_found(path: Path, seed: int) -> list[tuple[int, int]]:
    """(attempt, variants) of the categories in a file that `write_found` made; none where it is missing or damaged."""
    try:
        head, _, body = files.read(path).decode("ascii").partition("\n")
        if head != f"{FORM} seed {seed} sha256 {hashlib.sha256(body.encode()).hexdigest()}":
            return []
        lines = (line.split() for line in body.splitlines())
        return [(int(attempt), int(variants, 16)) for attempt, variants in lines]
    except (OSError, ValueError):
        return []


def write_found(path: Path, seed: int, found: list[tuple[int, int]]) -> None:
    """Write what a search found, in one step. Raises OSError or MissingError."""
    body = "".join(f"{attempt} {variants:07x}\n" for attempt, variants in found).encode()
    files.write(path, f"{FORM} seed {seed} sha256 {hashlib.sha256(body).hexdigest()}\n".encode() + body)


# --- FractalDB's files


def read_folder(folder: Path, categories: int | None = None) -> tuple[str, tuple[int, ...]]:
    """The `table` and `sizes` of `Fractal` from a folder of CSV files, and of its subfolders. Raises ArgumentError."""
    if not folder.is_dir():
        raise ArgumentError("is not a folder", "ifs_dir", str(folder))
    paths = sorted(folder.rglob("*.csv"), key=lambda path: (path.name, str(path)))
    if not paths:
        raise ArgumentError("holds no .csv files", "ifs_dir", str(folder))
    if categories is None and len(paths) > _fractal.MOST_CATEGORIES:
        raise ArgumentError(f"holds more than {_fractal.MOST_CATEGORIES:,} .csv files", "ifs_dir", str(folder))
    if categories is not None and categories > len(paths):
        raise ArgumentError(f"is more than the folder holds, which is {len(paths)}", "categories", categories)
    tables = [read_system(path) for path in paths[:categories]]
    return base64.b64encode(b"".join(t.tobytes() for t in tables)).decode(), tuple(len(t) for t in tables)


def read_system(path: Path) -> npt.NDArray[np.float32]:
    """The maps of one of FractalDB's files: little-endian float32 (maps, 7), the last column their probabilities.

    Raises:
        ArgumentError: columns, numbers or probabilities that are not those of a system.
    """

    def wrong(what: str) -> ArgumentError:
        return ArgumentError(f"{str(path)!r} is not a category of FractalDB (a, b, c, d, e, f, probability): {what}")

    try:
        lines = [
            line.split(",") for line in files.read(path, MOST_TABLE).decode("utf-8-sig").splitlines() if line.strip()
        ]
        numbers = [[float(field) for field in line] for line in lines]
    except (OSError, ValueError) as error:
        raise wrong(str(error)[:200]) from None
    if bad := [i for i, line in enumerate(numbers, 1) if len(line) != 7 or not all(map(math.isfinite, line))]:
        raise wrong(f"line {bad[0]} must have 7 finite numbers")
    if not 1 <= len(numbers) <= _fractal.MOST_MAPS:
        raise wrong(f"it has {len(numbers)} maps; from 1 to {_fractal.MOST_MAPS} are allowed")
    table = np.array(numbers)
    if np.abs(table[:, :6]).max() > _fractal.MOST_PARAMETER:
        raise wrong(f"a parameter is beyond {_fractal.MOST_PARAMETER}; FractalDB's lie between -1 and 1")
    if (table[:, 6] < 0).any() or abs(table[:, 6].sum() - 1) > 1e-3:
        raise wrong(f"the probabilities must be positive and sum to 1, and sum to {table[:, 6].sum():g}")
    return table.astype("<f4")


def _variants(made: Fractal, folder: str | Path | None, progress: Progress | None) -> list[int]:
    """The bits of the usable variants of each system; those of `folder` must be usable themselves."""
    backend, systems = backends.kernels("numba", "fractal"), made.systems

    def one(i: int) -> int:
        system = _fractal.Systems(systems.count[i : i + 1], systems.maps[i : i + 1], systems.thresholds[i : i + 1])
        usable = usable_variants(system, _fractal.candidates(0, [i], [0])[1], made.weight, backend)
        if folder is not None and not usable & 1:
            why = "its points leave, or fall on less than a hundredth of the canvas"
            raise ArgumentError(f"holds a category that never fills, number {i}: {why}", "ifs_dir", str(folder))
        return usable | 1

    return _in_parallel(one, range(len(systems.count)), progress)


def _in_parallel(one: Callable[[int], _T], numbers: range, progress: Progress | None) -> list[_T]:
    """one(i) for each number, on all CPUs, in order; kernels release the interpreter lock."""
    pool, results = ThreadPoolExecutor(usable_cpus()), []
    try:
        for result in pool.map(one, numbers):
            results.append(result)
            if progress is not None:
                progress(numbers.start + len(results), numbers.stop)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return results
