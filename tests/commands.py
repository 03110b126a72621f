"""`vpngen ARGS` and how it ended: in this process by the fixture `run`, or in one of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple


class Result(NamedTuple):
    """How a command ended, and what it wrote to stdout and stderr."""

    code: int | str | None
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What was written for machines; nothing else may be on stdout."""
        assert self.out.endswith("\n")
        return json.loads(self.out)


Run = Callable[..., Result]


def process(*args: str | Path, cwd: Path, **options: Any) -> subprocess.Popen[str]:
    """`vpngen ARGS` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "vpngen", *map(str, args)], cwd=cwd, text=True, stdin=subprocess.DEVNULL,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
    )  # fmt: skip


def end_of(running: subprocess.Popen[str]) -> Result:
    out, err = running.communicate(timeout=120)
    return Result(running.returncode, out, err)
