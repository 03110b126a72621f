"""What every test shares: single-threaded libraries, one cache of compiled kernels, and the hypothesis profiles."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import Result, Run
from hypothesis import settings

import vpngen
from vpngen import cli, terminal

# Contended threads of BLAS and OpenMP can be several times slower than one; set before either is loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# numba looks at the date of the file that holds a kernel, not at the helpers and constants compiled into it, so an edit
# elsewhere could leave the tests running yesterday's code. One cache folder for each state of the sources prevents that;
# subprocesses inherit it, and a later run starts warm.
_HOME = Path(vpngen.__file__).parent
_COMPILED = [_HOME / "rng.py", *sorted(_HOME.glob("generators/*.py")), *sorted(_HOME.glob("backends/*.py"))]
_STATE = hashlib.sha256(b"".join(path.read_bytes() for path in _COMPILED)).hexdigest()[:16]
os.environ.setdefault("NUMBA_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / f"numba-{_STATE}"))

settings.register_profile("ci", max_examples=50, deadline=None, derandomize=True)
settings.register_profile(
    "explore", max_examples=1000, deadline=None, derandomize=False
)  # pytest --hypothesis-profile=explore
settings.load_profile("ci")

# A shell starts background jobs with SIGINT ignored, programs inherit that, and `vpngen` respects it. The tests send signals.
signal.signal(signal.SIGINT, signal.default_int_handler)


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
