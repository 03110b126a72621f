"""Clusters that are real: Dask schedulers and workers that are killed, and job arrays whose bodies are run."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import objects
import pytest
from commands import Run, end_of, process
from distributed import Client, LocalCluster
from obstore.store import MemoryStore
from stores import tree

import vpngen
from vpngen import ArgumentError, MissingError, RunError
from vpngen.executors import slurm
from vpngen.executors.dask import connected
from vpngen.store.places import place_of

SPEC = vpngen.perlin(categories=4, instances=20, val_instances=1, shape=(16, 32, 32))
SHARDS = {"shard_videos": 2}
SCHEDULER = "from distributed.cli.dask_scheduler import main; main()"
WORKER = "from distributed.cli.dask_worker import main; main()"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The set as threads write it."""
    path = tmp_path_factory.mktemp("whole") / "set.zarr"
    vpngen.write(SPEC, path, threads=1, **SHARDS)
    return tree(path)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster, Client(cluster) as made:
        yield made


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with objects.server("moto", tmp_path_factory.mktemp("s3") / "moto") as made:
        yield made


def at(port: int, name: str, **more: str) -> Any:
    return place_of(f"s3://sets/{name}/set.zarr", objects.options(port, **more))


def held(place: Any) -> dict[str, bytes]:
    return {name: place.read(name) for name, _ in place.walk()}


def test_a_cluster_writes_the_same_set(client: Client, port: int, whole: dict[str, bytes], tmp_path: Path) -> None:
    for where in (at(port, "same"), tmp_path / "set.zarr"):
        seen: list[tuple[int, int]] = []
        told = seen.append
        done = vpngen.write(SPEC, where, client=client, progress=lambda p, told=told: told((p.done, p.total)), **SHARDS)
        assert (done.rendered, done.kept, done.elsewhere) == (84, 0, 0)
        assert seen[-1] == (84, 84) and seen == sorted(seen) and len(seen) > 8
        assert (held(where) if not isinstance(where, Path) else tree(where)) == whole
        assert vpngen.write(SPEC, where, client=client, **SHARDS).kept == 84


def test_the_memory_of_a_client_is_no_place_for_a_cluster(client: Client) -> None:
    with pytest.raises(ArgumentError, match="all workers see"):
        vpngen.write(SPEC, MemoryStore(), client=client)


def test_workers_that_are_killed_cost_time_alone(client: Client, port: int, whole: dict[str, bytes]) -> None:
    place, killed = at(port, "workers"), list[int]()

    def kill(progress: vpngen.executors.Progress) -> None:
        if len(killed) < 2 and progress.done > 20 * (len(killed) + 1):
            victim = next(iter(client.run(os.getpid).values()))
            killed.append(victim)
            os.kill(victim, signal.SIGKILL)

    vpngen.write(SPEC, place, client=client, progress=kill, **SHARDS)
    assert len(killed) == 2 and held(place) == whole


