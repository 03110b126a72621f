"""Campaigns against stores, for as long as one likes: `python tests/campaigns.py all --seconds 600`.

    kill     render, resume and `verify --repair`, killed at random moments; the command given again has to end with the same bytes
    race     two to four processes on one store, whole or in slices; each ends well or says that another is at work
    damage   bits, bytes, names and kinds of files changed; `verify` has to find it, `verify --render --repair` to mend it or name it

It prints counts, and each case that went wrong with its seed; exit code 1 where there was one.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

CODECS = ("none", "zstd", "formula")
LIMIT = 60
"""Seconds after which a command counts as hanging."""
SET = shlex.split(
    "--categories 4 --instances 3 --val-instances 1 --shape 20x48x48 --noise-terms 1 --shard-videos 2 --threads 2"
)
Counts = Counter[str]


class WrongError(Exception):
    """Something that was promised did not hold."""


def start(*words: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "vpngen", *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def end(process: subprocess.Popen[str], *codes: int) -> tuple[int, str]:
    """Exit code and output of a command; it has to end in time, with one of `codes`, and without a traceback."""
    try:
        said = process.communicate(timeout=LIMIT)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        raise WrongError(f"hangs: {process.args!r}") from None
    if process.returncode not in codes or "Traceback" in said:
        raise WrongError(f"exit code {process.returncode} of {process.args!r}:\n{said}")
    return process.returncode, said


def tree(root: Path) -> dict[str, str]:
    """What a folder holds: kind or digest of everything, by name."""
    found = {}
    for path in sorted(root.rglob("*")):
        kind = "link" if path.is_symlink() else "folder" if path.is_dir() else "" if path.is_file() else "no file"
        found[str(path.relative_to(root))] = kind or hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def whole(folder: Path, store: Path, wanted: dict[str, str]) -> None:
    found = tree(store)
    if found != wanted:
        differ = [name for name in sorted({*found, *wanted}) if found.get(name) != wanted.get(name)]
        raise WrongError(f"{store}: not what an uninterrupted run writes: {differ[:5]}")
    if left := [path.name for path in folder.iterdir() if path != store]:
        raise WrongError(f"left beside the store: {left}")


def kill(folder: Path, made: dict[str, Path], random: random.Random, counts: Counts) -> None:
    codec = random.choice(CODECS)
    store, wanted = folder / "set.zarr", tree(made[codec])
    render = ["render", store, "--codec", codec, *SET]
    if random.random() < 0.4:  # a repair
        shutil.copytree(made[codec], store)
        for path in random.sample([p for p in sorted(store.rglob("c.*")) if p.is_file()], 3):
            harm(path, random, ("flip", "cut", "remove"))
        render = ["verify", store, "--render", "--repair"]
    for _ in range(random.randint(1, 4)):
        process = start(*render)
        time.sleep(random.uniform(0.05, 1.6) if random.random() < 0.9 else 0)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        counts["kills" if process.returncode == -signal.SIGKILL else "ended before the kill"] += 1
    end(start(*render), 0)
    whole(folder, store, wanted)


def race(folder: Path, made: dict[str, Path], random: random.Random, counts: Counts) -> None:
    codec, n = random.choice(CODECS), random.randint(2, 4)
    store, sliced = folder / "set.zarr", random.random() < 0.5
    render = ["render", store, "--codec", codec, *SET]
    processes = []
    for i in range(n):
        time.sleep(random.choice((0, 0, random.uniform(0, 0.3))))
        processes.append(start(*render, *(["--slice", f"{i + 1}/{n}"] if sliced else [])))
    busy = [end(process, 0, 3)[0] for process in processes].count(3)
    counts["processes"] += n
    counts["told that another is at work"] += busy
    end(start(*render), 0)
    whole(folder, store, tree(made[codec]))


def harm(path: Path, random: random.Random, ways: tuple[str, ...]) -> str:
    """Damage one file; gives the way."""
    way = random.choice(ways)
    data = bytearray(path.read_bytes())
    if way == "flip":
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)
        path.write_bytes(data)
    elif way == "cut":
        path.write_bytes(data[: random.randrange(len(data))])
    elif way == "grow":
        path.write_bytes(data + random.randbytes(random.randint(1, 100)))
    else:
        path.unlink()
        if way == "folder":
            path.mkdir()
            (path / "more").mkdir()
        elif way == "link":
            path.symlink_to(random.choice(("/dev/zero", "/etc/hostname", "nowhere", path.parent)))
        elif way == "fifo":
            os.mkfifo(path)
        elif way == "random":
            path.write_bytes(random.randbytes(len(data)))
    return way


def damage(folder: Path, made: dict[str, Path], random: random.Random, counts: Counts) -> None:
    codec = random.choice(CODECS)
    store, wanted = folder / "set.zarr", tree(made[codec])
    shutil.copytree(made[codec], store)
    files = [path for path in sorted(store.rglob("*")) if path.is_file() and path != store / "zarr.json"]
    ways = ("flip", "flip", "cut", "grow", "remove", "folder", "link", "fifo", "random")
    done = [harm(path, random, ways) for path in random.sample(files, random.randint(1, 3))]
    counts.update(done)
    if tree(store) == wanted:
        return
    end(start("verify", store), 1)
    code, said = end(start("verify", store, "--render", "--repair"), 0, 1)
    if code == 0:
        whole(folder, store, wanted)
        counts["mended"] += 1
        return
    counts["left to do, and said so"] += 1
    for path in store.rglob("*"):  # what the user is told to do
        name = str(path.relative_to(store))
        known = (
            wanted.get(name) == "folder"
            if path.is_dir() and not path.is_symlink()
            else path.is_file() and not path.is_symlink()
        )
        if not known and name.removesuffix("/more") not in said:
            raise WrongError(f"{path} is not named:\n{said}")
    for name in wanted:
        path = store / name
        if wanted[name] != "folder" and path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif os.path.lexists(path) and (path.is_symlink() or not (path.is_file() or path.is_dir())):
            path.unlink()
    end(start("verify", store, "--render", "--repair"), 0)
    whole(folder, store, wanted)


CAMPAIGNS: dict[str, Callable[..., None]] = {"kill": kill, "race": race, "damage": damage}


def cases(seconds: float, seed: int) -> Iterator[int]:
    """Seeds of cases, one after the other, until the time is up."""
    stop = time.monotonic() + seconds
    while time.monotonic() < stop:
        yield seed
        seed += 1


def main() -> int:
    """Run the campaigns that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("campaign", choices=[*CAMPAIGNS, "all"])
    parser.add_argument("--seconds", type=float, default=60, help="for each campaign")
    parser.add_argument("--seed", type=int, default=0, help="of the first case")
    options = parser.parse_args()
    wrong = 0
    with tempfile.TemporaryDirectory() as place:
        made = {codec: Path(place) / codec for codec in CODECS}
        for codec, store in made.items():
            end(start("render", store, "--codec", codec, *SET), 0)
        for name in CAMPAIGNS if options.campaign == "all" else [options.campaign]:
            counts = Counts()
            for seed in cases(options.seconds, options.seed):
                folder = Path(place) / "case"
                folder.mkdir()
                try:
                    CAMPAIGNS[name](folder, made, random.Random(seed), counts)
                except WrongError as error:
                    wrong += 1
                    print(f"{name} {seed}: {error}", flush=True)
                counts["cases"] += 1
                shutil.rmtree(folder)
            print(f"{name}: {', '.join(f'{value:,} {key}' for key, value in counts.items())}", flush=True)
    print(f"{wrong} went wrong")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
