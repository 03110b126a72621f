"""Fuzzers: good inputs, damaged at random, and what the library makes of them.

    python -m tests.fuzz [cli|spec|state|metadata|store|lists|all] --seconds 60 --seed 0

Each input has ten seconds and a gigabyte of memory beside what is taken already. What raises anything but a VpngenError or an
error of click, or exits with anything but 0 to 4, hangs, or takes more, is printed with the input that did it.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np

import vpngen
from vpngen import Spec, VpngenError
from vpngen.cli import cli

SECONDS, MEMORY = 30, 2**30
ODD: list[Any] = [
    None, True, False, 0, 1, -1, 3, 2**31, 2**63, 2**64, 10**30, 10**5000, 0.5, -0.0, 1e308, float("inf"), float("nan"), "", "a",
    "x" * 10_000, "..", "/", "/dev/zero", "\0", "\ud800", "٣", "1_0", "torch.hub:load", "builtins:dict", [], [0], [[]], {}, {"a": 1},
    {"name": "perlin"}, {"name": "mixed", "parts": []}, [1] * 1000, [1, 2, 3], "240x240x240",
]  # fmt: skip
WORDS = [
    *["None", "True", "0", "1", "-1", "3", "2147483648", "18446744073709551616", "0.5", "1e308"], "9" * 5000, "", "..", "/dev/zero", "٣", "1_0", "a", "nan", "inf", "1e999", "0x10", "1,2", "1,,2", "0-3", "3-0", "0:9",
    "9:0", "4x24x24", "1/2", "2/1", "out.zarr", "set.zarr", "spec.json", "p.png", "p.gif", "-", "--", "=", "x" * 5000, "\udc80",
]  # fmt: skip


def damaged(value: Any, draw: random.Random) -> Any:
    """A JSON value with one to three of its parts replaced, left out, doubled, or put around themselves."""
    root = [copy.deepcopy(value)]
    for _ in range(draw.randint(1, 3)):
        at: Any = root
        key: Any = 0
        while isinstance(inner := at[key], (dict, list)) and inner and draw.random() < 0.8:
            at, key = inner, draw.choice([*inner] if isinstance(inner, dict) else range(len(inner)))
        how, old = draw.randrange(6), at[key]
        if how == 0 and isinstance(at, dict):
            at.pop(key)
        elif how == 1 and isinstance(at, dict):
            at[draw.choice(["name", "x", "", "parts"])] = old
        elif how == 2:
            for _ in range(draw.choice([1, 10, 500])):
                old = draw.choice([[old], {"a": old}]) if draw.random() < 0.1 else [old]
            at[key] = old
        elif how == 3 and isinstance(old, (int, float)) and not isinstance(old, bool):
            at[key] = old + draw.choice([-1, 1, 2**32]) if draw.random() < 0.5 else -old
        elif how == 4 and isinstance(old, list) and len(old) < 9:
            at[key] = old * draw.choice([0, 2, 100])
        else:
            at[key] = draw.choice(ODD)
    return root[0]


def torn(data: bytes, draw: random.Random) -> bytes:
    """Bytes with one to four places overwritten, cut out, doubled or inserted."""
    for _ in range(draw.randint(1, 4)):
        a = draw.randint(0, len(data))
        b = min(len(data), a + draw.choice([0, 1, 4, 100, 10**6]))
        put = [b"", bytes([draw.randrange(256)]), b"\xff" * 8, b"\0" * 8, data[a:b] * 2, b"../", b"\n", b"9" * 500]
        data = data[:a] + draw.choice(put) + data[b:]
    return data


def text_of(value: Any) -> str:
    """JSON, of integers of any length too."""
    try:
        return json.dumps(value)
    except (ValueError, RecursionError):
        return "[" * 100_000


class Late(BaseException):
    """Over the time: an error that nothing catches."""


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Ten seconds, and memory."""

    def late(*_: object) -> None:
        raise Late(f"over {SECONDS} seconds")

    before, handler = resource.getrlimit(resource.RLIMIT_AS), signal.signal(signal.SIGALRM, late)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, before[1]))
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, before)


