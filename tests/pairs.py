"""Scripts in processes of their own, and two ranks of torch.distributed as torchrun starts them.

They are forked from this process, which has imported torch already: that is most of the time that a new one would take.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import tempfile
import time
import traceback
import types
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

HERE = Path(__file__).parents[1]
PYTHONPATH = f"{HERE}:{HERE / 'tests'}"
"""Of a process that imports from the tests."""
SECONDS = 240


class Rank(NamedTuple):
    """What a rank came to."""

    code: int
    out: str
    err: str


def two_ranks(code: str, *args: str | Path, cwd: Path = HERE) -> list[Rank]:
    """Run a script with these arguments as two ranks on the CPU."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return processes(code, args, cwd, [{**common, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(2)])


def processes(
    code: str, args: Sequence[str | Path], cwd: Path, environments: Sequence[Mapping[str, str]]
) -> list[Rank]:
    """Run a script at once in several processes, each with its own additions to the environment."""
    with tempfile.TemporaryDirectory() as folder:
        said = [[Path(folder) / f"{name}{number}" for name in ("out", "err")] for number in range(len(environments))]
        begun = [_forked(code, args, cwd, one, *texts) for one, texts in zip(environments, said, strict=True)]
        codes = [_ended(pid, time.monotonic() + SECONDS) for pid in begun]
        return [Rank(one, *(path.read_text() for path in texts)) for one, texts in zip(codes, said, strict=True)]


def _forked(
    code: str, args: Sequence[str | Path], cwd: Path, environment: Mapping[str, str], out: Path, err: Path
) -> int:
    pid = os.fork()
    if pid:
        return pid
    ended = 1
    try:
        for path, fd in ((out, 1), (err, 2)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), fd)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        os.environ.update(environment)
        os.chdir(cwd)
        sys.argv = ["script", *map(str, args)]
        sys.path[:0] = PYTHONPATH.split(":")
        torch.set_num_threads(1)  # this process has no others
        warnings.resetwarnings()  # here they are errors, also those of other packages
        module = types.ModuleType("__main__")
        sys.modules["__main__"] = module  # where pickle looks for what the script defines
        exec(compile(code, "script", "exec"), vars(module))
        ended = 0
    except SystemExit as leave:
        ended = leave.code if isinstance(leave.code, int) else bool(leave.code)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(ended)


def _ended(pid: int, deadline: float) -> int:
    """How it ended; what takes too long is killed."""
    while not (done := os.waitpid(pid, os.WNOHANG))[0]:
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
    return os.waitstatus_to_exitcode(done[1])
