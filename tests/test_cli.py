"""The command line as its users meet it: what it prints where, its exit codes, and what it leaves on disk."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import json
import os
import pty
import re
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import stores
from commands import Result, Run, end_of, process
from PIL import Image

import vpngen
from vpngen import Spec, cli, executors, health, store, systems, terminal
from vpngen import preview as pictures
from vpngen.backends import BACKENDS
from vpngen.cli import base, sets
from vpngen.errors import MissingError, RunError
from vpngen.generators import kinds
from vpngen.spec import presets
from vpngen.store.targets import local

SMALL = (
    "--shape", "16x60x48", "--divisions-x", "2,4", "--divisions-y", "3,6", "--noise-terms", "0", "--instances", "3",
    "--val-instances", "1",
)  # fmt: skip
"""Four categories, 12 videos and 4."""
FRACTALS = (
    "--generator", "fractal", "--categories", "4", "--instances", "3", "--val-instances", "1", "--shape", "12x40x48",
    "--points-per-frame", "50",
)  # fmt: skip
"""As many categories and videos of another generator."""
SHARDS = ("--shard-videos", "4")
"""Three shards and one."""
COMMANDS = tuple(cli.cli.commands)
NESTED = tuple(f"figure {name}" for name in cli.figures.figure.commands)
GO_ON = "What was finished stays; give the same command again to go on."


def small_spec() -> Spec:
    return vpngen.perlin(
        divisions_x=(2, 4), divisions_y=(3, 6), noise_terms=0, shape=(16, 60, 48), instances=3, val_instances=1
    )


def fractals(**changes: Any) -> Spec:
    counts = {"categories": 4, "instances": 3, "val_instances": 1, "shape": (12, 40, 48), "points_per_frame": 50}
    return vpngen.fractal(**{**counts, **changes})


def both_kinds() -> Spec:
    """Four labels of noise, then four of fractals."""
    noise = vpngen.perlin(divisions=(2, 4), noise_terms=0, shape=(12, 40, 48), instances=3, val_instances=1)
    return vpngen.mixed(noise, fractals())


FERN = "0,0,0,0.16,0,0,0.01\n0.85,0.04,-0.04,0.85,0,1.6,0.85\n0.2,-0.26,0.23,0.22,0,1.6,0.07\n-0.15,0.28,0.26,0.24,0,0.44,0.07\n"
CARPET = "0.5,0,0,0.5,0,0,0.25\n0.5,0,0,0.5,0.5,0,0.25\n0.5,0,0,0.5,0,0.5,0.25\n0.5,0,0,0.5,0.5,0.5,0.25\n"


def ifs_dir(folder: str | Path, *files: str) -> None:
    """FractalDB's category files: 00000.csv, 00001.csv, ..."""
    Path(folder).mkdir()
    for i, text in enumerate(files):
        Path(folder, f"{i:05d}.csv").write_text(text)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete store of `SMALL`, not to be changed."""
    path = tmp_path_factory.mktemp("finished") / "small.zarr"
    vpngen.write(small_spec(), path, shard_videos=4, backend="reference", threads=1)
    return path


@pytest.fixture
def small(finished: Path, tmp_path: Path) -> Path:
    """A complete store of `SMALL` to play with, in the folder where `run` runs."""
    return stores.copy(finished, tmp_path / "small.zarr")


# --- help


def parser_of(name: str) -> click.Command:
    command: click.Command = cli.cli
    for part in name.split():
        assert isinstance(command, click.Group)
        command = command.commands[part]
    return command


def examples(command: click.Command) -> list[list[str]]:
    """The command lines in the help of a command, without what the shell does with their output."""
    text = (command.help or "").partition("Examples:\n")[2]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    assert all(line.startswith("vpngen ") for line in lines)
    return [shlex.split(re.split(r"\s>>?\s|\s\s+", line)[0]) for line in lines]


@pytest.mark.parametrize("name", ["", *COMMANDS, *NESTED, "render --generator fractal"])
def test_help_fits_and_explains_everything(run: Run, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    columns = 60 + 20 * (len(name) % 3)
    monkeypatch.setenv("COLUMNS", str(columns))
    command_name, args = name.partition(" --")[0], name.split()
    result = run(*args, "--help")
    assert (result.code, result.err) == (0, "")
    assert result.out == run(*args, "-h").out
    assert result.out.startswith(f"Usage: vpngen {command_name}".rstrip())
    command, lines = parser_of(command_name), result.out.splitlines()
    with command.make_context(name, args[1:], resilient_parsing=True) as context:
        known = [p for p in command.get_params(context) if isinstance(p, click.Option)]
        options = [p for p in known if not p.hidden]
    assert len({p.name for p in known}) == len(known), "no two options have one name"
    shown = {line.strip() for line in lines}
    for option in options:
        assert option.help, option.name
        assert any(re.match(rf"\s+(-\w, )?{re.escape(opt)}\b", line) for line in lines for opt in option.opts)
    in_help = [line.strip() for line in (command.help or "").partition("Examples:\n")[2].splitlines()]
    assert set(in_help) <= shown, "examples are shown line by line"
    assert max(len(line) for line in lines if line.strip() not in in_help) <= max(columns, 50)
    assert max(map(len, lines)) <= max(columns, 80)
    assert "\b" not in result.out and r"\b" not in result.out


def test_help_of_the_whole_lists_every_command_in_full(run: Run) -> None:
    text = run("--help").out
    listed = re.search(r"Commands:\n((?:  .*\n)+)", text)
    assert listed is not None
    assert [line.split()[0] for line in listed[1].splitlines()] == list(COMMANDS)
    assert "..." not in listed[1]
    for code in ("0 done", "1 failed", "2 bad argument", "3 conflict", "4 something is missing"):
        assert code in re.sub(r"\s+", " ", text)


@pytest.mark.parametrize("name", ["", *(c for c in COMMANDS if c != "doctor"), *NESTED])
def test_examples_in_the_help_are_understood(run: Run, tmp_path: Path, name: str) -> None:
    (tmp_path / "set.json").write_text("{}")
    lines = examples(parser_of(name))
    assert lines
    for _, command, *args in lines:
        if command == "figure":
            command, args = f"{command} {args[0]}", args[1:]
        with parser_of(command).make_context(command, args) as context:
            assert not context.args


def test_options_that_name_a_dataset_are_the_same_everywhere_and_apart(run: Run) -> None:
    def apart(title: str, *command: str) -> str:
        return run(*command, "--help").out.partition(f"{title}:\n")[2].partition("\n\n")[0].strip()

    for title, asked, within, not_within in (
        ("Which dataset", (), ("--preset NAME", "--seed ", "(W, H) pairs"), ("--format [", "--trail", "--fade")),
        ("With --generator perlin", (), ("--temporal NAME", "--fade ["), ("--seed ", "--trail")),
        ("Which dataset", ("--generator", "fractal"), ("--preset NAME", "100x362x362"), ("--trail", "(W, H)")),
        ("With --generator fractal", ("--generator=fractal",), ("--trail INTEGER", "--ifs-dir FOLDER"), ("--temporal",)),
        ("With --generator fractal", ("--preset", "vf-1000x1000"), ("--trail INTEGER",), ("--seed ", "--temporal")),
    ):  # fmt: skip
        text = apart(title, "render", *asked)
        assert all(part in text for part in within) and not any(part in text for part in not_within)
        for command in ("info", "preview", "mosaic"):
            assert apart(title, command, *asked) == text
    assert "With --generator fractal" not in run("render", "--help").out
    training = re.sub(r"\s+", " ", run("train", "--help").out)
    assert "With --generator" not in training and "--trail" not in training
    assert "--data-seed INTEGER" in training and "`vpngen render --generator NAME --help`" in training


def test_help_and_specs_load_nothing_heavy(tmp_path: Path) -> None:
    """No numpy for the help of the whole; no kernels for what only counts."""
    script = (
        "import sys; from vpngen import cli\n"
        "def heavy(line, *more):\n"
        "    try: cli.cli.main(line.split(), standalone_mode=False)\n"
        "    except SystemExit: pass\n"
        "    found = {'numba', 'zarr', 'torch', 'rich', 'PIL', *more} & set(sys.modules)\n"
        "    if found: sys.exit(f'{line}: {found}')\n"
        "heavy('--help', 'numpy'); heavy('doctor --help', 'numpy'); heavy('render --help')\n"
        "heavy('info --preset vf-1000x1000'); heavy('info --presets')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_no_command_shows_the_help(run: Run) -> None:
    result = run()
    assert result.code in (0, 2)  # releases of click differ
    assert result.out + result.err == run("--help").out


def test_version(run: Run) -> None:
    assert run("--version") == (0, f"vpngen, version {vpngen.__version__}\n", "")


# --- which dataset, and what it is called


@pytest.mark.parametrize(
    ("args", "name"),
    [
        ([], "vpn-256x512"),
        (["--categories", "64"], "vpn-64x512"),
        (["--categories", "256", "--instances", "512", "--seed", "0"], "vpn-256x512"),
        (["--categories", "16", "--instances", "4", "--generator", "perlin"], "vpn-16x4"),
        (["--preset", "vpn-low-freq"], "vpn-low-freq"),
        (["--preset", "vpn-low-freq", "--instances", "20"], r"vpn-144x20-\w{8}"),
        (["--preset", "vpn-full", "--instances", "1"], r"vpn-768x1-\w{8}"),
        (["--seed", "1"], r"vpn-256x512-\w{8}"),
        (["--temporal", "fast", "--instances", "2"], r"vpn-256x2-\w{8}"),
        (["--temporal", "4,8", "--instances", "2"], r"vpn-512x2-\w{8}"),
        (list(SMALL), r"vpn-4x3-\w{8}"),
        (["--preset", "vpn-256x512", "--instances", "3"], "vpn-256x3"),
        (["--temporal", "8"], "vpn-256x512"),
        (["--generator", "fractal"], "vf-1000x1000"),
        (["--preset", "vf-1000x1000"], "vf-1000x1000"),
        (["--generator", "fractal", "--categories", "40", "--instances", "5"], "vf-40x5"),
        (["--preset", "vf-1000x1000", "--categories", "40"], "vf-40x1000"),
        (["--generator", "fractal", "--weight", "0.4", "--search-seed", "0", "--no-flips", "--flips"], "vf-1000x1000"),
        (["--generator", "fractal", "--trail", "5"], r"vf-1000x1000-\w{8}"),
        (["--preset", "vf-1000x1000", "--seed", "1"], r"vf-1000x1000-\w{8}"),
        (["--generator", "fractal", "--search-seed", "1", "--categories", "1"], r"vf-1x1000-\w{8}"),
        (list(FRACTALS), r"vf-4x3-\w{8}"),
    ],
)
def test_default_name(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: list[str], name: str) -> None:
    monkeypatch.setattr(executors, "estimate", lambda *_: (1, 1.0))
    result = run("render", "--dry-run", "--format", "json", *args)
    assert result.code == 0, result.err
    assert re.fullmatch(rf"{name}\.zarr", result.json["path"])
    fingerprint = result.json["fingerprint"]
    assert fingerprint == run("info", "--format", "json", *args).json["fingerprint"]
    if r"\w" in name:
        assert result.json["path"].endswith(f"-{fingerprint[:8]}.zarr")
    assert not os.listdir(tmp_path)


def test_every_option_reaches_the_spec(run: Run) -> None:
    given = {
        "categories": "99", "instances": "7", "val-instances": "2", "temporal": "4,16", "seed": "5", "shape": "32x60x120",
        "divisions-x": "4,2", "divisions-y": "3,6", "noise-terms": "1", "noise-frequencies": "1,3",
        "noise-amplitudes": "0.25,0.1", "temporal-unit": "divisions", "gradients": "sphere", "fade": "linear",
        "phase": "centre", "grey": "stretch",
    }  # fmt: skip
    options = [word for name, value in given.items() for word in (f"--{name}", value)]
    result = run("info", "--format", "json", "--loop", "--temporal", "4", "--noise-frequencies", "1,2", *options[6:])
    wrong = run("info", "--loop", *options)
    assert wrong.code == 2 and "`--noise-frequencies` has 3, which does not divide the frames of 32" in wrong.err
    result = run("info", "--format", "json", "--loop", *options, "--noise-frequencies", "1,2")
    assert result.json["spec"] == vpngen.perlin(
        instances=7, val_instances=2, temporal=(4, 16), seed=5, shape=(32, 60, 120), divisions_x=(4, 2),
        divisions_y=(3, 6), noise_terms=1, noise_frequencies=(1, 2), noise_amplitudes=(0.25, 0.1),
        temporal_unit="divisions", gradients="sphere", fade="linear", phase="centre", grey="stretch", loop=True,
    ).to_dict()  # fmt: skip
    assert result.json["categories"] == 8 and result.json["videos"] == 8 * 9
    both = run("info", "--format", "json", "--categories", "4", "--divisions", "2,4", "--shape", "8x48x48")
    assert both.json["spec"]["generator"]["divisions_x"] == both.json["spec"]["generator"]["divisions_y"] == [2, 4]
    low = run("info", "--format", "json", "--categories", "4", "--divisions", "low", "--no-loop")
    assert low.json["spec"]["generator"]["divisions_y"] == [1, 2]


def test_every_option_of_fractals_reaches_the_spec(run: Run) -> None:
    given = {
        "categories": "3", "instances": "7", "val-instances": "2", "seed": "5", "shape": "9x60x120", "search-seed": "12",
        "weight": "0.2", "draw": "point", "points-per-frame": "70", "trail": "4", "pad": "1", "level": "255",
    }  # fmt: skip
    options = [word for name, value in given.items() for word in (f"--{name}", value)]
    result = run("info", "--format", "json", "--generator", "fractal", "--no-flips", *options)
    assert (result.code, result.err) == (0, "")
    assert result.json["spec"] == vpngen.fractal(
        3, 7, val_instances=2, seed=5, shape=(9, 60, 120), search_seed=12, weight=0.2, draw="point", points_per_frame=70,
        trail=4, pad=1, level=255, flips=False,
    ).to_dict()  # fmt: skip
    preset = run("info", "--format", "json", "--preset", "vf-1000x1000", "--trail", "3", "--instances", "2").json
    assert preset["spec"] == Spec.preset("vf-1000x1000", trail=3, instances=2).to_dict()
    assert run("info", "--format", "json", "--preset", "vf-1000x1000", "--generator", "fractal").code == 0


def test_categories_from_files(run: Run) -> None:
    ifs_dir("ifs", CARPET, FERN)
    result = run("info", "--generator", "fractal", "--ifs-dir", "ifs", "--format", "json")
    assert (result.code, result.json["categories"], result.json["instances"]) == (0, 2, 1000)
    assert result.json["spec"] == vpngen.fractal(ifs_dir="ifs").to_dict()
    fewer = run("info", "--generator", "fractal", "--ifs-dir", "ifs", "--categories", "1")
    lines = dict(re.split(r"  +", line, maxsplit=1) for line in fewer.out.splitlines())
    assert lines["systems"] == "1 from files, of 4 maps"
    assert run("mosaic", "--generator", "fractal", "--ifs-dir", "ifs").out == "mosaic.png: 2 categories\n"
    planned = run("render", "--generator", "fractal", "--ifs-dir", "ifs", "--dry-run", "--format", "json").json
    assert re.fullmatch(r"vf-2x1000-\w{8}\.zarr", planned["path"])


def test_several_spec_files_are_mixed(run: Run, tmp_path: Path) -> None:
    noise, both = both_kinds().generator.parts[0], both_kinds()  # type: ignore[attr-defined]
    Path("noise.json").write_text(json.dumps({**both.to_dict(), "generator": {"name": "perlin", **noise.to_dict()}}))
    Path("fractals.json").write_text(run("info", *FRACTALS, "--format", "json").out)
    mix = ("--spec", "noise.json", "--spec", "fractals.json")
    result = run("info", *mix, "--format", "json")
    assert result.json["spec"] == both.to_dict()
    Path("both.json").write_text(result.out)
    planned = run("render", "--spec", "both.json", "--dry-run", "--format", "json").json
    assert planned["path"] == f"mixed-{both.fingerprint[:8]}.zarr"
    text = run("info", "--spec", "both.json").out.splitlines()
    lines = [re.sub(r"  +", "  ", line) for line in text]
    assert "perlin  categories 0 to 3" in lines and "fractal  categories 4 to 7" in lines
    assert " temporal  8" in [line.replace("  ", " ", 1) for line in lines]
    assert " systems  4 of search seed 0, of 2 to 5 maps" in [line.replace("  ", " ", 1) for line in lines]
    Path("other.json").write_text(run("info", *FRACTALS, "--seed", "3", "--format", "json").out)
    wrong = run("info", *mix, "--spec", "other.json")
    assert wrong.code == 2
    assert "the specs must have one `seed`, and 'other.json' has 3, 'noise.json' 0" in wrong.err


def test_the_mixture_of_the_readme(run: Run) -> None:
    """Its lines, as they are printed, in an empty folder."""
    lines = (Path(__file__).parents[1] / "README.md").read_text().splitlines()
    (last,) = (number for number, line in enumerate(lines) if line.startswith("vpngen render both.zarr"))
    for line in lines[last - 2 : last + 1]:
        words = shlex.split(line, comments=True)
        *command, _, file = words if ">" in words else [*words, "", ""]
        done = run(*command[1:])
        assert done.code == 0, done.err
        if file:
            Path(file).write_text(done.out)
    assert run("info", "both.zarr", "--format", "json").json["categories"] == 32


def test_spec_file_is_what_info_prints(run: Run, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("of store.json").write_text(run("info", small, "--format", "json").out)
    Path("of options.json").write_text(run("info", *SMALL, "--format", "json").out)
    Path("bare.json").write_text(small_spec().to_json())
    for name in ("of store.json", "of options.json", "bare.json"):
        assert run("info", "--spec", name, "--format", "json").json["spec"] == small_spec().to_dict()
    again = run("render", small, "--spec", "of store.json", *SHARDS, "--format", "json")
    assert (again.json["rendered"], again.json["kept"]) == (0, 16)
    named = run("render", "--spec", "bare.json", "--dry-run", "--format", "json").json
    assert named["path"] == f"perlin-{small_spec().fingerprint[:8]}.zarr"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(Path("of store.json").read_bytes()), "utf-8"))
    assert run("info", "--spec", "-", "--format", "json").json["spec"] == small_spec().to_dict()


# --- bad arguments


BAD: list[tuple[str, str]] = [
    ("nothing", "No such command 'nothing'"),
    ("render --catgories 4", "No such option"),
    ("render --categories four", "'--categories': 'four' is not a valid integer"),
    ("render --categories -4", "`--categories` (=-4) must be an integer of at least 1"),
    ("render --categories 401", "`--categories` (=401) must be; 360, 361, 380, 400"),
    ("render --categories 99999999999999999999999999", "`--categories` (=99999999999999999999999999) must be; 400"),
    ("render --instances 0", "`--instances` (=0) must be an integer from 1 to"),
    ("render --instances -1", "`--instances` (=-1) must be an integer from 1 to"),
    ("render --instances 99999999999999999999", "`--instances` (=99999999999999999999) must be an integer from 1 to"),
    ("render --val-instances -1", "`--val-instances` (=-1) must be an integer from 0 to"),
    ("render --seed -1", "`--seed` (=-1) must be an integer from 0 to 18446744073709551615"),
    ("render --shape 10x10", "'--shape': '10x10' must be FRAMESxHEIGHTxWIDTH, such as 240x240x240"),
    ("render --shape 16x48x99999999 --divisions 1", "`--shape` (=(16, 48, 99999999)) must be (frames, height, width), integers from 1 to 65536"),
    ("render --shape 16x50x48 --divisions-x 2 --divisions-y 4", "`--divisions-y` has 4, which does not divide the height of 50; change one, or leave it out"),
    ("render --shape 16x48x50 --divisions 2,4", "`--divisions-x` has 4, which does not divide the width of 50"),
    ("render --divisions 7,9,x", "'--divisions': '7,9,x' must be a name, or whole numbers separated by commas"),
    ("render --divisions middle", "`--divisions` (='middle') must be one of spread, low, high"),
    ("render --temporal quick", "`--temporal` (='quick') must be one of fast, middle, slow, full"),
    ("render --temporal 8,8", "`--temporal` (=(8, 8)) must have a value, and none twice"),
    ("render --generator voronoi", "'--generator': 'voronoi' is not one of 'perlin', 'fractal'"),
    ("render --trail 4", "`--trail` is an option of the fractal generator, and this set is of 'perlin'; give `--generator fractal`, or leave it out"),
    ("render --generator fractal --fade linear", "`--fade` is an option of the perlin generator, and this set is of 'fractal'; give `--generator perlin`"),
    ("info --generator fractal --no-loop", "`--loop` is an option of the perlin generator"),
    ("info --no-flips", "`--flips` is an option of the fractal generator"),
    ("info --preset vf-1000x1000 --divisions low", "`--divisions` is an option of the perlin generator, and this set is of 'fractal'; leave one of them out"),
    ("mosaic --preset vpn-low-freq --ifs-dir ifs", "`--ifs-dir` is an option of the fractal generator, and this set is of 'perlin'"),
    ("info --preset vf-1000x1000 --generator perlin", "`--generator` (='perlin') cannot be given beside --preset vf-1000x1000, a set of 'fractal'"),
    ("info --preset vpn-slow --generator fractal", "`--generator` (='fractal') cannot be given beside --preset vpn-slow, a set of 'perlin'"),
    ("info --preset nope --trail 3", "`--preset` (='nope') must be one of vpn-256x512; vf-1000x1000"),
    ("render --generator fractal --categories 0", "`--categories` (=0) must be an integer from 1 to 100000"),
    ("render --generator fractal --categories 100001", "`--categories` (=100001) must be an integer from 1 to 100000"),
    ("render --generator fractal --search-seed -1", "`--search-seed` (=-1) must be an integer from 0 to"),
    ("render --generator fractal --weight 0.5", "`--weight` (=0.5) must be a number from 0 to below 0.5"),
    ("render --generator fractal --weight nan", "`--weight` (=nan) must be a number from 0 to below 0.5"),
    ("render --generator fractal --draw line", "'--draw': 'line' is not one of 'patch', 'point'"),
    ("render --generator fractal --points-per-frame 0", "`--points-per-frame` (=0) must be an integer from 1 to"),
    ("render --generator fractal --points-per-frame 200000", "`--points-per-frame` (=200000) is more than 16,777,216 points in 100 frames"),
    ("render --generator fractal --trail 300", "`--trail` (=300) must be an integer from 0 to 254"),
    ("render --generator fractal --pad 181", "`--pad` (=181) leaves nothing of frames of 362 x 362"),
    ("render --generator fractal --level 0", "`--level` (=0) must be an integer from 1 to 255"),
    ("render --generator fractal --shape 10x12x99", "`--pad` (=6) leaves nothing of frames of 12 x 99"),
    ("info --generator fractal --ifs-dir absent", "`--ifs-dir` (='absent') is not a folder"),
    ("info --generator fractal --ifs-dir empty", "`--ifs-dir` (='empty') holds no .csv files"),
    ("info --generator fractal --ifs-dir ifs --categories 3", "`--categories` (=3) is more than the folder holds, which is 2"),
    ("info --generator fractal --ifs-dir ifs --search-seed 0", "`--search-seed` is of a search, and category files take its place; leave one of them out"),
    ("info --generator fractal --ifs-dir columns", "'columns/00001.csv' is not a category of FractalDB (a, b, c, d, e, f, probability): line 2 must have 7 finite numbers"),
    ("info --generator fractal --ifs-dir header", "'header/00000.csv' is not a category of FractalDB; could not convert string to float: 'a'"),
    ("info --generator fractal --ifs-dir nan", "'nan/00000.csv' is not a category of FractalDB; line 3 must have 7 finite numbers"),
    ("info --generator fractal --ifs-dir sum", "'sum/00000.csv' is not a category of FractalDB; the probabilities must be positive and sum to 1, and sum to 1.75"),
    ("info --generator fractal --ifs-dir maps", "'maps/00000.csv' is not a category of FractalDB; it has 8 maps; from 1 to 7 are allowed"),
    ("info --generator fractal --ifs-dir bytes-in", "'bytes-in/00000.csv' is not a category of FractalDB"),
    ("render --generator fractal --ifs-dir point --dry-run", "`--ifs-dir` (='point') holds a category that never fills, number 1"),
    ("render --generator fractal --ifs-dir away --dry-run", "`--ifs-dir` (='away') holds a category that never fills, number 0"),
    ("render --noise-terms 3", "`--noise-terms` (=3) must be an integer from 0 to 2"),
    ("render --noise-amplitudes 0.5,nan", "`--noise-amplitudes` (=(0.5, nan)) must be a list of finite numbers"),
    ("render --noise-amplitudes ''", "'--noise-amplitudes': '' must be numbers separated by commas"),
    ("render --grey pink", "'--grey': 'pink' is not one of 'fixed', 'stretch'"),
    ("render --preset nope", "`--preset` (='nope') must be one of vpn-256x512, vpn-400x200; vpn-high-freq"),
    ("render --backend nope --dry-run", "`--backend` (='nope') must be auto or one of; numba, reference"),
    ("render --threads 0", "`--threads` (=0) must be an integer from 1 to"),
    ("render --threads 1000000", "`--threads` (=1000000) must be an integer from 1 to"),
    ("render --shard-videos 0", "`--shard-videos` (=0) must be an integer from 1 to"),
    ("render --codec lz4", "'--codec': 'lz4' is not one of 'none', 'zstd'"),
    ("render --slice 0/4", "`--slice` (='0/4') must be I/N with 1 <= I <= N, such as 1/4"),
    ("render --slice 5/4", "`--slice` (='5/4') must be I/N with 1 <= I <= N, such as 1/4"),
    ("render --slice half", "`--slice` (='half') must be I/N with 1 <= I <= N, such as 1/4"),
    ("render a.zarr b.zarr", "unexpected extra argument (b.zarr)"),
    ("render file/b.zarr", "`OUT` (='file/b.zarr'); 'file' is a file, not a folder"),
    ("render a\udcff.zarr", "`OUT` (='a\\udcff.zarr') is not valid UTF-8"),
    ("render --spec absent.json", "`--spec` (='absent.json') cannot be read: No such file"),
    ("render --spec file", "`--spec` (='file') holds no spec as JSON"),
    ("render --spec bytes", "`--spec` (='bytes') holds no spec as JSON"),
    ("render --spec newer.json", "`--spec` (='newer.json'); `format_version` (=2) is newer than this vpngen; upgrade"),
    ("render --spec other.json", "`--spec` (='other.json'); a spec has the fields; seed"),
    ("render --spec newer.json --seed 3", "`--seed` cannot be given beside --spec, which names the whole dataset"),
    ("info --spec newer.json --generator perlin", "`--generator` cannot be given beside --spec"),
    ("info --spec newer.json --preset vpn-fast", "`--preset` cannot be given beside --spec"),
    ("info absent.zarr", "`STORE` (='absent.zarr') is not there"),
    ("info small.zarr --seed 1", "`--seed` cannot be given beside STORE"),
    ("info small.zarr --spec newer.json", "`--spec` cannot be given beside STORE"),
    ("info --presets --seed 1", "`--seed` cannot be given beside --presets"),
    ("info --presets small.zarr", "STORE cannot be given beside --presets"),
    ("verify", "Missing argument 'STORE'"),
    ("verify absent.zarr", "`STORE` (='absent.zarr') is not there"),
    ("verify small.zarr --threads -1", "`--threads` (=-1) must be an integer from 1 to"),
    ("verify small.zarr --render --backend nope", "`--backend` (='nope') must be auto or one of; numba, reference"),
    ("preview absent.zarr", "`STORE` (='absent.zarr') is not there"),
    ("preview small.zarr -o x.jpg", "`--out` (='x.jpg') must end in one of .mp4, .mkv, .gif, .png"),
    ("preview small.zarr -o absent/x.png", "`--out` (='absent/x.png') lies in a folder that does not exist"),
    ("preview 0-3", "`STORE` (='0-3') is no store; for the videos of these numbers give --indices 0-3"),
    ("mosaic 0-3", "`STORE` (='0-3') is not there"),
    ("preview --videos 0-3", "No such option '--videos'. Did you mean '--indices'?"),
    ("preview small.zarr --indices small.zarr", "'--indices': 'small.zarr' must be numbers and rising ranges"),
    ("finetune --videos 0-3", "No such option '--videos'. Did you mean '--root'?"),
    ("train x --workers 0-3", "No such option '--workers'. Did you mean '--num-workers' or '--threads'?"),
    ("preview small.zarr --indices 12", "video index 12 is outside the train split of 12 videos (0 to 11)"),
    ("preview small.zarr --indices 0,-1", "'--indices': '0,-1' must be numbers and rising ranges, such as 0,5,8-11"),
    ("preview small.zarr --indices 0,x", "'--indices': '0,x' must be numbers and rising ranges"),
    ("preview small.zarr --indices 3-0", "'--indices': '3-0' must be numbers and rising ranges"),
    ("preview small.zarr --indices 0-99999999999", "video index 99999999999 is outside the train split"),
    ("preview small.zarr --frames 5", "'--frames': '5' must be START:STOP, such as 0:64"),
    ("preview small.zarr --frames 5:5", "`--frames` (=(5, 5)) must be (start, stop) with 0 <= start < stop <= 16"),
    ("preview small.zarr --frames 0:17", "`--frames` (=(0, 17)) must be (start, stop) with 0 <= start < stop <= 16"),
    ("preview small.zarr --fps 0", "`--fps` (=0.0) must be a number from 0.1 to"),
    ("preview small.zarr --columns 0", "`--columns` (=0) must be an integer of at least 1"),
    ("preview small.zarr --split test", "'--split': 'test' is not one of 'train', 'val'"),
    ("preview small.zarr --fade linear", "`--fade` cannot be given beside STORE"),
    ("preview --split val", "`--split` (='val') holds no videos; give --val-instances"),
    ("mosaic --split val", "`--split` (='val') holds no videos; give --val-instances"),
    ("mosaic small.zarr --tile 0", "`--tile` (=0) must be an integer of at least 1"),
    ("mosaic small.zarr --show-d 3", "`--show-d` (=3) must be one of the D of this set: (8,)"),
    ("mosaic small.zarr --instance 3", "`--instance` (=3) must be an integer from 0 to 2"),
    ("mosaic small.zarr --columns 2", "`--columns` (=2) is of pages, and all categories of this set lie on a plane"),
    ("mosaic small.zarr --page 1", "`--page` (=1) is of pages, and all categories of this set lie on a plane"),
    ("mosaic --generator fractal --show-d 8", "`--show-d` (=8) chooses a category plane, and Video Fractal has none"),
    ("mosaic --generator fractal --page 4", "`--page` (=4) must be from 1 to 3: 400 categories fit on one"),
    ("mosaic --generator fractal --per-page 0", "`--per-page` (=0) must be an integer of at least 1"),
    ("mosaic --generator fractal --columns -1", "`--columns` (=-1) must be an integer of at least 1"),
    ("train new --store absent.zarr", "`--store` (='absent.zarr') is not there"),
    ("finetune new --dataset folder --root absent", "`--root` (='absent') is not a folder"),
    ("finetune new --dataset ucf101 --root . --annotations absent", "`--annotations` (='absent') is not there"),
    ("evaluate absent", "`WEIGHTS` (='absent') cannot be read: No such file"),
    ("figure filters absent", "`WEIGHTS` (='absent') cannot be read: No such file"),
    ("figure curves absent", "'absent/log.csv' is no log of a run; No such file"),
    ("figure sweep absent", "'absent' is no evaluation; No such file"),
    ("figure confusion absent", "'absent' is no evaluation; No such file"),
    ("doctor now", "must be that of an object store"),
    ("completion bash now", "unexpected extra argument (now)"),
    ("completion tcsh", "'tcsh' is not one of 'bash', 'zsh', 'fish'"),
]  # fmt: skip
"""A command line and what its message must hold, parts separated by semicolons."""


@pytest.mark.parametrize(("line", "says"), BAD, ids=[line for line, _ in BAD])
def test_bad_argument(run: Run, small: Path, tmp_path: Path, line: str, says: str) -> None:
    Path("file").write_text("not JSON")
    Path("bytes").write_bytes(b"\xff{}")
    Path("newer.json").write_text(json.dumps({**small_spec().to_dict(), "format_version": 2}))
    Path("other.json").write_text('{"spec": {"x": 1}}')
    ifs_dir("empty")
    ifs_dir("ifs", CARPET, FERN)
    ifs_dir("columns", FERN, CARPET.replace(",0.25\n0.5,0,0,0.5,0,0.5", "\n0.5,0,0,0.5,0,0.5", 1))
    ifs_dir("header", "a,b,c,d,e,f,p\n" + CARPET)
    ifs_dir("nan", FERN.replace("0.2,-0.26", "nan,-0.26"))
    ifs_dir("sum", CARPET.replace("0.25\n", "1\n", 1))
    ifs_dir("maps", CARPET.replace("0.25", "0.125") * 2)
    ifs_dir("bytes-in")
    Path("bytes-in/00000.csv").write_bytes(b"\xff\xfe0.5")
    ifs_dir(
        "point",
        CARPET,
        CARPET.replace("0.5,0,0,0.5,0.5,0.5", "0.5,0,0,0.5,0,0")
        .replace("0.5,0,0,0.5,0,0.5", "0.5,0,0,0.5,0,0")
        .replace("0.5,0,0,0.5,0.5,0", "0.5,0,0,0.5,0,0"),
    )
    ifs_dir("away", CARPET.replace("0.5,0,0,0.5", "1.5,0,0,1.5"))
    before = stores.tree(tmp_path)
    result = run(*shlex.split(line))
    assert (result.code, result.out) == (2, ""), result
    message = re.sub(r"\s+", " ", result.err).replace(str(tmp_path) + os.sep, "")
    for part in says.split("; "):
        assert part.replace("nearest:", "the nearest that are:") in message
    assert result.err.count("Error: ") == 1
    assert stores.tree(tmp_path) == before


ERRORS: list[tuple[str, int, str, str | None]] = [
    ("verify absent.zarr", 2, "argument", "STORE"),
    ("verify", 2, "argument", "STORE"),
    ("verify small.zarr --spec absent.json", 2, "argument", "--spec"),
    ("info small.zarr --nope", 2, "argument", "--nope"),
    ("render --threads x", 2, "argument", "--threads"),
    ("render --slice 9/3", 2, "argument", "--slice"),
    ("render new.zarr more.zarr", 2, "argument", None),
    ("render small.zarr --categories 9 --instances 1 --backend reference", 3, "conflict", None),
    ("render new.zarr --backend cuda:9", 4, "missing", None),
    ("train new --store absent.zarr", 2, "argument", "--store"),
]
"""A command line, and the exit code, kind and argument of its error."""


@pytest.mark.parametrize(("line", "code", "kind", "argument"), ERRORS, ids=[line for line, *_ in ERRORS])
def test_errors_for_machines(run: Run, small: Path, line: str, code: int, kind: str, argument: str | None) -> None:
    """The last line of stderr, whatever is wrong; stdout stays empty. The message is the one that people get."""
    for given in (("--format", "json"), ("--format=json",)):
        found = run(*line.split(), *given)
        assert (found.code, found.out) == (code, ""), found
        error = json.loads(found.err.splitlines()[-1])["error"]
        assert (error["exit_code"], error["kind"], error["argument"]) == (code, kind, argument)
        said = run(*line.split()).err
        assert re.sub(r"\s+", " ", error["message"]) in re.sub(r"\s+", " ", said) and not said.startswith("{")


# --- render


def test_render_says_what_it_did(run: Run, finished: Path, tmp_path: Path) -> None:
    first = run("render", "a.zarr", *SMALL, *SHARDS)
    assert (first.code, first.err) == (0, "")
    assert re.fullmatch(r"a\.zarr: 16 videos rendered \(\d+ kB in [\d.]+ s, [\d.,]+ a second\)\n", first.out)
    assert stores.tree(tmp_path / "a.zarr") == stores.tree(finished)
    assert run("render", "a.zarr", *SMALL, *SHARDS) == (0, "a.zarr: nothing to do, 16 were there\n", "")
    report = run("render", "a.zarr", *SMALL, *SHARDS, "--format", "json")
    assert report.err == ""
    assert report.json["seconds"] >= 0
    assert report.json == {
        "path": "a.zarr", "fingerprint": small_spec().fingerprint, "rendered": 0, "kept": 16, "elsewhere": 0, "bytes": 0,
        "seconds": report.json["seconds"], "finished": True,
    }  # fmt: skip
    assert os.listdir(tmp_path) == ["a.zarr"]


def test_a_formula_from_render_to_repair(run: Run, finished: Path, tmp_path: Path) -> None:
    args = ("render", "a.zarr", *SMALL, "--codec", "formula")
    plan = run(*args, "--dry-run", "--format", "json").json
    assert (plan["videos"], plan["estimated_bytes"], plan["fits"]) == (16, 16 * (8 + 96 + 4 + 16), True)
    report = run(*args, "--format", "json").json
    assert (report["rendered"], report["bytes"], report["finished"]) == (16, 16 * (8 + 96 + 4), True)
    assert run(*args).out == "a.zarr: nothing to do, 16 were there\n"
    assert run("info", "a.zarr", "--format", "json").json["codec"] == "formula"
    assert "codec formula, 1,024 videos a shard" in run("info", "a.zarr").out
    for extra in ((), ("--render",)):
        assert run("verify", "a.zarr", *extra).code == 0
    for name, path in (("formula.png", "a.zarr"), ("pixels.png", finished)):
        assert run("preview", path, "-o", name).code == 0
    assert Path("formula.png").read_bytes() == Path("pixels.png").read_bytes()
    whole = stores.tree(tmp_path / "a.zarr")
    shard = tmp_path / "a.zarr" / "train" / "video" / "c.0.0.0.0"
    data = bytearray(shard.read_bytes())
    data[108 + 50] ^= 1
    shard.write_bytes(data)
    shown = run("preview", "a.zarr", "--indices", "1", "-o", "no.png")
    assert (shown.code, shown.out) == (1, "")
    assert shown.err.startswith(
        "Error: a.zarr/train/video/c.0.0.0.0, video 1 of the train split: a formula chunk is damaged: its checksum does not match; look at it with: vpngen verify"
    )
    (tmp_path / "a.zarr").rename(tmp_path / "my set.zarr")
    assert run("preview", "my set.zarr", "-o", "no.png").err.endswith("look at it with: vpngen verify 'my set.zarr'\n")
    shutil.copytree(finished, "-other set.zarr")
    stored = Path("-other set.zarr/train/video/c.0.0.0.0")
    stored.write_bytes(bytes(len(stored.read_bytes())))
    with pytest.raises(RunError, match=r"look at it with: vpngen verify '/.*/-other set.zarr'$"):
        next(iter(vpngen.loader("-other set.zarr", 4, clip=(4, 8, 8), device="cpu")))
    (tmp_path / "my set.zarr").rename(tmp_path / "a.zarr")
    checked = run("verify", "a.zarr")
    assert checked.code == 1 and "c.0.0.0.0: damaged videos (videos 1 of train)" in checked.out
    assert run("verify", "a.zarr", "--repair").code == 0
    assert stores.tree(tmp_path / "a.zarr") == whole


@pytest.mark.parametrize("codec", ["zstd", "formula"])
@pytest.mark.parametrize("kind", ["fractal", "mixed"])
def test_fractals_and_mixtures_from_render_to_repair(run: Run, tmp_path: Path, kind: str, codec: str) -> None:
    spec = fractals() if kind == "fractal" else both_kinds()
    Path("set.json").write_text(spec.to_json())
    options = FRACTALS if kind == "fractal" else ("--spec", "set.json")
    args = ("render", "a.zarr", *options, "--codec", codec, *SHARDS)
    n = 4 * spec.n_categories
    plan = run(*args, "--dry-run", "--format", "json").json
    assert (plan["videos"], plan["fits"], plan["raw_bytes"]) == (n, True, spec.nbytes)
    assert plan["estimated_bytes"] < spec.nbytes
    part = run(*args, "--slice", "1/2", "--backend", "reference", "--format", "json").json
    assert part["rendered"] == n // 2 and not part["finished"]
    rest = run(*args, "--format", "json").json
    assert (rest["rendered"], rest["kept"], rest["finished"]) == (n // 2, n // 2, True)
    assert run(*args).out == f"a.zarr: nothing to do, {n} were there\n"
    listed = run("info", "a.zarr", "--format", "json").json
    assert (listed["generator"], listed["codec"], listed["spec"]) == (kind, codec, spec.to_dict())
    for extra in ((), ("--render",)):
        assert run("verify", "a.zarr", *extra).code == 0
    for command in ("preview", "preview --split val", "mosaic", "mosaic --instance 2", "mosaic --frames 3:4"):
        for name, source in (("stored", ("a.zarr",)), ("made", options)):
            made = run(*command.split(), *source, "-o", f"{name}.png")
            assert (made.code, made.err) == (0, "")
        assert Path("stored.png").read_bytes() == Path("made.png").read_bytes()
    whole = stores.tree(tmp_path / "a.zarr")
    shard = tmp_path / "a.zarr" / "train" / "video" / "c.1.0.0.0"
    data = bytearray(shard.read_bytes())
    data[60] ^= 1
    shard.write_bytes(data)
    checked = run("verify", "a.zarr")
    assert checked.code == 1 and "c.1.0.0.0: damaged videos (videos 4 of train)" in checked.out
    assert run("verify", "a.zarr", "--repair").code == 0
    assert stores.tree(tmp_path / "a.zarr") == whole
    other = run(*args, "--overwrite", "--spec", "set.json", "--seed", "4")
    assert other.code == 2 and stores.tree(tmp_path / "a.zarr") == whole


def test_slices_make_one_store(run: Run, finished: Path, tmp_path: Path) -> None:
    for name, backend in (("2/3", "numba"), ("1/3", "reference")):
        report = run("render", "a.zarr", *SMALL, *SHARDS, "--slice", name, "--backend", backend, "--format", "json")
        assert report.json["finished"] is False
    assert report.json["rendered"] == 8  # shards 0 and 3 of four
    again = run("render", "a.zarr", *SMALL, *SHARDS, "--slice", "1/3")
    assert again.out == "a.zarr: nothing to do, 8 were there; the store is not complete yet: other slices are pending\n"
    last = run("render", "a.zarr", *SMALL, *SHARDS, "--slice", "3/3", "--threads", "2", "--format", "json")
    assert (last.json["rendered"], last.json["kept"], last.json["finished"]) == (4, 0, True)
    assert stores.tree(tmp_path / "a.zarr") == stores.tree(finished)


def test_another_dataset_is_a_conflict_until_overwrite_is_asked_for(run: Run, small: Path) -> None:
    before = stores.tree(small)
    for change, difference in (
        (("--instances", "2"), "instances: 3 there, 2 asked for"),
        (("--divisions-x", "2"), "generator.divisions_x: [2, 4] there, [2] asked for"),
        (("--codec", "zstd"), "codec: none there, zstd asked for"),
    ):
        result = run("render", small, *SMALL, *SHARDS, *change)
        assert (result.code, result.out) == (3, "")
        _, first, last = result.err.splitlines()
        assert first == f"  {difference}" and last.endswith("Choose another place, or give --overwrite to replace it")
        assert ("a set grows, but does not shrink" in last) == (change[0] == "--instances")
        planned = run("render", small, *SMALL, *SHARDS, *change, "--dry-run")
        assert (planned.code, planned.out) == (3, "") and "give --overwrite" in planned.err
        assert stores.tree(small) == before
    changed = run("render", small, *SMALL, *SHARDS, "--instances", "4", "--overwrite", "--format", "json")
    assert (changed.code, changed.json["rendered"], changed.json["kept"]) == (0, 20, 0)
    assert run("info", small, "--format", "json").json["spec"]["instances"] == 4
    assert not [name for name in os.listdir() if name != small.name]


@pytest.mark.parametrize("options", [(), ("--overwrite",), ("--dry-run",), ("--dry-run", "--overwrite")])
def test_what_is_no_store_is_never_touched(run: Run, tmp_path: Path, options: tuple[str, ...]) -> None:
    Path("file").write_text("precious")
    Path("folder").mkdir()
    Path("folder/file").write_text("precious")
    before = stores.tree(tmp_path)
    for path, says in (
        ("file", "file' is not a Zarr v3 store: zarr.json cannot be read (Not a directory)"),
        ("folder", "folder' is not a Zarr v3 store"),
    ):
        result = run("render", path, *SMALL, *options)
        assert (result.code, result.out) == (3, "")
        assert says in result.err
        assert stores.tree(tmp_path) == before


def test_what_a_system_puts_into_a_mount_point_counts_for_nothing(run: Run, tmp_path: Path) -> None:
    """A store begins beside it, is whole, and is replaced without it."""
    kept = tmp_path / "mount" / "lost+found" / "#12"
    kept.parent.mkdir(parents=True)
    kept.write_text("a file that fsck found")
    for options in (("--dry-run",), (), ("--seed", "1", "--overwrite", "--dry-run"), ("--seed", "1", "--overwrite")):
        assert run("render", "mount", *SMALL, *options).code == 0
    assert run("verify", "mount").code == 0
    assert run("render", "alone", *SMALL, "--seed", "1").code == 0
    there, alone = stores.tree(tmp_path / "mount"), stores.tree(tmp_path / "alone")
    assert there.keys() - alone.keys() >= {"lost+found/#12"} and {**alone, **there} == there


@pytest.mark.parametrize("url", ["s3://bucket/x", "https://host/x.zip", "file:///data/x"])
def test_a_url_is_refused_wherever_a_path_is_taken(run: Run, url: str) -> None:
    """By the name that the command has for it, before anything is looked for."""
    found = set()
    for name in (*COMMANDS, *NESTED):
        with click.Context(parser_of(name), info_name=name) as context:
            params = parser_of(name).get_params(context)
        for param in (p for p in params if isinstance(p.type, click.Path)):
            word, stores_too = base.word_of(param), isinstance(param.type, base.StorePath)
            if stores_too and (not url.startswith("https") or param.nargs == -1):
                continue  # where it is a store, it may be one
            given = (param.opts[0], url) if isinstance(param, click.Option) else (url,)
            result = run(*name.split(), *given)
            assert result.code == 2 and f"(='{url}') is a URL" in result.err, (name, word, result)
            assert stores_too or f"Error: `{word}` (='{url}') is a URL: " in result.err
            found.add(word)
    assert found >= {
        "OUT",
        "WEIGHTS",
        "RUNS",
        "--root",
        "--annotations",
        "--init-from",
        "--ifs-dir",
        "--spec",
        "--out",
    }


def test_an_empty_path_is_not_the_default_one(run: Run, tmp_path: Path) -> None:
    """As of an unset variable in a script."""
    Path("file").write_text("precious")
    assert run("render", "", *SMALL).code == 3
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("name", [*COMMANDS, *NESTED])
def test_every_path_knows_the_home_folder(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """In quotes, and behind `=` without, a shell leaves `~` to us."""
    monkeypatch.setenv("HOME", "/home/me")
    places = {
        "~": "/home/me",
        "~/x": "/home/me/x",
        "~root/x": os.path.expanduser("~root/x"),
        "./~": "~",
        "a/~": "a/~",
        "a~": "a~",
    }
    with parser_of(name).make_context(name, [], resilient_parsing=True) as context:
        for param in parser_of(name).get_params(context):
            if isinstance(param.type, click.Path):
                found = {text: os.path.normpath(param.type.convert(text, param, context)) for text in places}
                assert found == places, param.name
                with pytest.raises(click.BadParameter, match=r"no user 'n\.body' here.* or '\./~n\.body/x"):
                    param.type.convert("~n.body/x", param, context)


def test_a_store_in_the_home_folder(run: Run, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path.parent)
    Path(tmp_path, "s.json").write_text(small_spec().to_json())
    written = run(
        "render", "~/new.zarr", "--spec=~/s.json", "--codec", "formula", "--backend", "reference", "--threads", "1"
    )
    assert (written.code, run("info", "~/new.zarr").code, run("info", "./~/new.zarr").code) == (0, 0, 2)
    assert (tmp_path / "new.zarr").is_dir() and not Path("~").exists()


# --- dry run


def test_dry_run_says_much_and_does_nothing(run: Run, tmp_path: Path) -> None:
    args = ("render", "sub/a.zarr", *SMALL, *SHARDS, "--dry-run", "--threads", "3")
    text, report = run(*args), run(*args, "--format", "json")
    assert text.code == report.code == 0
    assert not os.listdir(tmp_path)
    plan = report.json
    assert plan["path"] == os.path.join("sub", "a.zarr")
    assert (plan["videos"], plan["kept"], plan["threads"]) == (16, 0, 3)
    assert (plan["fits"], plan["problem"], plan["reclaimed_bytes"]) == (True, None, 0)
    assert plan["raw_bytes"] == 16 * 16 * 60 * 48 == small_spec().nbytes
    assert plan["raw_bytes"] < plan["estimated_bytes"] < 1.01 * plan["raw_bytes"]
    assert 0 <= plan["estimated_seconds"] < 60
    assert plan["free_bytes"] > plan["estimated_bytes"]
    lines = dict(line.split(maxsplit=1) for line in text.out.splitlines())
    assert lines["videos"] == "16 to render"
    assert lines["pixels"] == "737 kB"
    assert lines["fits"] == "yes"
    assert "with 3 threads" in lines["time"]


def test_dry_run_counts_what_is_pending(run: Run, small: Path) -> None:
    (small / "train" / "video" / "c.1.0.0.0.done").unlink()
    before = stores.tree(small)
    args = ("render", small, *SMALL, *SHARDS, "--dry-run", "--format", "json")
    pending = run(*args).json
    assert (pending["videos"], pending["kept"], pending["raw_bytes"]) == (4, 12, 4 * 16 * 60 * 48)
    part = run(*args, "--slice", "2/2").json
    assert (part["videos"], part["kept"]) == (4, 4)
    anew = run(*args, "--overwrite").json
    assert (anew["videos"], anew["kept"]) == (16, 0)
    assert anew["reclaimed_bytes"] == sum(len(data) for data in before.values())
    assert "4 to render, 12 are there" in run(*args[:-2]).out
    assert stores.tree(small) == before


def test_a_disk_that_is_too_small(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    free = local.SPARE_BYTES + 400_000
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=free))
    plan = run("render", "a.zarr", *SMALL, "--dry-run", "--format", "json")
    assert (plan.code, plan.json["fits"], plan.json["free_bytes"]) == (0, False, 400_000)
    assert "are needed" in plan.json["problem"]
    shown = run("render", "a.zarr", *SMALL, "--dry-run")
    assert shown.code == 0
    assert re.search(r"(?m)^fits +NO: 738 kB are needed .* but 400 kB are free", shown.out)
    refused = run("render", "a.zarr", *SMALL)
    assert (refused.code, refused.out) == (4, "")
    for part in ("738 kB are needed for 16 videos", "400 kB are free", "--instances 2 fits", "--codec zstd"):
        assert part in refused.err
    assert not os.listdir(tmp_path)


# --- info, verify, doctor


def test_info_of_a_store_complete_or_not(run: Run, small: Path) -> None:
    size = sum(len(data) for data in stores.tree(small).values())
    whole = run("info", small, "--format", "json")
    assert (whole.code, whole.err) == (0, "")
    assert whole.json == {
        "generator": "perlin", "categories": 4, "instances": 3, "val_instances": 1, "videos": 16,
        "bytes": small_spec().nbytes, "fingerprint": small_spec().fingerprint, "spec": small_spec().to_dict(),
        "path": str(small), "codec": "none", "with_motion": False, "stored_bytes": size, "shards": 4, "shards_pending": 0,
        "finished": True,
    }  # fmt: skip
    text = run("info", "small.zarr").out
    for line in ("store small.zarr: complete", "categories 4", "videos train 12 (3 a category); val 4 (1 a category)",
                 "video 16 frames of 60 x 48 pixels, uint8, 46.1 kB", f"fingerprint {small_spec().fingerprint}",
                 "divisions_x 2, 4", "noise_terms 0"):  # fmt: skip
        assert line in re.sub(r" +", " ", text).splitlines()
    (small / "val" / "video" / "c.0.0.0.0.done").unlink()
    assert "small.zarr: 1 of 4 shards are pending: give `vpngen render` again" in run("info", "small.zarr").out
    part = run("info", small, "--format", "json").json
    assert (part["shards_pending"], part["finished"]) == (1, False)


def test_info_lists_the_presets(run: Run) -> None:
    listed = run("info", "--presets", "--format", "json").json
    assert list(listed) == list(presets())
    for name, facts in listed.items():
        assert facts["fingerprint"] == Spec.preset(name).fingerprint
        assert facts["about"] == presets()[name]["about"]
    head, *lines = run("info", "--presets").out.splitlines()
    assert head.split()[:4] == ["preset", "labels", "instances", "videos"]
    assert [line.split()[0] for line in lines] == list(listed)
    assert "393,216   5.44 TB  table 3, full" in lines[list(listed).index("vpn-full")]
    assert "1,000,000   13.1 TB  Video Fractal" in lines[list(listed).index("vf-1000x1000")]
    one = run("info", "--preset", "vpn-full", "--format", "json").json
    assert {**listed["vpn-full"], "spec": Spec.preset("vpn-full").to_dict()} == {**one, "about": "table 3, full"}


def test_presets_are_listed_without_a_search(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> Any:
        raise AssertionError("searched for nothing")

    monkeypatch.setattr(systems, "_in_parallel", never)
    assert run("info", "--presets").code == 0
    assert run("info", "--preset", "vf-1000x1000").code == 0


def test_info_of_fractals(run: Run) -> None:
    def lines(*args: str) -> dict[str, str]:
        text = run("info", *FRACTALS, *args).out
        return dict(re.split(r"  +", line, maxsplit=1) for line in text.splitlines())

    usual = lines()
    assert usual["systems"] == "4 of search seed 0, of 2 to 5 maps"
    assert usual["variants"] == "21 to 24 of 25 a system: itself, and a to f times 0.2, 0.6, 1.4 or 1.8"
    assert usual["flips"] == "yes: each as it is and mirrored three ways"
    assert usual["draw"] == "patch: random 3 x 3 pixels around each point, grey 127 on 0, with a margin of 6"
    assert usual["points"] == "50 a frame, 600 a video; a frame shows those of all frames until then"
    other = lines("--no-flips", "--draw", "point", "--trail", "5", "--level", "255", "--pad", "1")
    assert other["flips"] == "no: none is mirrored"
    assert other["draw"] == "point: a pixel for each point, grey 255 on 0, with a margin of 1"
    assert other["points"] == "50 a frame, 600 a video; a frame shows those of the last 5 frames"


def test_verify_finds_and_repairs(run: Run, small: Path) -> None:
    before = stores.tree(small)
    whole = run("verify", "small.zarr")
    assert (whole.code, whole.err) == (0, "")
    assert re.fullmatch(r"small\.zarr: 16 videos, 73\d kB read; whole\n", whole.out)
    assert run("verify", small, "--render", "--threads", "2").code == 0
    shard = small / "train" / "video" / "c.2.0.0.0"
    data = bytearray(shard.read_bytes())
    data[100] ^= 1
    data[3 * 16 * 60 * 48] ^= 1
    shard.write_bytes(data)
    for args in ((), ("--render",)):
        found = run("verify", small, *args, "--format", "json")
        assert (found.code, found.err) == (1, "")
        assert (found.json["path"], found.json["videos"], found.json["whole"]) == (str(small), 16, False)
        (problem,) = found.json["problems"]
        assert problem == {**problem, "split": "train", "videos": [8, 10], "repaired": False}
        assert problem["path"].endswith("c.2.0.0.0")
    text = run("verify", "small.zarr")
    assert text.code == 1
    assert re.search(r"(?m)^damaged   train/video/c\.2\.0\.0\.0: .* \(videos 8, 10 of train\)$", text.out)
    assert "NOT whole; --repair renders" in text.out
    mended = run("verify", "small.zarr", "--repair")
    assert mended.code == 0
    assert mended.out.startswith("repaired  train/video/c.2.0.0.0") and mended.out.endswith("; whole\n")
    assert stores.tree(small) == before
    Path("small.zarr/stranger").write_text("precious")
    hopeless = run("verify", "small.zarr", "--repair")
    assert hopeless.code == 1
    assert hopeless.out.splitlines()[-1].endswith("; NOT whole")
    assert Path("small.zarr/stranger").exists()


def test_verify_of_a_store_that_is_not_finished(run: Run, small: Path) -> None:
    """What is not rendered yet is no damage; the exit code is that of a store that is not whole."""
    shards = vpngen.store.store_plan(*vpngen.store.read_spec(small)).shards
    for shard in shards[1:]:
        (small / shard.key).unlink()
        (small / shard.record).unlink()

    def look() -> tuple[str, dict[str, Any]]:
        text, found = run("verify", "small.zarr"), run("verify", "small.zarr", "--format", "json")
        assert (text.code, found.code) == (1, 1)
        assert not any(line.startswith("damaged") for line in text.out.splitlines())
        keys = ("whole", "damaged", "damaged_videos", "pending_videos", "being_written")
        return text.out.splitlines()[-1], {key: found.json[key] for key in keys}

    counts = {"whole": False, "damaged": False, "damaged_videos": 0, "pending_videos": 12, "being_written": False}
    verdict, found = look()
    assert verdict.endswith("12 videos not rendered yet; not complete; give `vpngen render` again") and found == counts
    with stores.hold(small, shards[2]):
        verdict, found = look()
        assert verdict.endswith("not complete; it is being written") and found == {**counts, "being_written": True}
    (small / f"{shards[2].key}.partial").write_bytes(b"of a run that was killed")
    (small / shards[1].key).write_bytes(b"killed before it had its record")
    assert look()[1] == counts
    (small / shards[0].key).unlink()  # its record says that it was there
    damaged = run("verify", "small.zarr", "--format", "json").json
    assert (damaged["damaged"], damaged["damaged_videos"], damaged["pending_videos"]) == (True, 4, 12)
    assert run("render", "small.zarr", *SMALL, *SHARDS).code == run("verify", "small.zarr").code == 0


@pytest.mark.parametrize(
    ("numbers", "text"),
    [((), ""), ((3,), "3"), ((1, 2), "1-2"), ((1, 2, 3, 7), "1-3, 7"), ((0, 2, 4, 5), "0, 2, 4-5")],
)
def test_ranges(numbers: tuple[int, ...], text: str) -> None:
    assert sets.ranges(numbers) == text


@pytest.mark.parametrize("command", ["info", "verify", "preview", "mosaic"])
def test_what_vpngen_did_not_make_is_a_conflict(run: Run, tmp_path: Path, command: str) -> None:
    Path("file").write_text("x")
    Path("folder").mkdir()
    for path in ("file", "folder"):
        result = run(command, path)
        assert (result.code, result.out) == (3, "")
        assert f"'{path}' is " in result.err
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_doctor_finds_this_machine_fit(run: Run) -> None:
    report = run("doctor", "--format", "json")
    assert (report.code, report.err) == (0, "")
    assert all(finding["good"] for finding in report.json.values())
    assert report.json["vpngen"]["value"] == vpngen.__version__
    for name in BACKENDS:
        said = report.json[f"backend {name}"]["value"]
        assert said.startswith("right, ") or (name not in health.NEEDED and said.startswith("not here: "))
    rates = " or ".join(f".*B of {kind.name}" for kind in kinds())
    assert re.fullmatch(f"right, {rates} a second on one thread", report.json["backend reference"]["value"])


def test_doctor_knows_every_dependency() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {re.split(r"[^\w-]", line)[0] for line in project["dependencies"]}
    assert wanted <= set(health.PACKAGES)


def test_doctor_says_what_is_wrong_and_what_to_do(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(*args: Any, **options: Any) -> Any:
        pixels = vpngen.render(*args, **options)
        if options["backend"] == "numba":
            pixels[..., -1] ^= 1
        return pixels

    monkeypatch.setattr(health, "render", damaged)
    monkeypatch.setattr(health, "PACKAGES", ("numpy", "no-such-package"))
    plain = {"noise": vpngen.perlin(categories=400, instances=1, noise_terms=0)}
    monkeypatch.setattr(health, "trials", lambda: plain)
    result = run("doctor")
    assert (result.code, result.err) == (4, "")
    lines = dict(re.split(r"  +", line, maxsplit=1) for line in result.out.splitlines())
    assert lines["no-such-package"] == "not installed  <- pip install no-such-package"
    assert lines["backend numba"].startswith("WRONG PIXELS of noise  <- please report")
    assert lines["backend reference"].startswith("right, ") and "<-" not in lines["backend reference"]
    assert lines["numpy"] == np.__version__


def test_doctor_tells_generators_apart(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    two = (vpngen.generators.Perlin, vpngen.generators.Fractal)
    monkeypatch.setattr(health, "kinds", lambda: two)

    def damaged(spec: Spec, *args: Any, **options: Any) -> Any:
        pixels = vpngen.render(spec, *args, **options)
        if options["backend"] == "numba" and spec.generator.name == "fractal":
            pixels[..., -1] ^= 1
        return pixels

    monkeypatch.setattr(health, "render", damaged)
    monkeypatch.setattr(health, "_ffmpeg", lambda: health.Finding("ffmpeg", "here"))
    monkeypatch.setattr(vpngen.generators.Fractal, "trial", {**vpngen.generators.Fractal.trial, "points_per_frame": 9})
    result = run("doctor")
    lines = dict(re.split(r"  +", line, maxsplit=1) for line in result.out.splitlines())
    assert result.code == 4
    assert (lines["generator perlin"], lines["generator fractal"]) == ("Video Perlin Noise", "Video Fractal")
    assert lines["backend numba"].startswith("WRONG PIXELS of fractal")
    monkeypatch.setattr(systems, "SHIPPED", tmp_path / "absent")
    lacking = {finding.name: finding for finding in health._generators()}
    assert lacking["generator perlin"].good and not lacking["generator fractal"].good
    assert lacking["generator fractal"].remedy == "damaged or missing: pip install --force-reinstall vpngen"
    assert list(health.trials()) == ["perlin"]


@pytest.mark.parametrize(("needed", "code"), [((), 0), (("numba",), 4)])
def test_doctor_wants_only_what_every_machine_can_have(
    run: Run, monkeypatch: pytest.MonkeyPatch, needed: tuple[str, ...], code: int
) -> None:
    def absent(*_: Any, **options: Any) -> Any:
        if options["backend"] == "reference":
            return np.zeros(1)
        raise MissingError("there is no card")

    monkeypatch.setattr(health, "render", absent)
    monkeypatch.setattr(health, "NEEDED", needed)
    result = run("doctor")
    assert result.code == code
    assert re.search(r"(?m)^backend numba +" + ("not available  <- there" if needed else "not here: there"), result.out)


# --- pictures


@pytest.mark.parametrize(
    "command", ["preview", "preview --frames 3:9", "mosaic", "mosaic --crop --tile 55 --frames 5:6"]
)
def test_a_picture_of_a_store_is_that_of_its_options(run: Run, small: Path, command: str) -> None:
    for split in ("train", "val"):
        for name, source in (("stored", ["small.zarr"]), ("formula", [*SMALL, "--backend", "reference"])):
            result = run(*command.split(), *source, "-o", f"{name}.png", "--split", split)
            assert (result.code, result.err) == (0, "")
            assert result.out.startswith(f"{name}.png: ")
        assert Path("stored.png").read_bytes() == Path("formula.png").read_bytes()
    with Image.open("stored.png") as png:
        assert min(png.size) > 48


def test_pictures_have_names_of_their_own(run: Run, small: Path, tmp_path: Path) -> None:
    assert run("preview", small).out == "preview.png: videos 0, 1, 2, 3 of train\n"
    assert run("mosaic", small).out == "mosaic.png: 4 categories\n"
    assert sorted(os.listdir(tmp_path)) == ["mosaic.png", "preview.png", "small.zarr"]


def test_a_mosaic_says_what_is_left_out(run: Run) -> None:
    small = FRACTALS[:2] + FRACTALS[4:]
    assert run("mosaic", *small).out == "mosaic.png: 400 categories of 1,000; --page and --per-page show others\n"
    sizes = []
    for page, name in ((1, "a.png"), (3, "b.png")):
        assert run("mosaic", *small, "--page", str(page), "-o", name).code == 0
        with Image.open(name) as png:
            sizes.append(png.size)
    assert sizes[0][0] == sizes[1][0] and sizes[0][1] > sizes[1][1]
    few = run("mosaic", *FRACTALS, "--per-page", "3", "--columns", "1", "-o", "c.gif", "--tile", "20")
    assert few.out == "c.gif: 3 categories of 4; --page and --per-page show others\n"
    with Image.open("c.gif") as gif:
        assert gif.n_frames == 12 and gif.size[0] < gif.size[1] + 300  # type: ignore[attr-defined]
    full = run("mosaic", "--preset", "vpn-full", "--categories", "4", "--tile", "20", "--backend", "numba")
    assert full.out == "mosaic.png: 4 categories of 12; --show-d shows those of another D\n"


def test_preview_options_choose_videos_and_frames(run: Run, small: Path) -> None:
    assert run("preview", small, "--indices", "11,0").out == "preview.png: videos 11, 0 of train\n"
    with Image.open("preview.png") as png:
        eight = png.size
    run("preview", small, "--indices", "11,0-3", "--columns", "2")
    with Image.open("preview.png") as png:
        assert png.size[0] < eight[0]
    assert run("preview", small, "-o", "a.gif", "--frames", "3:7", "--fps", "10", "--indices", "5").code == 0
    with Image.open("a.gif") as gif:
        assert gif.n_frames == 4 and gif.info["duration"] == 100  # type: ignore[attr-defined]
    assert run("mosaic", small, "-o", "b.gif", "--frames", "0:2", "--tile", "20", "--show-d", "8").code == 0
    with Image.open("b.gif") as gif:
        assert gif.n_frames == 2  # type: ignore[attr-defined]
    assert run("mosaic", small, "-o", "c.mp4", "--crop", "--instance", "2").code == 0
    assert Path("c.mp4").stat().st_size > 1000


def test_no_picture_of_an_incomplete_store(run: Run, small: Path, tmp_path: Path) -> None:
    (small / "train" / "video" / "c.2.0.0.0.done").unlink()
    for command in ("preview", "mosaic"):
        result = run(command, "small.zarr")
        assert result.code == 3
        assert "'small.zarr' is not complete: complete it with `vpngen render`" in result.err
    assert os.listdir(tmp_path) == ["small.zarr"]
    assert run("preview", "small.zarr", "--split", "val").code == 0


# --- completion


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("render --preset vpn-l", {"vpn-low-freq"}),
        ("info --preset vpn-256x1", {"vpn-256x16", "vpn-256x128"}),
        ("info --preset vf", {"vf-1000x1000"}),
        ("render --generator ", {kind.name for kind in kinds()}),
        ("render --draw p", {"patch", "point"}),
        ("render --backend ", {"auto", *BACKENDS}),
        ("render --codec z", {"zstd"}),
        ("render --codec f", {"formula"}),
        ("render --temporal s", {"slow"}),
        ("render --divisions ", {"spread", "low", "high"}),
        ("preview --split v", {"val"}),
        ("mosaic --show", {"--show-d"}),
        ("com", {"completion"}),
        ("completion ", {"bash", "zsh", "fish"}),
    ],
)
def test_completion_offers(run: Run, monkeypatch: pytest.MonkeyPatch, shell: str, line: str, offered: set[str]) -> None:
    words = ["vpngen", *line.split(" ")]
    monkeypatch.setenv("_VPNGEN_COMPLETE", f"{shell}_complete")
    monkeypatch.setenv("COMP_WORDS", " ".join(words))
    monkeypatch.setenv("COMP_CWORD", words[-1] if shell == "fish" else str(len(words) - 1))
    result = run()
    assert (result.code, result.err) == (0, "")
    found = set(re.split(r"[\n,\t]", result.out))
    assert {word for word in found if word in offered} == offered
    values = [w for w in found - offered if w and w not in ("plain", "_") and " " not in w]
    assert not values


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script(run: Run, shell: str) -> None:
    result = run("completion", shell)
    assert result.code == 0
    assert f"_VPNGEN_COMPLETE={shell}_complete" in result.out
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=result.out, text=True, check=True, timeout=60)


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_completion_in_bash(run: Run, tmp_path: Path) -> None:
    Path("vpngen").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m vpngen "$@"\n')
    Path("vpngen").chmod(0o755)
    script = run("completion", "bash").out + (
        "COMP_WORDS=(vpngen render --preset vpn-l); COMP_CWORD=3; _vpngen_completion ./vpngen\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "vpn-low-freq\n"


# --- progress


class Clock:
    """Time that passes by `step` seconds at each look."""

    def __init__(self, step: float) -> None:
        self.now, self.step = 0.0, step

    def monotonic(self) -> float:
        self.now += self.step
        return self.now


def test_without_a_terminal_progress_is_a_line_a_minute(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(step=13)  # five videos go into a minute
    monkeypatch.setattr(terminal, "time", clock)
    result = run("render", "a.zarr", *SMALL, *SHARDS, "--threads", "1", "--format", "json")
    assert result.json["rendered"] == 16
    lines = result.err.splitlines()
    assert lines[0] == "5 of 16 videos, 0.0769/s, 2 min 23 s left, 3.54 kB/s"
    assert [line.split()[0] for line in lines] == ["5", "10", "15"]
    clock.step = 25
    checked = run("verify", "a.zarr")
    assert checked.err.splitlines() == ["3 of 4 shards, 0.04/s, 25 s left"]


SEARCH = ("info", "--generator", "fractal", "--categories", "5", "--search-seed", "7", "--format", "json")


def test_a_search_says_how_far_it_is(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "time", Clock(step=31))
    searched = run(*SEARCH)
    assert searched.json["spec"] == vpngen.fractal(5, search_seed=7).to_dict()
    assert searched.err.splitlines() == [
        "2 of 5 categories, 0.0323/s, 1 min 33 s left", "4 of 5 categories, 0.0323/s, 31 s left",
    ]  # fmt: skip
    again = run(*SEARCH)
    assert (again.json, again.err) == (searched.json, ""), "what was found is kept"
    ifs_dir("ifs", CARPET, FERN)
    files = run("info", "--generator", "fractal", "--ifs-dir", "ifs")
    assert files.err.splitlines() == ["2 of 2 categories, 0.0323/s, under a second left"]


def test_a_search_on_a_terminal(run: Run, tmp_path: Path) -> None:
    main, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    running = process(*SEARCH, cwd=tmp_path, stderr=side, env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "80"})
    os.close(side)
    shown = read_all(main)
    os.close(main)
    assert end_of(running).json["categories"] == 5
    assert "5 of 5 categories" in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert shown.endswith("\x1b[2K")


def test_no_search_no_bar(run: Run, tmp_path: Path) -> None:
    main, side = pty.openpty()
    running = process("info", *FRACTALS, cwd=tmp_path, stderr=side, env={**os.environ, "TERM": "xterm-256color"})
    os.close(side)
    assert read_all(main) == ""
    os.close(main)
    assert end_of(running).code == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_search(run: Run, tmp_path: Path, number: signal.Signals, code: int) -> None:
    main, side = pty.openpty()
    args = ("info", "--generator", "fractal", "--categories", "100000", "--search-seed", "8")
    running = process(*args, cwd=tmp_path, stderr=side, env={**os.environ, "TERM": "xterm-256color"})
    os.close(side)
    shown = ""
    while " of 100,000 categories" not in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown):
        assert running.poll() is None, shown
        shown += os.read(main, 65536).decode(errors="replace")
    running.send_signal(number)
    shown += read_all(main)
    os.close(main)
    assert end_of(running).code == code
    assert shown.rstrip().endswith({130: "Stopped.", 143: "Terminated."}[code])
    assert not os.listdir(tmp_path)


def test_a_short_run_is_silent_without_a_terminal(run: Run) -> None:
    assert run("render", "a.zarr", *SMALL).err == ""
    assert run("verify", "a.zarr", "--render").err == ""


def test_progress_without_any_stderr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    monkeypatch.setattr(terminal, "QUIET_SECONDS", 0)
    with terminal.counted("videos") as show:
        show(1, 2, 3)


def test_compiling_is_announced_when_it_takes_long(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with terminal.compiling():
        pass
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(terminal, "NOTICE_SECONDS", 0.0)
    err = ""
    with terminal.compiling():
        while not err:
            out, err = capsys.readouterr()
            time.sleep(0.01)
    assert (out, err.count("\n")) == ("", 1) and "compiled" in err


def read_all(fd: int) -> str:
    """What was written to a terminal until its last writer went."""
    data = b""
    with contextlib.suppress(OSError):
        while chunk := os.read(fd, 65536):
            data += chunk
    return data.decode()


def on_terminal(folder: Path, columns: int, term: str) -> tuple[Result, str]:
    """A run with a terminal as its stderr: how it ended, and what the terminal was sent."""
    main, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    env = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR")}
    args = ("render", "a.zarr", *SMALL, *SHARDS, "--backend", "reference", "--threads", "1", "--format", "json")
    running = process(*args, cwd=folder, stderr=side, env={**env, "TERM": term})
    os.close(side)
    shown = read_all(main)
    os.close(main)
    return end_of(running), shown


@pytest.mark.parametrize("columns", [60, 120])
def test_on_a_terminal_progress_is_one_line_that_goes_away(tmp_path: Path, columns: int) -> None:
    result, shown = on_terminal(tmp_path, columns, "xterm-256color")
    assert result.code == 0, shown
    assert result.json["rendered"] == 16
    frames = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "\n", shown).replace("\r", "\n").splitlines()
    last = [frame for frame in frames if "16 of 16 videos" in frame]
    assert last, shown
    assert max(len(frame) for frame in frames if not frame.startswith("Preparing")) <= columns
    assert "B/s" in last[-1] or columns == 60
    assert shown.endswith("\x1b[2K")  # the line is erased


def test_a_terminal_that_cannot_erase_gets_lines(tmp_path: Path) -> None:
    result, shown = on_terminal(tmp_path, 80, "dumb")
    assert result.code == 0, shown
    assert result.json["rendered"] == 16
    assert all(line.startswith("Preparing") for line in shown.splitlines())


# --- signals

LONG = ("--shape", "16x48x48", "--divisions", "2,4,8", "--noise-frequencies", "1,2,4", "--instances", "16")
"""144 videos, which the reference takes seconds for."""
LONG_RUN = ("render", "long.zarr", *LONG, *SHARDS, "--backend", "reference", "--threads", "2")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    path = tmp_path_factory.mktemp("uninterrupted") / "long.zarr"
    divisions = (2, 4, 8)
    spec = vpngen.perlin(divisions=divisions, shape=(16, 48, 48), noise_frequencies=(1, 2, 4), instances=16)
    vpngen.write(spec, path, shard_videos=4)
    return stores.tree(path)


def under_way(running: subprocess.Popen[str], root: Path) -> None:
    """Wait until a few shards are finished."""
    deadline = time.monotonic() + 100
    while sum(1 for _ in root.glob("train/video/*.done")) < 3:
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.mark.parametrize(("number", "ended"), [(signal.SIGINT, [130]), (signal.SIGTERM, [143]), (signal.SIGHUP, [])])
def test_a_second_signal_ends_at_once_but_a_second_hang_up_comes_of_itself(
    number: int, ended: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shell sends SIGHUP to its jobs, and the kernel another one when the terminal is closed."""
    left: list[int] = []
    monkeypatch.setattr(os, "_exit", left.append)
    monkeypatch.setattr(base, "_leaving", iter(range(9)))
    base._leave(number, None)
    assert left == ended