# --- the targets: each gives a function that makes an input and one that tries it


Target = tuple[Callable[[random.Random], Any], Callable[[Any], None]]


def small(**fields: Any) -> Spec:
    return vpngen.perlin(4, 2, val_instances=1, shape=(4, 240, 240), **fields)


def moving(**fields: Any) -> list[Spec]:
    """A set of each generator whose motion is known, and a mixture."""
    made = [Spec.make(name, instances=2, shape=(8, 40, 48), **fields) for name in ("drift", "clouds", "leaves")]
    return [*made, vpngen.mixed(made[0], made[2])]


def of_spec(folder: Path) -> Target:
    fractal = vpngen.fractal(3, 2, shape=(4, 48, 48), points_per_frame=50)
    perlin = vpngen.perlin(4, 2, shape=fractal.shape, noise_frequencies=[1, 2])
    mixed = vpngen.spec.mixed(perlin, *(vpngen.Spec(fractal.generator, 2, 0, fractal.shape),))
    good = [small(), perlin, fractal, mixed, *moving()]

    def make(draw: random.Random) -> str:
        spec = draw.choice(good)
        if draw.random() < 0.2:
            return torn(spec.to_json().encode(), draw).decode(errors="replace")
        return text_of(damaged(spec.to_dict(), draw))

    def trial(text: str) -> None:
        spec = Spec.from_json(text)
        assert Spec.from_json(spec.to_json()) == spec
        spec.params([0, spec.n_videos() - 1])
        spec.generator.facts(spec.shape)
        if spec.generator.truth and max(spec.shape[1:]) <= 64:
            corner = vpngen.Window(t=(0, 1), y=(0, 1), x=(0, 1))
            assert np.isfinite(vpngen.motion(spec, spec.n_videos() - 1, corner)).all()
            vpngen.render(spec, 0, corner, threads=1)

    return make, trial


def of_state(folder: Path) -> Target:
    stream = vpngen.ClipStream(small(), 2, clip=(2, 24, 24), device="cpu", threads=1)
    good = stream.state_dict()

    def trial(state: Any) -> None:
        stream.load_state_dict(state)
        next(iter(stream))

    return lambda draw: damaged(
        {**good, "worker": {"id": 0, "of": 1, "ranks": 1, "batches": 0}} if draw.random() < 0.2 else good, draw
    ), trial


def of_lists(folder: Path) -> Target:
    from vpngen.datasets import read_videos

    root, lists = folder / "root", folder / "lists"
    for name in ("YoYo/v_YoYo_g01_c01.avi", "Archery/v_Archery_g01_c01.avi"):
        (root / name).parent.mkdir(parents=True)
        (root / name).write_bytes(b"\0")
    (lists / "none").mkdir(parents=True)
    one = {"subset": "training", "annotations": [{"label": "YoYo", "segment": [0, 9.5]}]}
    nodes = [{"nodeId": 1, "nodeName": "YoYo", "parentId": 0}, {"nodeId": 2, "nodeName": "Archery", "parentId": 0}]
    flat = {"subset": "training", "annotations": {"label": "YoYo", "segment": [1, 9]}}
    good: list[tuple[str, dict[str, Any]]] = [
        ("ucf101", {"classInd.txt": "1 YoYo\n2 Archery\n", "trainlist01.txt": "YoYo/v_YoYo_g01_c01.avi 1\nArchery/v_Archery_g01_c01.avi 2\n"}),
        ("hmdb51", {f"{c}_test_split1.txt": f"v_{c}_g01_c01.avi 1\n" for c in ("YoYo", "Archery")}),
        ("kinetics", {"train.csv": "label,youtube_id,time_start,time_end,split\nYoYo,v_YoYo,1,11,train\nArchery,b,2,12,train\n"}),
        ("activitynet", {"activity_net.json": {"taxonomy": nodes, "database": {"v_YoYo_g01_c01": one}}}),
        ("json", {"list.json": {"labels": ["YoYo", "Archery"], "database": {"v_YoYo_g01_c01": flat}}}),
    ]  # fmt: skip

    def make(draw: random.Random) -> tuple[str, dict[str, bytes]]:
        kind, files = draw.choice(good)
        texts = {name: text if isinstance(text, str) else text_of(damaged(text, draw)) for name, text in files.items()}
        found = {name: text.encode(errors="replace") for name, text in texts.items()}
        if isinstance(next(iter(files.values())), str) or draw.random() < 0.3:
            name = draw.choice([*found])
            found[name] = torn(found[name], draw)
        return kind, found

    def trial(made: tuple[str, dict[str, bytes]]) -> None:
        kind, files = made
        shutil.rmtree(lists)
        lists.mkdir()
        for name, data in files.items():
            (lists / name).write_bytes(data)
        for video in read_videos(kind, root, lists).videos:
            inside = Path(os.path.normpath(video.path)).is_relative_to(root)
            assert inside, f"{video.path} is outside"

    return make, trial


