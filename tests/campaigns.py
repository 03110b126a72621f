"""Long trials by hand: `python -m tests.campaigns kill --seconds 600`; also `race`, `damage` and `bucket`, and `ptx`. Prints counts.

Each of the first four works on a small store in a folder of its own, and the outcome is compared, file by file, with a store
that nothing happened to. A trial that fails says so with its seed, and its folder stays. `ptx` compares windows of all
generators, made by the compiled CUDA kernels without a GPU, with those of numba: about five a second.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from unittest import mock

sys.path.insert(0, str(Path(__file__).parent))

import objects
import stores

import vpngen
from benchmarks import servers
from benchmarks.ptx import SCHEDULES, PtxError
from vpngen.store import CODECS

SIZES: Final = (
    "--categories",
    "4",
    "--instances",
    "16",
    "--val-instances",
    "1",
    "--shape",
    "16x32x32",
    "--shard-videos",
    "4",
)
SPEC: Final = vpngen.perlin(4, 16, val_instances=1, shape=(16, 32, 32))
COMMAND: Final = (sys.executable, "-m", "vpngen")
DAMAGES: Final = ("flip", "cut", "delete", "swap", "folder", "link", "fifo", "extra", "foreign")


def render(store: Path, codec: str, *more: str) -> list[str]:
    return [*COMMAND, "render", str(store), *SIZES, "--codec", codec, "--backend", "reference", "--threads", "2", *more]


def verify(store: Path, *more: str) -> list[str]:
    return [*COMMAND, "verify", str(store), "--backend", "reference", "--threads", "2", *more]


def run(command: list[str], *expected: int) -> subprocess.CompletedProcess[str]:
    """A command that ends, in one of the ways expected, without a traceback."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode in (expected or (0,)), f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr, done.stderr
    return done


class Whole:
    """Stores that nothing happened to, by codec, and what is in them."""

    def __init__(self, folder: Path) -> None:
        self.paths = {codec: folder / f"{codec}.zarr" for codec in CODECS}
        for codec, path in self.paths.items():
            run(render(path, codec))
        self.files = {codec: stores.tree(path) for codec, path in self.paths.items()}

    def same(self, store: Path, codec: str) -> None:
        """Raises AssertionError where a store has other files, or something is left beside it."""
        found, wanted = stores.tree(store), self.files[codec]
        assert found == wanted, sorted(n for n in {*found, *wanted} if found.get(n) != wanted.get(n))
        assert [p.name for p in store.parent.iterdir()] == [store.name]


def kill(rng: random.Random, whole: Whole, folder: Path) -> Counter[str]:
    """Kill `render` or `verify --repair` at random moments until one gets through, which has to leave it whole."""
    codec, counts, store = rng.choice(CODECS), Counter[str](), folder / "set.zarr"
    command = render(store, codec)
    if rng.random() < 0.5:
        shutil.copytree(whole.paths[codec], store)
        for _ in range(6):
            harm(rng, store, rng.choice(("flip", "delete", "cut")))
        command = verify(store, "--repair")
    longest = 2.0
    for _ in range(6):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        try:
            process.wait(rng.uniform(0.3, longest))
            assert process.returncode == 0, process.communicate()[1]
            counts["through"] += 1
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            counts["killed"] += 1
    run(command)
    whole.same(store, codec)
    return counts


def bucket(rng: random.Random, whole: Whole, folder: Path) -> Counter[str]:
    """Kill one or two commands at a time that render into a bucket; the last one leaves it whole."""
    codec, counts = rng.choice(CODECS), Counter[str]()
    with servers.server("localbucket", folder / "server") as port:
        url, env = f"s3://{servers.BUCKET}/set.zarr", objects.environment(port)
        for _ in range(rng.randint(2, 6)):
            processes = [
                subprocess.Popen(
                    render(url, codec), env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
                )
                for _ in range(rng.randint(1, 2))
            ]
            for process in processes:
                try:
                    process.wait(rng.uniform(0.3, 3.0))
                    assert process.returncode == 0, process.communicate()[1]
                    counts["through"] += 1
                except subprocess.TimeoutExpired:
                    process.send_signal(rng.choice((signal.SIGKILL, signal.SIGTERM)))
                    counts["killed"] += 1
                said = process.communicate()[1]
                assert "Traceback" not in said, said
        place = objects.place_of(url, objects.options(port))
        last = subprocess.run(render(url, codec), env=env, capture_output=True, text=True, timeout=120)
        assert last.returncode == 0, last.stderr
        found, wanted = {name: place.read(name) for name, _ in place.walk()}, whole.files[codec]
        assert found == wanted, sorted(n for n in {*found, *wanted} if found.get(n) != wanted.get(n))
    return counts


