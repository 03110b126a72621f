"""Two ranks of torch.distributed, started as torchrun starts them, without its own process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parents[1]
PYTHONPATH = f"{HERE}:{HERE / 'tests'}"
"""Of a process that imports from the tests."""


class Rank(NamedTuple):
    """What a rank came to."""

    code: int
    out: str
    err: str


def two_ranks(code: str, *args: str | Path) -> list[Rank]:
    """Run `python -c CODE ARGS` as two ranks on the CPU."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {
        **os.environ, "PYTHONPATH": PYTHONPATH, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    pair = [
        subprocess.Popen(
            [sys.executable, "-c", code, *map(str, args)], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=HERE,
            env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]  # fmt: skip
    said = [one.communicate(timeout=240) for one in pair]
    return [Rank(one.returncode, *text) for one, text in zip(pair, said, strict=True)]