def of_cli(folder: Path) -> Target:
    os.chdir(folder)
    spec = small()
    vpngen.write(spec, "set.zarr", codec="zstd", shard_videos=4, threads=1)
    Path("spec.json").write_text(spec.to_json())
    named = [(name, each) for name, each in cli.commands.items() if name not in ("train", "finetune", "doctor")]

    def make(draw: random.Random) -> list[str]:
        name, command = draw.choice(named)
        with click.Context(command) as ctx:
            options = [o for p in command.get_params(ctx) if isinstance(p, click.Option) for o in p.opts]
        words = [
            name,
            *draw.choice(
                [
                    ["set.zarr"],
                    ["out.zarr", "--spec", "spec.json"],
                    ["--categories", "4", "--instances", "2", "--shape", "4x240x240"],
                    *[
                        ["--generator", g, "--instances", "2", "--shape", "8x40x48"]
                        for g in ("drift", "clouds", "leaves")
                    ],
                ]
            ),
        ]
        words += ["--dry-run"] if name == "render" and draw.random() < 0.8 else []
        for _ in range(draw.randint(0, 4)):
            words += [draw.choice(options), *([draw.choice(WORDS)] if draw.random() < 0.8 else [])]
        return words

    def trial(words: list[str]) -> None:
        cli.main(list(words), prog_name="vpngen", standalone_mode=False)

    return make, trial


def of_metadata(folder: Path) -> Target:
    import torch
    from safetensors.torch import save_file

    from vpngen.models import create_model, weights
    from vpngen.train import runs

    network = create_model("r3d10", num_classes=2, width=0.125)
    about = {"vpngen": 1, "model": "r3d10", "options": {"width": 0.125}, "num_classes": 2, "classes": ["a", "b"], "clip": [4, 24, 24],
             "mean": [0.5] * 3, "std": [0.5] * 3, "source": {"kind": "folder", "root": "/", "annotations": None, "split": 1, "val_fraction": 0.0}}  # fmt: skip
    tensors = {name: tensor.clone() for name, tensor in network.state_dict().items()}

    def make(draw: random.Random) -> tuple[str, Any]:
        return draw.choice(["safetensors", "pth", "torn"]), (damaged(about, draw), draw.randrange(2**32))

    def trial(made: tuple[str, Any]) -> None:
        kind, (fields, seed) = made
        path = folder / ("w.pth" if kind == "pth" else "w.safetensors")
        if kind == "pth":
            with contextlib.suppress(RecursionError):  # what cannot be saved by torch
                torch.save({"state_dict": tensors, "vpngen": fields}, path)
        else:
            text = text_of(fields).encode(errors="replace").decode()
            save_file(tensors, path, {"vpngen": text, "format": "pt"})
        if kind == "torn":
            path.write_bytes(torn(path.read_bytes(), random.Random(seed)))
        weights.read_weights(path)
        runs.fine_tuned(path)

    return make, trial


