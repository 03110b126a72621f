"""Imports go down only, and each heavy package has one home: read from the source, without importing any of it."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

import vpngen

LAYERS = [
    {"errors", "rng", "units"},
    {"checks", "fields", "files", "floats"},
    {"generators"},
    {"spec"},
    {"backends", "sampling"},
    {"rendering", "systems"},
    {"store", "preview"},
    {"executors", "export"},
    {"stream"},
    {"datasets", "models"},
    {"tasks"},
    {"train", "health"},
    {"terminal"},
    {"cli"},
    {"__main__"},
]
"""Modules and subpackages of vpngen, lowest first. One may import from lower layers, and from itself if it is a subpackage."""

_NUMBA = ("vpngen.backends.compiled", "vpngen.backends.cpu", "vpngen.backends.simd", "vpngen.backends.numba_*")
HOMES = {
    "cupy": ("vpngen.backends.cuda",),
    "llvmlite": _NUMBA,
    "numba": _NUMBA,
    "torch": tuple(
        f"vpngen.{room}{part}" for room in ("stream", "datasets", "models", "tasks", "train") for part in ("", ".*")
    ),
    "zarr": ("vpngen.store", "vpngen.store.*"),
}
"""Heavy package -> the modules that may import it."""
INNER = {
    "vpngen.backends.numba_*": (),
    "vpngen.backends.cuda_*": (),
    "vpngen.backends.simd*": (),
    "vpngen.backends.cuda*": ("vpngen.health",),
}
"""What `vpngen.backends` hands out by name -> the modules outside it that may import it all the same."""

RANK = {part: rank for rank, layer in enumerate(LAYERS) for part in layer}
HOME = Path(vpngen.__file__).parent
MODULES = {
    ".".join(["vpngen", *path.relative_to(HOME).with_suffix("").parts]).removesuffix(".__init__"): path
    for path in sorted(HOME.rglob("*.py"))
}


def imports(source: str, module: str, is_package: bool = False) -> Iterator[tuple[int, str]]:
    """Line and full name of whatever `source` imports anywhere: in functions and under TYPE_CHECKING as well."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                package = parts[: len(parts) - node.level + is_package]
                base = ".".join([*package, *filter(None, [base])])
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}"