def race(rng: random.Random, whole: Whole, folder: Path) -> Counter[str]:
    """Several processes on one store, with and without slices, some of them repairs. Together they complete it."""
    codec, counts, store = rng.choice(CODECS), Counter[str](), folder / "set.zarr"
    n = rng.randint(2, 4)
    kind = rng.choice(("slices", "same", "repair"))
    if kind == "repair":
        shutil.copytree(whole.paths[codec], store)
        for _ in range(6):
            harm(rng, store, rng.choice(("flip", "delete", "cut")))
        commands = [verify(store, "--repair") if i % 2 else render(store, codec) for i in range(n)]
        rng.shuffle(commands)
    else:
        commands = [render(store, codec, *([f"--slice={i + 1}/{n}"] if kind == "slices" else [])) for i in range(n)]
    processes = [subprocess.Popen(c, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for c in commands]
    for process in processes:
        said, error = process.communicate(timeout=120)
        if process.returncode == 1:  # what another has in hand is left to it, and is not whole yet
            assert all("is being written" in line for line in said.splitlines() if line.startswith("damaged ")), said
        else:
            assert process.returncode in (0, 3), f"{process.args}: {process.returncode} {error}"
        assert "Traceback" not in error, error
        assert process.returncode != 3 or "another process is writing" in error, error
        counts[f"{kind} exit {process.returncode}"] += 1
    run(verify(store, "--repair") if kind == "repair" else render(store, codec))
    whole.same(store, codec)
    return counts


def harm(rng: random.Random, store: Path, how: str) -> str:
    """Do harm of some kind to a file of a store; says which."""
    files = sorted(p for p in store.rglob("*") if p.is_file() and not p.is_symlink() and p != store / "zarr.json")
    path = rng.choice(files)
    data = path.read_bytes()
    if how == "flip" and data:
        at = rng.randrange(len(data))
        path.write_bytes(data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :])
    elif how == "cut":
        os.truncate(path, rng.randrange(len(data) or 1))
    elif how == "swap":
        other = rng.choice([p for p in files if p.name != path.name])
        there = other.read_bytes()
        other.write_bytes(data)
        path.write_bytes(there)
    elif how == "extra":
        (store / rng.choice(("train/more", "val/video/c.99.0.0.0", "notes"))).write_bytes(b"x")
    elif how == "foreign":
        (path.parent / "else").symlink_to("/etc")
    elif how in ("delete", "folder", "link", "fifo"):
        path.unlink()
        {"folder": path.mkdir, "fifo": lambda: os.mkfifo(path), "link": lambda: path.symlink_to("/dev/zero")}.get(
            how, int
        )()
    return str(path.relative_to(store))


def damage(rng: random.Random, whole: Whole, folder: Path) -> Counter[str]:
    """Harm of several kinds: `verify` finds it, `--repair` mends it, or says what is to be removed by hand."""
    codec, counts, store = rng.choice(CODECS), Counter[str](), folder / "set.zarr"
    shutil.copytree(whole.paths[codec], store)
    for how in rng.sample(DAMAGES, rng.randint(1, 3)):
        harm(rng, store, how)
        counts[how] += 1
    changed = stores_differ(store, whole.files[codec])
    run(verify(store), 1 if changed else 0)
    done = run(verify(store, "--repair"), 0, 1)
    counts["mended" if done.returncode == 0 else "left"] += 1
    for line in done.stdout.splitlines() if done.returncode else ():
        if line.startswith("damaged "):
            assert "by hand" in line, line
    if done.returncode:  # as it says
        for path in sorted(store.rglob("*"), reverse=True):
            name = str(path.relative_to(store))
            wanted = name in whole.files[codec] or any(file.startswith(f"{name}/") for file in whole.files[codec])
            if not wanted or (name in whole.files[codec] and (path.is_dir() or path.is_symlink())):
                path.unlink() if path.is_symlink() or not path.is_dir() else path.rmdir()
        run(verify(store, "--repair"))
    whole.same(store, codec)
    return counts


