"""The ground floor: checks of arguments, errors that know their argument, files that are whole, fields that make options."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import math
import os
import pickle
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import vpngen
from vpngen import checks, files
from vpngen.checks import Shape
from vpngen.cli.base import field_options
from vpngen.datasets import read_videos
from vpngen.errors import ArgumentError, MissingError
from vpngen.fields import described, field

# --- checks: each takes what it should as the proper type, and refuses the rest by name

TAKEN: list[tuple[Callable[[Any], Any], Any, Any]] = [
    (lambda v: checks.integer("x", v, 1, 5), 1, 1),
    (lambda v: checks.integer("x", v, 1, 5), np.uint8(5), 5),
    (lambda v: checks.integer("x", v, 0), 2**70, 2**70),
    (lambda v: checks.number("x", v, lambda n: n > 0, "above 0"), 3, 3.0),
    (lambda v: checks.number("x", v, lambda n: n > 0, "above 0"), np.float32(0.5), 0.5),
    (lambda v: checks.flag("x", v), True, True),
    (lambda v: checks.flag("x", v), np.False_, False),
    (lambda v: checks.one_of("x", v, ("a", "b")), "b", "b"),
    (lambda v: checks.shape("x", v), [1, np.int64(2), 2**16], (1, 2, 65536)),
    (lambda v: checks.three("x", v), [0, 0.5, 1], (0.0, 0.5, 1.0)),
]
REFUSED: list[tuple[Callable[[Any], Any], tuple[Any, ...], str]] = [
    (lambda v: checks.integer("x", v, 1, 5), (0, 6, 1.0, True, "3", None, math.nan), "from 1 to 5"),
    (lambda v: checks.integer("x", v, 1), (0, False, np.float64(2)), "of at least 1"),
    (
        lambda v: checks.number("x", v, lambda n: True, "at all"),
        (math.nan, math.inf, True, "1", None, 1j),
        "a number at all",
    ),
    (lambda v: checks.number("x", v, lambda n: n < 1, "below 1"), (1, 2.5, "0", None), "a number below 1"),
    (lambda v: checks.flag("x", v), (0, 1, "yes", None), "true or false"),
    (lambda v: checks.one_of("x", v, ("a", "b")), ("c", "", None, ["a"]), "one of a, b"),
    (lambda v: checks.shape("x", v), (3, (1, 2), "123", (1, 2, 3, 4)), "(frames, height, width)"),
    (lambda v: checks.shape("x", v), ((0, 1, 1), (1, 1, 2**16 + 1), (1, True, 1), (1, 1, 1.0)), "from 1 to 65536"),
    (lambda v: checks.three("x", v), (1, (1, 2), (1, 2, math.inf), "abc", (1, 2, True)), "three numbers"),
]


@pytest.mark.parametrize("case", range(len(TAKEN)))
def test_check_takes(case: int) -> None:
    check, value, expected = TAKEN[case]
    got = check(value)
    assert got == expected and type(got) is type(expected)


@pytest.mark.parametrize("case", range(len(REFUSED)))
def test_check_refuses(case: int) -> None:
    check, values, allowed = REFUSED[case]
    for value in values:
        with pytest.raises(ArgumentError) as caught:
            check(value)
        assert caught.value.argument == "x" and caught.value.value is value
        assert str(caught.value).startswith("`x` (=") and allowed in str(caught.value)


def test_an_unknown_keyword_is_named_with_those_there_are() -> None:
    checks.known("option", {"width": 1}, ("width", "depth"), "r3d18")
    with pytest.raises(ArgumentError, match=r"^`depht` is no option of r3d18; it has depth, width$"):
        checks.known("option", {"depht": 1}, ("width", "depth"), "r3d18")


# --- errors


@given(
    st.text(),
    st.none() | st.text(min_size=1),
    st.one_of(st.just(...), st.integers(), st.floats(allow_nan=False), st.text()),
)
def test_an_argument_error_survives_pickling(problem: str, argument: str | None, value: Any) -> None:
    error = ArgumentError(problem, argument, value)
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.argument, again.value) == (str(error), argument, value)


def test_an_argument_error_speaks_of_its_argument_under_any_name() -> None:
    error = ArgumentError("must be at least 1", "batch_size", np.int64(0))
    assert str(error) == "`batch_size` (=0) must be at least 1"
    assert str(ArgumentError(error.problem, "--batch-size", error.value)) == "`--batch-size` (=0) must be at least 1"
    assert str(ArgumentError("cannot be read", "path", Path("a b"))) == "`path` (='a b') cannot be read"
    assert str(ArgumentError("has none", "path")) == "`path` has none"
    assert str(ArgumentError("a sentence of its own")) == "a sentence of its own"


# --- files


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.json"
    files.write_json(path, {"a": 1})
    files.write(path.with_name("other"), b"old")
    full = RuntimeError("a library's own")
    full.__cause__ = OSError(errno.ENOSPC, "full")
    for error, becomes in ((KeyError(), KeyError), (full, MissingError)):

        def fail(error: Exception = error) -> None:
            with files.replace(path) as partial:
                partial.write_text("half")
                raise error

        with pytest.raises(becomes):
            fail()
    assert sorted(p.name for p in path.parent.iterdir()) == ["file.json", "other"]
    assert path.read_text() == '{\n "a": 1\n}\n'


def test_what_a_killed_writer_left_is_removed_and_a_living_one_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "f"
    with files.replace(path) as partial:
        partial.write_text("x")
    mine = partial.name
    dead = partial.with_name(mine.replace(f".{os.getpid()}.", ".999999999."))
    living = partial.with_name(mine.replace(f".{os.getpid()}.", f".{os.getppid()}."))
    dead.touch()
    living.touch()
    files.write(path, b"y")
    assert {p.name for p in tmp_path.iterdir()} == {"f", living.name}
    partial.symlink_to(living)
    files.write(path, b"z")
    assert path.read_bytes() == b"z" and not living.read_bytes() and not path.is_symlink()


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("s3://bucket/x.zarr", "local folder"),
        ("gs://b/x.zarr", "local folder"),
        ("https://host/x.zarr", "local folder"),
        ("abfss://b/x", "local folder"),
        ("file:///data/x.zarr", "'/data/x.zarr'"),
        ("FILE://localhost/data/x.zarr", "'/data/x.zarr'"),
    ],
)
@pytest.mark.parametrize("kind", [str, Path])
def test_a_url_is_no_folder(
    url: str, remedy: str, kind: Callable[[str], str | Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    spec = vpngen.perlin(categories=1, instances=1)
    for use in (
        lambda: files.write(Path(url), b""),
        lambda: read_videos("folder", kind(url)),
        lambda: read_videos("ucf101", tmp_path, kind(url)),
    ):
        with pytest.raises(vpngen.ArgumentError, match=rf"{url.partition(':')[0]}://.*is a URL: .*{remedy}"):
            use()
    wrong = url.replace(url.partition(":")[0], "https")
    for store in (
        lambda: vpngen.open(kind(wrong)),
        lambda: vpngen.verify(kind(wrong)),
        lambda: vpngen.write(spec, kind(wrong)),
        lambda: vpngen.store.ClipReader(kind(wrong), "train"),
        lambda: vpngen.store.is_complete(kind(wrong)),
    ):
        with pytest.raises(
            vpngen.ArgumentError, match=r"https://.*is a URL of no kind that is known: s3://, gs://, az://, file://"
        ):
            store()
    assert os.listdir(tmp_path) == []


def test_a_colon_in_a_name_makes_no_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files.write(Path("./run:1/a:b"), b"1")
    os.mkdir("s3:")
    files.write(Path("s3:/c"), b"2")
    assert [files.read(p) for p in ("run:1/a:b", "s3:/c")] == [b"1", b"2"]


def test_too_few_open_files_are_no_damage(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/video.mp4").write_bytes(b"x")
    folder = files.Folder(tmp_path)
    limits, held = resource.getrlimit(resource.RLIMIT_NOFILE), list[int]()
    with contextlib.suppress(OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (64 + len(os.listdir("/proc/self/fd")), limits[1]))
        while True:
            held.append(os.open(os.devnull, os.O_RDONLY))
    told = []
    try:
        for look in (
            lambda: files.read(tmp_path / "in/video.mp4"),
            lambda: folder.read("in/video.mp4"),
            lambda: folder.names("in"),
        ):
            try:
                look()
            except Exception as error:
                told.append(error)
    finally:
        for fd in held:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert [type(error) for error in told] == [MissingError] * 3 and "ulimit -n" in str(told[0])


# --- fields


@dataclasses.dataclass(frozen=True)
class Sample:
    """Every kind of field."""

    count: int = field(3, "How many.")
    rate: float | None = field(None, "How fast.")
    loud: bool = field(False, "Whether it is.")
    law: str = field("a", "Which law.", choices=("a", "b"))
    clip: Shape = field((16, 112, 112), "What is cut.")
    lists: tuple[int, ...] = field((1, 2), "Which.", metavar="I,...")
    hidden: int = 0


def test_options_are_made_from_fields() -> None:
    assert [f.name for f in described(Sample)] == ["count", "rate", "loud", "law", "clip", "lists"]
    seen: dict[str, Any] = {}
    made = click.Command("made", params=field_options(described(Sample)), callback=lambda **given: seen.update(given))
    help_text = CliRunner().invoke(made, ["--help"]).output
    for words in (
        "How many.  [default: 3]",
        "--loud / --no-loud",
        "[default: no-loud]",
        "[a|b]",
        "TxHxW",
        "16x112x112",
        "I,...",
    ):
        assert words in " ".join(help_text.split()).replace("  ", " ") or words in help_text, words
    assert CliRunner().invoke(made, []).exit_code == 0 and set(seen.values()) == {None}
    words = "--count 5 --rate 0.5 --loud --law b --clip 1x2x3 --lists 4,5"
    assert CliRunner().invoke(made, words.split()).exit_code == 0
    assert seen == {"count": 5, "rate": 0.5, "loud": True, "law": "b", "clip": (1, 2, 3), "lists": (4, 5)}
    assert Sample(**seen) == Sample(5, 0.5, True, "b", (1, 2, 3), (4, 5))
    for wrong in ("--count x", "--law c", "--clip 1x2", "--lists 4,x"):
        assert CliRunner().invoke(made, wrong.split()).exit_code == 2, wrong
