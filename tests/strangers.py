"""Runs commands as a user would, each in a process of its own that has 10 seconds and 2 GB: `vpngen` is imported once, then forked.

`python strangers.py` is that process: it reads a command a line, JSON, and answers with one.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECONDS = 10
BYTES = 2 * 2**30
HUNG = -1


@dataclass(frozen=True)
class Said:
    """What a command answered: exit code (HUNG where it had to be killed), all that it printed, and seconds."""

    code: int
    text: str
    seconds: float


class Commands:
    """A process that runs commands; to be closed."""

    def __init__(self) -> None:
        self._process = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def run(self, folder: Path, *words: object, files: int = 1024) -> Said:
        """Run `vpngen words` in a folder, with so many files that may be open."""
        assert self._process.stdin is not None and self._process.stdout is not None
        asked = {"folder": str(folder), "words": [str(word) for word in words], "files": files}
        self._process.stdin.write(json.dumps(asked).encode() + b"\n")
        self._process.stdin.flush()
        return Said(**json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


def _command(asked: dict[str, Any], output: int) -> None:
    """In the forked process: the command, within its limits."""
    null = os.open(os.devnull, os.O_RDONLY)
    for fd, to in ((null, 0), (output, 1), (output, 2)):
        os.dup2(fd, to)
    os.chdir(asked["folder"])
    resource.setrlimit(resource.RLIMIT_DATA, (BYTES, BYTES))
    resource.setrlimit(resource.RLIMIT_NOFILE, (asked["files"], asked["files"]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.argv[1:] = asked["words"]
    from vpngen.cli import main

    try:
        main()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _answer(asked: dict[str, Any]) -> dict[str, Any]:
    with tempfile.TemporaryFile() as output:
        start = time.monotonic()
        pid = os.fork()
        if pid == 0:
            code = 70
            try:
                os.setsid()
                _command(asked, output.fileno())
            except SystemExit as leave:
                code = leave.code if isinstance(leave.code, int) else 1
            except BaseException:
                import traceback

                traceback.print_exc()
                sys.stderr.flush()
            os._exit(code)
        ended = os.pidfd_open(pid)
        hung = not select.select([ended], [], [], SECONDS)[0]
        os.close(ended)
        with contextlib.suppress(ProcessLookupError):  # and whatever it began
            os.killpg(pid, signal.SIGKILL)
        status = os.waitpid(pid, 0)[1]
        output.seek(0)
        text = output.read(2**20).decode(errors="replace")
        code = HUNG if hung else os.waitstatus_to_exitcode(status)
        return {"code": code, "text": text, "seconds": time.monotonic() - start}


if __name__ == "__main__":
    import vpngen.cli.training
    import vpngen.train.runs

    vpngen.render(vpngen.perlin(4, 1, shape=(16, 48, 48)), 0, threads=1)  # the kernels are loaded
    gc.freeze()  # the commands share the pages of what is there
    for line in sys.stdin:
        print(json.dumps(_answer(json.loads(line))), flush=True)