@contextlib.contextmanager
def processes(workers: int = 1, code: str = WORKER, *options: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A scheduler with workers, each a process: its address and itself."""
    port = objects.free_port()
    address = f"tcp://127.0.0.1:{port}"
    asked = ["--host", "127.0.0.1", "--port", str(port), "--no-dashboard", "--no-show"]
    begun = [subprocess.Popen([sys.executable, "-c", SCHEDULER, *asked], stderr=subprocess.DEVNULL)]
    try:
        for _ in range(workers):
            more = ["--nthreads", "1", "--no-dashboard", "--death-timeout", "30", *options]
            begun.append(subprocess.Popen([sys.executable, "-c", code, address, *more], stderr=subprocess.DEVNULL))
        yield address, begun[0]
    finally:
        for process in reversed(begun):
            process.kill()
            process.wait()


def test_a_scheduler_that_is_killed_is_gone_on_without(client: Client, port: int, whole: dict[str, bytes]) -> None:
    place = at(port, "scheduler")
    with processes() as (address, scheduler), connected(address, 1) as theirs:
        theirs.wait_for_workers(1, timeout=60)

        def kill(progress: vpngen.executors.Progress) -> None:
            if progress.done > 20 and scheduler.poll() is None:
                scheduler.kill()
                scheduler.wait()

        with pytest.raises(RunError, match=r"scheduler was lost.*the same command again"):
            vpngen.write(SPEC, place, client=theirs, progress=kill, **SHARDS)
    done = vpngen.write(SPEC, place, client=client, **SHARDS)
    assert done.kept > 0 and held(place) == whole


def test_a_client_that_is_killed_is_gone_on_from(client: Client, port: int, whole: dict[str, bytes]) -> None:
    place = at(port, "client")
    made = f"place_of({place.url!r}, {objects.options(port)!r})"
    command = f"""
import vpngen
from vpngen.executors.dask import connected
from vpngen.store.places import place_of
with connected({client.scheduler.address!r}, 1) as client:
    vpngen.write(vpngen.Spec.from_dict({SPEC.to_dict()!r}), {made}, client=client, shard_videos=2)
"""
    run = subprocess.Popen([sys.executable, "-c", command])
    while len(place.sizes("train/video")) < 15 and run.poll() is None:
        time.sleep(0.01)
    assert run.poll() is None
    run.kill()
    run.wait()
    vpngen.write(SPEC, place, client=client, **SHARDS)
    assert held(place) == whole


def test_two_clients_share_a_cluster_and_the_work(client: Client, port: int, whole: dict[str, bytes]) -> None:
    place = at(port, "two")

    def write(_: int) -> Any:
        with Client(client.scheduler.address, set_as_default=False) as own:
            return vpngen.write(SPEC, place, client=own, **SHARDS)

    with ThreadPoolExecutor(2) as pool:
        assert len(list(pool.map(write, range(2)))) == 2
    assert held(place) == whole


def test_what_is_missing_is_listed(client: Client, port: int, whole: dict[str, bytes]) -> None:
    broken = [True]
    with objects.Proxy(
        port, lambda method, path, _: 507 if broken[0] and method == "PUT" and "/train/video/c.7." in path else None
    ) as proxy:
        place = at(proxy.port, "missing", max_retries="0")
        with pytest.raises(
            RunError, match=r"1 shard of .* are missing: train/video/c\.7\.0\.0\.0 \(.*507.*the same command again"
        ):
            vpngen.write(SPEC, place, client=client, **SHARDS)
        broken[0] = False
        assert vpngen.write(SPEC, place, client=client, **SHARDS).rendered == 2
    assert held(at(port, "missing")) == whole


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (f"import sys; sys.modules['vpngen'] = None; {WORKER}", r"has no vpngen: pip install vpngen=="),
        (
            f"import vpngen; vpngen.__version__ = '0.0.1'; {WORKER}",
            r"has vpngen 0\.0\.1, up to format 1, and here it is ",
        ),
    ],
    ids=["none", "another"],
)
def test_workers_that_cannot_do_it_are_named_before_work_starts(code: str, said: str, tmp_path: Path) -> None:
    with processes(1, code, "--no-nanny") as (address, _), connected(address, 1) as theirs:
        theirs.wait_for_workers(1, timeout=60)
        with pytest.raises(MissingError, match=rf"1 worker cannot do this work: tcp://.*{said}"):
            vpngen.write(SPEC, tmp_path / "set.zarr", client=theirs)
    assert not (tmp_path / "set.zarr/train/video/c.0.0.0.0").exists()


def test_the_command_line_runs_a_cluster(run: Run, tmp_path: Path) -> None:
    few = ["render", "set.zarr", "--categories", "2", "--instances", "8", "--shape", "16x16x16", "--shard-videos", "4"]
    local = ["--executor", "dask", "--scheduler", "local", "--threads", "1"]
    done = end_of(process(*few, *local, cwd=tmp_path))
    assert done.code == 0 and "16 videos rendered" in done.out and "distributed" not in done.err, done
    nobody = f"tcp://127.0.0.1:{objects.free_port()}"
    for options, wrong in (
        (["--executor", "dask"], "`--scheduler` is needed"),
        (["--scheduler", "local"], "`--scheduler` is of --executor dask"),
        (["--array", "3"], "`--array` is of --executor slurm"),
        (["--executor", "slurm"], "`--array` is needed"),
        (["--executor", "slurm", "--array", "3", "--slice", "1/2"], "makes the shares of its jobs itself"),
        (["--executor", "slurm", "--array", "3", "--sbatch", "a=b\n#c"], "long name of sbatch"),
        (["--executor", "dask", "--scheduler", nobody], "no scheduler that answers"),
        (["--executor", "dask", "--scheduler", nobody, "--threads", "2"], "`--threads` (=2) is of this machine"),
    ):
        done = run(*few, *options)
        assert done.code == 2 and wrong in done.err, done


# --- job arrays


def jobs(path: Path, count: int) -> None:
    """What Slurm does with a script, one job after the other; the last is requeued once."""
    for index in [*range(1, count + 1), count]:
        job = {**os.environ, "SLURM_ARRAY_TASK_ID": str(index), "SLURM_CPUS_PER_TASK": "1"}
        job["PATH"] = f"{Path(sys.executable).parent}:{job['PATH']}"
        done = subprocess.run(["bash", str(path)], env=job, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("where", ["set.zarr", "s3://sets/slurm/set.zarr"])
def test_the_body_of_a_job_array_writes_the_set(
    where: str, run: Run, port: int, whole: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in objects.environment(port).items():
        monkeypatch.setenv(name, value)
    (tmp_path / "spec.json").write_text(json.dumps(SPEC.to_dict()))
    more = ["--array", "2", "--sbatch", "partition=cpu", "--sbatch", "cpus-per-task=2", "--shard-videos", "2"]
    command = ["render", where, "--spec", "spec.json", "--executor", "slurm", *more]
    assert "submit it with: sbatch set.sbatch" in run(*command).out
    text = (script := tmp_path / "set.sbatch").read_text()
    assert re.findall(r"#SBATCH --(\S+)", text) == [
        f"job-name=vpngen-{SPEC.fingerprint[:8]}", "array=1-2", "output=%x-%A-%a.log", "requeue", "open-mode=append",
        "cpus-per-task=2", "partition=cpu",
    ]  # fmt: skip
    jobs(script, 2)
    assert (tree(tmp_path / where) if "://" not in where else held(at(port, "slurm"))) == whole
    submitted = run(*command, "--submit")
    assert submitted.code == 4 and "no sbatch here" in submitted.err
    script.write_text(text + "# mine")
    other = run(*command)
    assert other.code == 3 and "another script" in other.err and script.read_text().endswith("# mine")


def test_a_script_holds_no_secret() -> None:
    with pytest.raises(ArgumentError, match="AWS_SECRET_ACCESS_KEY"):
        slurm.script(SPEC, "s3://sets/x", 3, storage_options={"region": "x", "secret_access_key": objects.SECRET})
    assert "--storage-option region=x" in slurm.script(SPEC, "s3://sets/x", 3, storage_options={"region": "x"})