PERLINS: Final[list[dict[str, Any]]] = [
    {}, {"gradients": "sphere"}, {"fade": "linear"}, {"phase": "centre"}, {"loop": True}, {"temporal_unit": "divisions"},
    {"noise_terms": 0}, {"temporal": "full"}, {"noise_terms": 1, "phase": "centre", "loop": True},
]  # fmt: skip
FRACTALS: Final[list[dict[str, Any]]] = [
    {}, {"trail": 1}, {"trail": 5}, {"trail": 254}, {"draw": "point"}, {"points_per_frame": 1}, {"points_per_frame": 257},
    {"pad": 0}, {"flips": False}, {"shape": (61, 113, 251)},
]  # fmt: skip


def ptx(rng: random.Random, whole: Whole | None, folder: Path) -> Counter[str]:
    """Windows of any size, stride and place, in any order of lanes, by the PTX of the kernels."""
    import numpy as np
    from nocard import H200, SMALLEST, Guarded, InPtx, Memory, cupy_on_the_host

    from vpngen.backends import cuda

    if rng.random() < 0.7:
        spec = vpngen.perlin(**{"categories": 400, "instances": 8, **rng.choice(PERLINS)})
    else:
        spec = vpngen.fractal(**{"categories": 50, "instances": 10, **rng.choice(FRACTALS)})
    longest, tallest, widest = spec.shape
    width = min(widest, rng.choice((widest, 112, 7, 113, rng.randint(1, widest))))
    height = rng.randint(1, min(tallest, 60_000 // width))
    step = rng.randint(1, 3)
    frames = rng.randint(1, min((longest - 1) // step + 1, max(1, 300_000 // (width * height))))
    windows = []
    for _ in range(rng.randint(1, 3)):
        t, y, x = (
            rng.randint(0, most) for most in (longest - 1 - (frames - 1) * step, tallest - height, widest - width)
        )
        span = (t, t + (frames - 1) * step + 1, step)
        windows.append(vpngen.Window(span, (y, y + height), (x, x + width), rng.random() < 0.5))
    videos = [rng.randrange(spec.n_videos()) for _ in windows]
    run = InPtx()
    run.schedule = rng.choice(SCHEDULES)
    fake = cupy_on_the_host(rng.choice((H200, SMALLEST)), run=run)
    out = Guarded((len(windows), frames, height, width), rng.choice((0, 1, 4, 8)))
    packs = np.array([window.pack(spec.shape)[0] for window in windows], np.int32)
    with mock.patch.object(cuda, "_cupy", return_value=fake):
        cuda.Cuda().render_device(
            spec.generator.name, spec.params(videos), packs, out.array.view(Memory), out.array.shape
        )
    out.check()
    assert np.array_equal(out.array, vpngen.render(spec, videos, windows, backend="numba")), (
        f"{spec} {videos} {windows}"
    )
    return Counter({f"windows of {spec.generator.name}": len(windows), "pixels": out.array.size})


def stores_differ(store: Path, wanted: dict[str, bytes]) -> bool:
    """Whether a store is not as it was; nothing is read that is no file."""
    there = {
        str(p.relative_to(store)): p
        for p in store.rglob("*")
        if p.is_symlink() or not p.is_dir() or not any(p.iterdir())
    }
    if set(there) != set(wanted):
        return True
    return any(p.is_symlink() or not p.is_file() or p.read_bytes() != wanted[name] for name, p in there.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("campaign", choices=("kill", "race", "damage", "bucket", "ptx"))
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    campaign: Callable[[random.Random, Whole | None, Path], Counter[str]] = globals()[given.campaign]
    home = Path(tempfile.mkdtemp(prefix="vpngen-campaign-"))
    (home / "whole").mkdir()
    whole = None if given.campaign == "ptx" else Whole(home / "whole")
    counts, failures = Counter[str](), 0
    end, seed = time.monotonic() + given.seconds, given.seed
    while time.monotonic() < end:
        folder = home / str(seed)
        folder.mkdir()
        try:
            counts += campaign(random.Random(seed), whole, folder)
            shutil.rmtree(folder)
        except (AssertionError, subprocess.TimeoutExpired, PtxError) as error:
            failures += 1
            print(f"seed {seed}, see {folder}: {error}", flush=True)
        seed += 1
    print(f"{given.campaign}: {seed - given.seed} trials, {failures} failed; {dict(sorted(counts.items()))}")
    if failures:
        sys.exit(1)
    shutil.rmtree(home)


if __name__ == "__main__":
    main()
