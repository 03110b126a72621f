"""The cache of compiled kernels: what is in its key, and what happens where it cannot be used. Signals and forks while they run."""

from __future__ import annotations

import errno
import importlib.util
import os
import shutil
import signal
import sys
import threading
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from numba.core import caching
from numba.core.compiler_lock import global_compiler_lock

from vpngen import backends, health
from vpngen.backends import compiled, cpu, numba_fractal, numba_perlin
from vpngen.errors import MissingError
from vpngen.generators import kinds

HOME = Path(compiled.__file__).parents[1]


@pytest.mark.parametrize("module", [numba_perlin, numba_fractal])
def test_all_that_a_kernel_is_compiled_from_is_in_the_key(module: types.ModuleType) -> None:
    """Whatever a kernel's module names, and what the modules name that it imports: all but types and errors."""
    known = {path for pattern in compiled.SOURCES for path in HOME.glob(pattern)}
    parts = [v for v in vars(module).values() if isinstance(v, types.ModuleType) and v.__name__.startswith("vpngen")]
    named = {getattr(v, "__module__", None) for part in [module, *parts] for v in vars(part).values() if callable(v)}
    files = {Path(str(part.__file__)) for part in parts} | {
        Path(str(sys.modules[name].__file__)) for name in named if name and name.startswith("vpngen.")
    }
    assert len(files) > 4 and files - known <= {
        HOME / "errors.py",
        HOME / "fields.py",
        HOME / "backends" / "compiled.py",
    }


@pytest.mark.parametrize(
    "name",
    ["rng.py", "floats.py", "generators/perlin.py", "backends/simd.py", "backends/compiled.py", "generators/new.py"],
)
def test_the_key_changes_with_each_source(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(
        HOME, tmp_path / "vpngen", ignore=lambda _, names: [n for n in names if n.endswith((".nbi", ".nbc"))]
    )
    monkeypatch.setattr(compiled, "__file__", str(tmp_path / "vpngen" / "backends" / "compiled.py"))
    assert compiled.state.__wrapped__() == compiled.state()
    with (tmp_path / "vpngen" / name).open("a") as file:
        file.write("\n")
    assert compiled.state.__wrapped__() != compiled.state()


Load = Callable[[int], Any]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """A module with a kernel that adds a constant, which comes from elsewhere."""
    monkeypatch.setattr(compiled, "_UNUSABLE", {})
    monkeypatch.setattr("numba.config.CACHE_DIR", "")
    path = tmp_path / "toy.py"
    path.write_text("from vpngen.backends.compiled import kernel\n\n\n@kernel\ndef run(n):\n    return n + constant\n")

    def load(constant: int) -> Any:
        spec = importlib.util.spec_from_file_location("toy", path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        vars(module)["constant"] = constant
        spec.loader.exec_module(module)
        return module

    return load


def test_a_constant_of_another_source_is_never_stale(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(1).run(1) == 2
    warm = load(1)
    assert warm.run(1) == 2 and sum(warm.run.stats.cache_hits.values()) == 1
    monkeypatch.setattr(compiled, "state", lambda: b"of other sources")
    assert load(10).run(1) == 11


def no_place(_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])


def full(_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(caching.IndexDataCacheFile, "_save_data", refuse)
    monkeypatch.setattr(caching.IndexDataCacheFile, "_load_index", lambda _: {})


def changed(suffix: str, size: int, junk: bytes = b"") -> Callable[[Path, pytest.MonkeyPatch], None]:
    def change(cache: Path, _: pytest.MonkeyPatch) -> None:
        (path,) = cache.glob(f"*{suffix}")
        path.write_bytes(path.read_bytes()[:size] + junk)

    return change


def folder_instead(cache: Path, _: pytest.MonkeyPatch) -> None:
    (path,) = cache.glob("*.nbi")
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (no_place, "no locator available"),
        (full, "cannot be written: No space left on device"),
        (changed(".nbi", 0), "cannot be read: Ran out of input"),
        (changed(".nbi", 30), "cannot be read"),
        (changed(".nbi", 0, b"no pickle"), "cannot be read"),
        (changed(".nbc", 100), "cannot be read"),
        (folder_instead, "cannot be written: Is a directory"),
    ],
)
def test_a_cache_that_cannot_be_used_costs_time_and_never_the_run(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: Any, said: str
) -> None:
    assert load(1).run(1) == 2
    spoil(tmp_path / "__pycache__", monkeypatch)
    again = load(1)
    assert again.run(1) == 2 and not again.run.stats.cache_hits
    assert said in compiled.cache_state(again.run)[1]
    finding = health._kernel_cache()
    assert said in finding.remedy and "NUMBA_CACHE_DIR" in finding.remedy and not finding.good
    if "read" in said:  # and it is whole again
        assert sum(load(1).run(1) for _ in range(2)) == 4 and load(1).run.stats.cache_path


def test_without_a_compiler_numba_is_missing_and_auto_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("numba.config.DISABLE_JIT", 1)
    for name in ("compiled", "cpu", "numba_perlin", "numba_fractal"):
        monkeypatch.delitem(sys.modules, f"vpngen.backends.{name}", raising=False)
        monkeypatch.delattr(backends, name, raising=False)
    for cached in (backends._load, backends._fastest):
        cached.cache_clear()
    try:
        with pytest.raises(MissingError, match=r"'numba' cannot run with NUMBA_DISABLE_JIT=1; unset it"):
            backends.choose("numba")
        assert backends.Auto(devices=False).of("perlin").name == "reference"
        assert "NUMBA_DISABLE_JIT" in health._kernel_cache().remedy
        assert health._processor().value.endswith("usable")  # and `doctor` goes on, too
        with pytest.raises(MissingError, match="NUMBA_DISABLE_JIT"):
            backends.kernels("numba", kinds()[0].name)
    finally:
        monkeypatch.undo()
        for cached in (backends._load, backends._fastest):
            cached.cache_clear()


def test_a_child_that_is_forked_while_a_thread_compiles_can_compile() -> None:
    held, done = threading.Event(), threading.Event()

    def compile_slowly() -> None:
        with global_compiler_lock:
            held.set()
            done.wait(0.3)

    thread = threading.Thread(target=compile_slowly)
    thread.start()
    held.wait()
    if not (child := os.fork()):
        os._exit(0 if global_compiler_lock._lock.acquire(timeout=3) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    thread.join()


@pytest.mark.parametrize("threads", [1, 3])
def test_a_signal_is_heard_between_the_calls_of_a_kernel(threads: int) -> None:
    done: list[int] = []

    def work(first: int, last: int) -> None:
        if not done:
            os.kill(os.getpid(), signal.SIGINT)
        done.append(last - first)
        time.sleep(0.01)

    with pytest.raises(KeyboardInterrupt):
        cpu._share(work, 10_000, threads)
    assert sum(done) < 2000