ENDS = [(signal.SIGINT, 130, "Stopped"), (signal.SIGTERM, 143, "Terminated"), (signal.SIGHUP, 129, "Hung up")]


def test_a_terminal_that_is_closed_ends_a_run_in_good_order(tmp_path: Path, uninterrupted: dict[str, bytes]) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.execv(sys.executable, [sys.executable, "-m", "vpngen", *LONG_RUN])
    while sum(1 for _ in (tmp_path / "long.zarr").glob("train/video/*.done")) < 3:
        os.read(terminal, 65536)
    os.close(terminal)  # sends SIGHUP; whatever is written from now on fails
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 129
    left = stores.tree(tmp_path / "long.zarr")
    assert not [name for name in left if name.endswith(".partial")]
    assert all(uninterrupted[name] == data for name, data in left.items())


@pytest.mark.parametrize(("number", "code", "word"), ENDS)
def test_a_signal_stops_a_run_that_can_go_on(
    run: Run, tmp_path: Path, uninterrupted: dict[str, bytes], number: signal.Signals, code: int, word: str
) -> None:
    running = process(*LONG_RUN, cwd=tmp_path)
    under_way(running, tmp_path / "long.zarr")
    running.send_signal(number)
    result = end_of(running)
    assert (result.code, result.out) == (code, "")
    assert [line for line in result.err.splitlines() if not line.startswith("Preparing")] == [f"{word}. {GO_ON}"]
    left = stores.tree(tmp_path / "long.zarr")
    assert not [name for name in left if name.endswith(".partial")]
    assert set(left) < set(uninterrupted)
    assert all(uninterrupted[name] == data for name, data in left.items())
    assert os.listdir(tmp_path) == ["long.zarr"]
    rest = run(*LONG_RUN[:-4], "--format", "json").json  # by the fastest backend
    assert rest["rendered"] + rest["kept"] == 144 and rest["kept"] >= 12 and rest["rendered"] >= 4
    assert rest["finished"]
    assert stores.tree(tmp_path / "long.zarr") == uninterrupted


