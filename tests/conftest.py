"""What every test shares: single-threaded libraries, one cache of compiled kernels, bytecode, and the hypothesis profiles."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import Result, Run
from hypothesis import settings

from vpngen import cli, terminal

# Contended threads of BLAS and OpenMP can be several times slower than one; set before either is loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# One folder for compiled kernels, which subprocesses inherit: a later run starts warm. Its key holds the state of the sources.
os.environ.setdefault("NUMBA_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "numba"))

# Where no bytecode may be written, each worker compiles all tests and each process that they start all of vpngen.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

settings.register_profile("ci", max_examples=20, deadline=None, derandomize=True)
settings.register_profile(
    "explore", max_examples=1000, deadline=None, derandomize=False
)  # pytest --hypothesis-profile=explore
settings.load_profile("ci")

# A shell starts background jobs with SIGINT ignored, nohup with SIGHUP, programs inherit that, and `vpngen` respects it. The tests
# send signals.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_report_header() -> str:
    """Which compiler made the PTX that test_ptx.py runs."""
    from benchmarks import ptx

    return f"PTX of the CUDA kernels: by {ptx.compiler()}" + (f"; {lack}" if (lack := ptx.missing()) else "")


def pytest_sessionstart() -> None:
    """Until tests run, hardly look for garbage: what is imported and collected is none. dask, imported where it is off, leaves it off."""
    gc.set_threshold(10**6)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    """Look for garbage in what tests make, not again and again in all that was imported, whose pages forks then share."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(700, 10, 10)  # Python's own


@pytest.fixture
def run(
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Run]:
    """`vpngen ARGS` in this process and in an empty folder: the real `main`, with its messages and exit codes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)  # `main` has its own
    monkeypatch.setenv("VPNGEN_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr(terminal, "NOTICE_SECONDS", 3600)  # a slow machine is no failure
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}

    def vpngen_main(*args: str | Path) -> Result:
        monkeypatch.setattr(sys, "argv", ["vpngen", *map(str, args)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        return Result(end.value.code, *capsys.readouterr())

    yield vpngen_main
    for number, handler in handlers.items():
        signal.signal(number, handler)
