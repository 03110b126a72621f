"""Every example runs as its first lines say."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from pairs import processes, two_ranks

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


@pytest.mark.parametrize("script", EXAMPLES, ids=lambda p: p.stem)
def test_example_runs(script: Path, tmp_path: Path) -> None:
    """Under torchrun itself, and as it would start them."""
    code = script.read_text()
    line = re.search(rf"^Run: (python|torchrun --nproc-per-node 2) examples/{script.name}(.*)$", code, re.MULTILINE)
    assert line is not None
    arguments = shlex.split(line[2].replace("[FOLDER]", str(tmp_path)))
    if script.stem == "train_ddp":
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", str(script), *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
        ended = [(done.returncode, done.stdout, done.stderr)]
    elif line[1] == "python":
        ended = [*processes(code, arguments, tmp_path, [{}])]
    else:
        ended = [*two_ranks(code, *arguments, cwd=tmp_path)]
    assert not any(code for code, _, _ in ended), ended[0][2]
    assert any("labels [" in said or "label 1" in said for _, said, _ in ended)