@pytest.mark.parametrize("wait", [0.0, 0.004])
def test_impatient_signals_do_no_harm(run: Run, tmp_path: Path, uninterrupted: dict[str, bytes], wait: float) -> None:
    running = process(*LONG_RUN, cwd=tmp_path)
    under_way(running, tmp_path / "long.zarr")
    for _ in range(3):
        running.send_signal(signal.SIGINT)
        time.sleep(wait)
    result = end_of(running)
    assert result.code in (130, -signal.SIGINT)  # an interpreter that is ending no longer handles signals
    lines = [line for line in result.err.splitlines() if not line.startswith("Preparing")]
    assert lines in ([f"Stopped. {GO_ON}"], ["Stopped at once."], [f"Stopped. {GO_ON}", "Stopped at once."])
    assert run(*LONG_RUN[:-4], "--format", "json").json["finished"]
    assert stores.tree(tmp_path / "long.zarr") == uninterrupted


HAMMERED = """
import os, signal, threading
from vpngen.cli import base

signal.signal(signal.SIGINT, base._leave)

def hammer():
    while True:
        os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=hammer, daemon=True).start()
while True:
    pass
"""


def test_leaving_at_once_is_said_once() -> None:
    for _ in range(5):
        left = subprocess.run([sys.executable, "-c", HAMMERED], capture_output=True, text=True, timeout=100)
        assert (left.returncode, left.stdout, left.stderr) == (130, "", "Stopped at once.\n")