def violations(source: str, module: str, is_package: bool = False) -> list[str]:
    """What `source`, as the text of `module`, imports against the rules; one line each."""
    found = []
    part = module.split(".")[1] if "." in module else None
    if part is not None and part not in RANK:
        found.append(f"{module} has no place in LAYERS")
    for line, name in imports(source, module, is_package):
        top, *rest = name.split(".")
        if top in HOMES and not any(fnmatchcase(module, home) for home in HOMES[top]):
            found.append(f"{module}:{line} imports {top}, whose home is {', '.join(HOMES[top])}")
        closed = [inner for inner, others in INNER.items() if fnmatchcase(name, inner) and module not in others]
        if closed and part != "backends":
            found.append(f"{module}:{line} imports {name}; ask vpngen.backends for it")
        if top != "vpngen" or part not in RANK or rest[:1] in ([part], ["__version__"]):
            continue
        # Whatever is taken from `vpngen` itself could come from any layer: the command line may, what it stands on may not.
        if RANK.get(rest[0] if rest else "", RANK["terminal"]) >= RANK[part]:
            found.append(f"{module}:{line} imports {name}, which is not below it")
    return found


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down_only(module: str) -> None:
    path = MODULES[module]
    assert violations(path.read_text(encoding="utf-8"), module, path.name == "__init__.py") == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("vpngen.spec", "from vpngen.backends import choose"),
        ("vpngen.spec", "from vpngen import backends"),
        ("vpngen.spec", "import vpngen.backends.cpu"),
        ("vpngen.spec", "from .backends import choose"),
        ("vpngen.spec", "def f():\n    from vpngen.rendering import render"),
        ("vpngen.spec", "if TYPE_CHECKING:\n    from vpngen.rendering import Window"),
        ("vpngen.spec", "from vpngen import render"),
        ("vpngen.spec", "import vpngen"),
        ("vpngen.errors", "from vpngen import rng"),
        ("vpngen.store", "from vpngen.preview import mosaic"),
        ("vpngen.preview", "import vpngen.store"),
        ("vpngen.preview", "from vpngen import store"),
        ("vpngen.generators.perlin", "from ..spec import Spec"),
        ("vpngen.train.fit", "from vpngen import cli"),
        ("vpngen.spec", "import numba"),
        ("vpngen.rendering", "from numba import njit"),
        ("vpngen.backends.reference", "from numba.core import types"),
        ("vpngen.backends.simd", "import zarr"),
        ("vpngen.stream", "import zarr.codecs as codecs"),
        ("vpngen.store", "import torch"),
        ("vpngen.cli", "def f():\n    import cupy"),
        ("vpngen", "import numba"),
        ("vpngen.systems", "from vpngen.backends.numba_fractal import fill"),
        ("vpngen.rendering", "from vpngen.backends import numba_perlin"),
        ("vpngen.stream.makers", "def f():\n    import vpngen.backends.cuda"),
        ("vpngen.health", "from vpngen.backends.cuda_perlin import plan"),
        ("vpngen.newcomer", ""),
    ],
)  # fmt: skip
def test_the_checker_sees(module: str, source: str) -> None:
    assert len(violations(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        (
            "vpngen.spec",
            "import json\nimport numpy as np\nfrom vpngen import rng\nfrom vpngen.generators import Params",
        ),
        ("vpngen.store", "import zarr\nfrom vpngen import __version__\nfrom vpngen.rendering import render"),
        ("vpngen.generators.perlin", "from vpngen.generators.base import Generator\nfrom .base import Params"),
        ("vpngen.backends.numba_fractal", "from numba import njit\nfrom vpngen.backends.simd import fma"),
        (
            "vpngen.train.fit",
            "import torch\nfrom vpngen.stream import ClipStream\nfrom vpngen.models.resnet import net",
        ),
        ("vpngen.cli", "import vpngen\nfrom vpngen import render\nfrom vpngen import store, stream, preview"),
        ("vpngen", "from vpngen.store import open"),
    ],
)
def test_the_checker_lets_pass(module: str, source: str) -> None:
    assert violations(source, module) == []


def circle(graph: Mapping[str, Collection[str]]) -> list[str]:
    """Modules that import each other in a ring, the first again at the end; empty where there is none."""
    done: set[str] = set()

    def search(module: str, path: list[str]) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module not in done:
            for name in graph.get(module, ()):
                if found := search(name, [*path, module]):
                    return found
            done.add(module)
        return []

    return next((found for module in graph if (found := search(module, []))), [])


def test_no_circles() -> None:
    """Of imports in functions and under TYPE_CHECKING, too. Lazy tables of contents are left out: they import nothing."""
    graph = {}
    for module, path in MODULES.items():
        names = [name for _, name in imports(path.read_text(encoding="utf-8"), module, path.name == "__init__.py")]
        parents = [[".".join(name.split(".")[:n]) for n in range(name.count(".") + 1, 1, -1)] for name in names]
        graph[module] = {next((p for p in some if p in MODULES), module) for some in parents} - {module}
    lazy = {module for module, path in MODULES.items() if "= lazy(__name__" in path.read_text(encoding="utf-8")}
    assert "vpngen" in lazy and "vpngen.generators" not in lazy
    assert circle({module: names for module, names in graph.items() if module not in lazy}) == []


def test_the_search_finds_circles() -> None:
    assert circle({"a": ["b", "c"], "b": [], "c": ["d"], "d": ["b", "c"]}) == ["c", "d", "c"]
    assert circle({"a": ["b", "c"], "b": ["c"], "c": ["d"]}) == []


def test_relative_imports_of_a_package_start_at_itself() -> None:
    assert list(imports("from . import base\nfrom .base import X", "vpngen.generators", is_package=True)) == [
        (1, "vpngen.generators.base"),
        (2, "vpngen.generators.base.X"),
    ]
