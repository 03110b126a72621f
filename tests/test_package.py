"""The package as a whole: what importing it costs, its table of contents, its version."""

from __future__ import annotations

import importlib.metadata
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import vpngen

HEAVY = {"PIL", "cupy", "imageio_ffmpeg", "llvmlite", "numba", "numcodecs", "numpy", "tensorstore", "torch", "zarr"}
ROOT = Path(__file__).parents[1]


def modules_after(code: str) -> set[str]:
    """The top-level modules that a new interpreter has loaded when `code` ends."""
    report = "import atexit, sys; atexit.register(lambda: print('\\nloaded:', *{m.split('.')[0] for m in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", f"{report}\n{code}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition("loaded:")[2].split())


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("import vpngen", id="import"),
        pytest.param(
            "import runpy, sys; sys.argv[1:] = ['--help']; runpy.run_module('vpngen', run_name='__main__')", id="help"
        ),
    ],
)
def test_loads_nothing_heavy(code: str) -> None:
    loaded = modules_after(code)
    assert "vpngen" in loaded
    assert not loaded & HEAVY


def test_heavy_modules_would_be_seen() -> None:
    assert "numpy" in modules_after("import vpngen; vpngen.Spec")


def test_rooms_are_reached_after_a_bare_import() -> None:
    rooms = "vpngen.generators.GENERATORS, vpngen.sampling.Augment, vpngen.store.open"
    assert "torch" not in modules_after(f"import vpngen; {rooms}")
    assert "torch" in modules_after(
        "import vpngen; vpngen.train.fit, vpngen.models.create_model, vpngen.tasks, vpngen.datasets"
    )
    assert {"store", "train", "sampling", "generators"} <= set(dir(vpngen))


@pytest.mark.parametrize("name", vpngen.__all__)
def test_public_name(name: str) -> None:
    value = getattr(vpngen, name)
    assert value.__module__.startswith("vpngen.")
    text = inspect.cleandoc(vars(value)["__doc__"] if inspect.isclass(value) else value.__doc__)
    assert len(text.split()) > 3
    assert not text.startswith(f"{name}("), "this is the signature that a dataclass makes for want of a docstring"
    assert name in dir(vpngen)


def test_table_of_contents_is_sorted_and_has_no_strangers() -> None:
    assert sorted(set(vpngen.__all__)) == vpngen.__all__
    for name in vpngen.__all__:
        getattr(vpngen, name)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        vpngen.nothing  # noqa: B018


def test_one_version() -> None:
    assert importlib.metadata.version("vpngen") == vpngen.__version__
    (cited,) = re.findall(r"(?m)^version: (.+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited == vpngen.__version__
    assert f"\n## [{vpngen.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_typed() -> None:
    assert (Path(vpngen.__file__).parent / "py.typed").is_file()
