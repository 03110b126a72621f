"""The benchmark of GPUs, gone through without one: nothing that happens to a section costs another. No figure is asserted."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks.sections import RESULTS, Found, Run, Section, Worker, attempt

STRANGE = ("PIL", "click", "crc32c", "imageio_ffmpeg", "matplotlib", "numcodecs", "rich", "zarr")
"""Packages that a machine with a GPU may lack: those of pyproject.toml but NumPy and numba."""
FIRST = (
    "machine",
    "eight_windows",
    "memset",
    "whole_videos",
    "clips",
    "clips_in_a_graph",
    "kernels",
    "memcheck",
    "racecheck",
)
"""What a run that is cut short must have said, in this order."""


# --- sections that misbehave, for a process of its own: it imports this module, so the heavy ones are imported below


class Bench:
    """Has what some sections need."""

    here = True

    def around(self, found: Found) -> AbstractContextManager[None]:
        return nullcontext()

    def missing(self) -> None: ...


def finds(bench: Bench) -> Found:
    return {"process": os.getpid(), "size": np.float32(0.5)}


def raises(bench: Bench) -> Found:
    raise RuntimeError("this GPU is lost")


def dies(bench: Bench) -> Found:
    os.kill(os.getpid(), signal.SIGSEGV)
    return {}


def hangs(bench: Bench) -> Found:
    time.sleep(60)
    return {}


def section(name: str, run: Callable[[Any], Found], seconds: float = 0, needs: tuple[str, ...] = ()) -> Section:
    return Section(name, run, needs, seconds, ((name, "{process}", ""),))


def test_a_section_that_raises_dies_or_hangs_leaves_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    worker = Worker(Bench())
    sections = [section(run.__name__, run) for run in (finds, raises, dies, hangs)] + [section("last", finds)]
    limits = {"hangs": 0.2}
    run = Run("A title", sections, lambda s, limit: worker(s, limits.get(s.name, limit)), tmp_path / "run")
    known = run()["sections"]
    worker.close()
    assert {name: found["status"] for name, found in known.items()} == {
        "finds": "done", "raises": "failed", "dies": "failed", "hangs": "failed", "last": "done"
    }  # fmt: skip
    assert known["raises"]["error"] == "RuntimeError: this GPU is lost" and "in raises" in known["raises"]["traceback"]
    assert "Segmentation fault" in known["dies"]["traceback"] and "in hangs" in known["hangs"]["traceback"]
    assert len({known["finds"]["process"], known["last"]["process"], os.getpid()}) == 3
    assert known == json.loads((tmp_path / "run.json").read_text())["sections"]
    report = (tmp_path / "run.md").read_text()
    assert "| raises | FAILED: RuntimeError: this GPU is lost |" in report and "in raises" in capsys.readouterr().out


def test_what_does_not_fit_is_skipped_and_says_so() -> None:
    here = partial(attempt, Bench())
    sections = [section("long", finds, 90), section("short", finds), section("needy", finds, needs=("here", "missing"))]
    known = Run("", sections, here, minutes=1)()["sections"]
    assert known["long"] == {"status": "skipped", "reason": "it takes about 90 s, and 60 s are left of 1 minutes"}
    assert known["short"]["status"] == "done" and known["short"]["size"] == 0.5


def test_no_dry_run_gets_into_the_results() -> None:
    with pytest.raises(AssertionError):
        Run("", [], partial(attempt, Bench()), RESULTS / "gpu", dry=True)()


# --- the benchmark itself, on the host build


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The module, where a stand-in takes CuPy's place."""
    from nocard import cupy_on_the_host

    from benchmarks import gpu
    from vpngen import backends
    from vpngen.backends import cuda

    monkeypatch.setitem(sys.modules, "cupy", cupy_on_the_host())
    monkeypatch.setattr("shutil.which", lambda program, path: None)
    caches = (cuda._cupy, backends._load)
    for cache in caches:
        cache.cache_clear()
    yield gpu
    for cache in caches:
        cache.cache_clear()