def send(number: signal.Signals) -> Callable[..., None]:
    return lambda *_, **__: os.kill(os.getpid(), number)


@pytest.mark.parametrize(("number", "code", "word"), ENDS)
def test_what_a_stopped_command_advises(
    run: Run, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, code: int, word: str
) -> None:
    monkeypatch.setattr(executors, "write", send(number))
    monkeypatch.setattr(pictures, "preview", send(number))
    assert run("render", "a.zarr", *SMALL) == (code, "", f"{word}. {GO_ON}\n")
    over = run("render", "a.zarr", *SMALL, "--overwrite")
    assert over.err == f"{word}. What was finished stays; give the same command without --overwrite to go on.\n"
    assert run("preview", *SMALL) == (code, "", f"{word}.\n")


def test_a_signal_that_was_ignored_stays_ignored(run: Run) -> None:
    """As nohup, and the shell for what runs in the background of a script, leave it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    assert run("info").code == 0
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    assert signal.getsignal(signal.SIGTERM) is base._stop


def test_a_failing_disk_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), "a.zarr")

    monkeypatch.setattr(store, "read_spec", fail)
    assert run("info", "a.zarr") == (1, "", f"Error: 'a.zarr': {os.strerror(errno.EIO)}\n")


# --- as a process


def test_exit_codes_of_processes(small: Path, tmp_path: Path) -> None:
    (small / "train" / "video" / "c.0.0.0.0").unlink()
    hidden = "import sys; sys.modules['numba'] = None; sys.argv = ['vpngen', *sys.argv[1:]]; from vpngen.cli import main; main()"
    running = {
        0: process("info", small, cwd=tmp_path),
        1: process("verify", small, cwd=tmp_path),
        2: process("info", "--preset", "nope", cwd=tmp_path),
        3: process("render", small, "--instances", "1", "--backend", "reference", cwd=tmp_path),
        4: subprocess.Popen(
            [sys.executable, "-c", hidden, "render", "a.zarr", *SMALL, "--backend", "numba"],
            cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ),
    }  # fmt: skip
    ended = {expected: end_of(one) for expected, one in running.items()}
    assert [result.code for result in ended.values()] == list(ended)
    for code, result in ended.items():
        assert "Traceback" not in result.err
        assert bool(result.out) == (code < 2)
        assert bool(result.err) == (code >= 2)
    assert "backend 'numba' needs the package numba" in ended[4].err and "pip install numba" in ended[4].err
    assert os.listdir(tmp_path) == ["small.zarr"]


def test_a_reader_that_goes_away_is_no_disaster(tmp_path: Path) -> None:
    running = process("info", "--presets", cwd=tmp_path)
    assert running.stdout is not None and running.stderr is not None
    running.stdout.close()
    assert running.stderr.read() == ""
    running.stderr.close()
    assert running.wait(60) == 1


def test_without_torch_training_says_what_to_install(tmp_path: Path) -> None:
    hidden = "import sys; sys.modules['torch'] = None; sys.argv = ['vpngen', 'train', 'vpn', *sys.argv[1:]]; from vpngen.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", hidden, *SMALL], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr == "Error: torch is not installed; give: pip install 'vpngen[train]'\n"
    assert not os.listdir(tmp_path)
