"""A job array of Slurm: a script whose every job gives the same command.

Jobs at a URL share the work by their claims, and at a folder by slices. A job that is requeued goes on where it was stopped.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from vpngen.checks import integer
from vpngen.errors import ArgumentError, MissingError, RunError
from vpngen.spec import Spec

MOST_JOBS: Final = 2**20
_SECRET: Final = re.compile("secret|key|token|password|sas|credential", re.IGNORECASE)
_END: Final = "END_OF_SPEC"


def script(
    spec: Spec,
    where: str,
    jobs: int,
    options: Sequence[str] = (),
    sbatch: Mapping[str, str] | None = None,
    storage_options: Mapping[str, str] | None = None,
) -> str:
    """The text of an sbatch script that writes a set, with all that its jobs have to know.

    Args:
        spec: the set.
        where: a URL, or the path of a folder that all jobs see; it is made absolute.
        jobs: jobs of the array.
        options: more of `vpngen render`, such as `--codec`, `zstd`.
        sbatch: options of sbatch by their long names, such as `partition` and `time`, beside or in place of those of the script.
        storage_options: of a URL; secret ones come from the environment of the jobs.

    Raises:
        ArgumentError: `jobs` out of range, an option of sbatch that is none, or a secret among `storage_options`.
    """
    integer("array", jobs, 1, MOST_JOBS)
    for name in storage_options or {}:
        if _SECRET.search(name):
            how = "a script is read by others; put it into the environment of the jobs, such as AWS_SECRET_ACCESS_KEY"
            raise ArgumentError(f"has {name}, which would be written into the script: {how}", "storage_options")
    url = re.match("[A-Za-z][A-Za-z0-9+.-]+://", where) is not None
    command = ["vpngen", "render", where if url else str(Path(where).absolute()), "--spec", "-", *options]
    for name, value in (storage_options or {}).items():
        command += ["--storage-option", f"{name}={value}"]
    asked = {
        "job-name": f"vpngen-{spec.fingerprint[:8]}",
        "array": f"1-{jobs}",
        "output": "%x-%A-%a.log",
        "requeue": "",
    }
    asked |= {"open-mode": "append", "cpus-per-task": "1", **(sbatch or {})}
    for name, value in asked.items():
        if not re.fullmatch("[a-z][a-z-]*", name) or "\n" in value:
            raise ArgumentError(
                "must be NAME=VALUE with a long name of sbatch, such as partition=cpu", "sbatch", f"{name}={value}"
            )
    share = "" if url else f' --slice "$SLURM_ARRAY_TASK_ID/{jobs}"'
    how = "claims at the store share the work" if url else "each job does a slice"
    lines = [
        "#!/bin/bash",
        *(f"#SBATCH --{name}{f'={value}' if value else ''}" for name, value in asked.items()),
        f"# {spec.n_videos():,} videos of {spec.n_categories:,} categories; {how}.",
        "# Give it again to complete what jobs did not: what is there stays, and the set is the same.",
        "set -euo pipefail",
        f"{shlex.join(command)} --threads \"${{SLURM_CPUS_PER_TASK:-1}}\"{share} <<'{_END}'",
        json.dumps(spec.to_dict()),
        _END,
    ]
    return "\n".join(lines) + "\n"


def submit(path: Path) -> str:
    """Submit a script; gives what sbatch says. Raises MissingError where there is no sbatch, and RunError where it refuses."""
    if (sbatch := shutil.which("sbatch")) is None:
        raise MissingError(f"there is no sbatch here; give `sbatch {path}` where Slurm is")
    done = subprocess.run([sbatch, str(path)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RunError(f"sbatch refuses {str(path)!r}: {(done.stderr or done.stdout).strip()}")
    return done.stdout.strip()