def of_store(folder: Path) -> Target:
    whole, copied = folder / "whole.zarr", folder / "set.zarr"
    for k, codec in enumerate(("none", "zstd", "formula")):
        vpngen.write(small(seed=k), whole / codec, codec=codec, shard_videos=4, threads=1)
    motion = vpngen.clouds(instances=1, shape=(4, 24, 24), directions=2, speeds=(0.5,), frequencies=(0.1,))
    vpngen.write(motion, whole / "motion", codec="zstd", with_motion=True, shard_videos=1, threads=1)
    names = {
        kept.name: sorted(p.relative_to(kept) for p in kept.rglob("*") if p.is_file())
        for kept in sorted(whole.iterdir())
    }

    def make(draw: random.Random) -> tuple[str, Path, int, str]:
        codec = draw.choice([*names])
        return (
            codec,
            draw.choice(names[codec]),
            draw.randrange(2**32),
            draw.choice(["verify", "repair", "open", "info"]),
        )

    def trial(made: tuple[str, Path, int, str]) -> None:
        codec, name, seed, what = made
        draw, path = random.Random(seed), copied / name
        shutil.rmtree(copied, ignore_errors=True)
        shutil.copytree(whole / codec, copied)
        data = path.read_bytes()
        if data[:1] == b"{" and draw.random() < 0.8:
            path.write_text(text_of(damaged(json.loads(data), draw)))
        else:
            path.write_bytes(torn(data, draw))
        if what == "info":
            cli.main(["info", str(copied)], prog_name="vpngen", standalone_mode=False)
        elif what == "open":
            vpngen.ClipStream(copied, 2, clip=(2, 24, 24), device="cpu", threads=1)
            view = vpngen.open(copied)
            for array in (view.label, *view.truth.values()):
                array[:]
        else:
            vpngen.store.verify(copied, repair=what == "repair", threads=1)

    return make, trial


TARGETS: dict[str, Callable[[Path], Target]] = {
    "cli": of_cli, "spec": of_spec, "state": of_state, "metadata": of_metadata, "store": of_store, "lists": of_lists,
}  # fmt: skip


def fuzz(name: str, seconds: float, seed: int, most: int = 20) -> tuple[int, list[str]]:
    """How many inputs were tried, and what was wrong, each kind once."""
    draw, found, tried, here = random.Random(f"{name} {seed}"), dict[str, str](), 0, Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        make, trial = TARGETS[name](Path(folder))
        end = time.monotonic() + seconds
        try:
            while time.monotonic() < end and len(found) < most:
                made, tried = make(draw), tried + 1
                try:
                    with limited(), quiet():
                        trial(made)
                except (VpngenError, click.ClickException, click.exceptions.Exit):
                    pass
                except SystemExit as stop:
                    if stop.code not in (0, 1, 2, 3, 4, None):
                        found.setdefault(f"exit {stop.code}", f"exit {stop.code}: {made!r}"[:2000])
                except (Exception, Late) as error:
                    frame = traceback.extract_tb(error.__traceback__)[-1]
                    where = f"{type(error).__name__} at {frame.filename}:{frame.lineno}"
                    shown = "".join(traceback.format_exception(error, limit=-6, chain=False))
                    found.setdefault(where, f"{shown[-2000:]}with {trimmed(made)}")
        finally:
            os.chdir(here)
    return tried, [*found.values()]


def trimmed(made: Any) -> str:
    """An input, cut short."""
    try:
        text = repr(made)
    except (ValueError, RecursionError):
        text = "an input that is deep or long"
    return text if len(text) < 2000 else f"{text[:1200]} ... {text[-800:]}"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Nothing on the terminal, and no input."""
    stdin = sys.stdin
    sys.stdin = io.TextIOWrapper(io.BytesIO(b"{}"))
    try:
        with (
            contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO())),
            contextlib.redirect_stderr(io.TextIOWrapper(io.BytesIO())),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        sys.stdin = stdin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", nargs="?", default="all", choices=[*TARGETS, "all"])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    wrong = 0
    for name in TARGETS if given.target == "all" else [given.target]:
        tried, found = fuzz(name, given.seconds, given.seed)
        wrong += len(found)
        print(
            *(f"--- {name}\n{one}" for one in found),
            f"{name}: {tried:,} inputs, {len(found)} wrong",
            sep="\n",
            flush=True,
        )
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
