"""Every example runs as its first lines say."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))
COMMANDS = {
    "python": [sys.executable],
    "torchrun": [sys.executable, "-m", "torch.distributed.run"],
    "accelerate": [sys.executable, "-m", "accelerate.commands.accelerate_cli"],
}


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda p: p.stem)
def test_example_runs(script: Path, tmp_path: Path) -> None:
    line = re.search(r"^Run: (.*)$", script.read_text(), re.MULTILINE)
    assert line is not None
    program, *arguments = shlex.split(line[1].replace("[FOLDER]", str(tmp_path)))
    arguments = [str(script) if a == f"examples/{script.name}" else a for a in arguments]
    done = subprocess.run([*COMMANDS[program], *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "labels [" in done.stdout or "label 1" in done.stdout