def test_all_of_it_runs_in_order(gpu: Any, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    run = Run("A title", gpu.SECTIONS, partial(attempt, gpu.Bench(0, gpu.DRY, dry=True)), tmp_path / "gpu", dry=True)
    known = run()["sections"]
    assert tuple(known)[: len(FIRST)] == FIRST
    assert {name: found for name, found in known.items() if found["status"] != "done"} == {
        tool: {"status": "skipped", "reason": known[tool]["reason"]} for tool in ("memcheck", "racecheck")
    }
    for section in gpu.SECTIONS:
        found = known[section.name]
        assert found["status"] == "skipped" or len(list(section.rows(found))) == len(section.lines), section.name
    assert [known[name]["windows"] for name in ("eight_windows", "random_pairs", "whole_videos_equal")] == [20, 24, 5]
    results = json.loads((tmp_path / "gpu.json").read_text())
    assert results == {"dry": True, "running": None, "sections": known}
    assert "This was a dry run" in (tmp_path / "gpu.md").read_text()
    gpu.small(gpu.Bench(0, gpu.DRY, dry=True))


def test_wrong_bytes_are_told(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nocard._Kernel.__call__", lambda self, *launch, shared_mem: None)
    (section,) = (s for s in gpu.SECTIONS if s.name == "eight_windows")
    found = attempt(gpu.Bench(0, gpu.DRY, dry=True), section)
    assert (found["status"], found["windows"], found["wrong_windows"]) == ("failed", 20, 20)
    first = found["wrong"][0]
    assert first["first"] == [0, 0, 0] and set(first["ours"]) == {0xAA} and set(first["theirs"]) != {0xAA}
    assert "WRONG" not in str(found.get("error")) and "20 wrong" in next(section.rows(found))[1]


@pytest.mark.parametrize(
    ("code", "last", "said", "status"),
    [
        (0, "ERROR SUMMARY: 0 errors", "ERROR SUMMARY: 0 errors", "done"),
        (9, "ERROR SUMMARY: 2 errors", "ERROR SUMMARY: 2 errors", "failed"),
        (1, "Device not supported", "did not run (1): ========= Device not supported", "done"),
    ],
)
def test_what_the_sanitizer_says(gpu: Any, tmp_path: Path, code: int, last: str, said: str, status: str) -> None:
    program = tmp_path / "compute-sanitizer"
    program.write_text(f"#!/bin/sh\necho '========= {last}'\nexit {code}\n")
    program.chmod(0o755)
    bench = gpu.Bench(0, gpu.DRY, dry=True)
    vars(bench)["sanitizer"] = str(program)
    (section,) = (s for s in gpu.SECTIONS if s.name == "memcheck")
    found = attempt(bench, section)
    assert (found["said"], found["status"]) == (said, status)


def test_timings_wait_for_the_clock_and_no_longer(gpu: Any) -> None:
    """A clock that rises and stands, and one that never does."""
    for clocks, stood in ((iter([345, 345, 900, 1500, 1965, 1980]), True), (iter(range(300, 10**9, 100)), False)):
        bench = gpu.Bench(0, gpu.dataclasses.replace(gpu.DRY, settle=0.005), dry=True)
        vars(bench)["nvml"] = SimpleNamespace(clock=lambda clocks=clocks: next(clocks, 1980))
        found = gpu.timed(bench, lambda i: time.sleep(0.001))
        assert found["clock_stood"] is stood
        assert found["warm_up"] < 0.5 and (found["at"] == "1980 to 1980 MHz" or not stood)


def test_nvml_answers_or_does_not(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def clock(gpu: Any, kind: int, number: Any) -> int:
        number._obj.value = 1980
        return 0

    none = gpu.Nvml("0000:3B:00.0")
    library = SimpleNamespace(
        nvmlInit_v2=lambda: 0, nvmlDeviceGetHandleByPciBusId_v2=lambda bus, gpu: bus != b"0000:3B:00.0",
        nvmlDeviceGetClockInfo=clock, nvmlDeviceGetPowerUsage=lambda gpu, number: 3, nvmlSystemGetDriverVersion=lambda *_: 1,
    )  # fmt: skip
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    assert set(none.state().values()) == {None} == {none.driver(), gpu.Nvml("0000:00:00.0").clock()}
    there = gpu.Nvml("0000:3B:00.0")
    assert there.clock() == 1980 and there.driver() is None
    assert there.state() == {
        "sm_mhz": 1980,
        "memory_mhz": 1980,
        "celsius": None,
        "milliwatts": None,
        "held_down_by": None,
    }


KILLED = f"""
import os, signal, sys
from functools import partial
from pathlib import Path

class Strange:
    def find_spec(name, path=None, target=None):
        if name.split(".")[0] in {STRANGE}:
            raise ImportError(f"{{name}} is not here")

sys.meta_path.insert(0, Strange)
sys.path.insert(0, {str(Path(__file__).parent)!r})
from nocard import cupy_on_the_host
sys.modules["cupy"] = cupy_on_the_host()
from benchmarks import gpu, sections
try:
    sys.argv[1:] = ["--help"]
    gpu.main()
except SystemExit as ended:
    assert ended.code == 0
last = sections.Section("killed", lambda bench: os.kill(os.getpid(), signal.SIGKILL), (), 0, ())
attempts = partial(sections.attempt, gpu.Bench(0, gpu.DRY, dry=True))
sections.Run("A title", [*gpu.SECTIONS[:7], last], attempts, Path(sys.argv[0]) / "gpu", dry=True)()
"""


def test_a_run_that_is_killed_leaves_what_it_knew_and_needs_few_packages(tmp_path: Path) -> None:
    code = KILLED.replace("Path(sys.argv[0])", f"Path({str(tmp_path)!r})")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.returncode == -signal.SIGKILL, done.stderr
    results = json.loads((tmp_path / "gpu.json").read_text())
    assert results["running"] == "killed"
    assert {name: found["status"] for name, found in results["sections"].items()} == dict.fromkeys(FIRST[:7], "done")
    assert "Not finished: killed was under way" in (tmp_path / "gpu.md").read_text()


def test_streams_of_a_spec_need_no_zarr() -> None:
    """Imported anew, where the packages are not."""
    pytest.importorskip("torch")

    def theirs() -> list[str]:
        return [name for name in sys.modules if name.partition(".")[0] in (*STRANGE, "vpngen")]

    before = {name: sys.modules.pop(name) for name in theirs()}
    try:
        sys.modules.update(dict.fromkeys(STRANGE))  # type: ignore[arg-type]
        import vpngen

        spec = vpngen.Spec.preset("vpn-256x512")
        clips, labels = next(iter(vpngen.loader(spec, 2, device="cpu", num_workers=0, clip=(2, 8, 8))))
        assert clips.shape == (2, 3, 2, 8, 8) and labels.shape == (2,)
        assert vpngen.create_model("r3d10", 4, width=0.125)(clips / 255).shape == (2, 4)
        with pytest.raises(ImportError):
            vpngen.open  # noqa: B018
    finally:
        for name in theirs():
            del sys.modules[name]
        sys.modules.update(before)
