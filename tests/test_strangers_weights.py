"""Weights, checkpoints and metrics from strangers: nothing in them is run, nothing is out of proportion, and one line says what is wrong."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import re
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import Run
from torch import nn

import vpngen
from vpngen import cli
from vpngen.errors import ArgumentError, ConflictError
from vpngen.models import read_weights, save_reference, save_weights
from vpngen.models.filters import filters
from vpngen.train import DataConfig, Evaluation, ModelInit, Runtime, evaluate, figures
from vpngen.train.checkpoint import CHECKPOINT
from vpngen.train.evaluation import Outcome

TINY = {"width": 0.0625}
ABOUT: dict[str, Any] = {
    "stage": "finetune", "seed": 0, "classes": ["a", "b"], "recipe": vpngen.train.RECIPES["wacv2022"].to_dict(),
    "model": {"name": "r3d10", "options": TINY, "num_classes": 2},
    "source": DataConfig("folder", Path("/videos")).to_dict(),
}  # fmt: skip
TRAP = """
import pathlib
pathlib.Path(__file__).with_name("ran").touch()

def net(num_classes, **options):
    raise SystemExit("ran")
"""


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return vpngen.create_model("r3d10", 2, **TINY)


@pytest.fixture(scope="module")
def good(model: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights that are refused for nothing but the folder of their videos, which is not there."""
    path = tmp_path_factory.mktemp("good") / "weights.safetensors"
    save_weights(path, model, ABOUT)
    return path


def having(**fields: Any) -> dict[str, Any]:
    """`ABOUT` with other fields; `model__options` is a field of `model`."""
    about: dict[str, Any] = json.loads(json.dumps(ABOUT))
    for name, value in fields.items():
        *above, last = name.split("__")
        owner = about
        for each in above:
            owner = owner[each]
        owner[last] = value
        if value is ...:
            del owner[last]
    return about


# --- code

NAMES = ("trap:net", "torch.hub:load", "builtins:dict", "os:system", "r3d11", "vpngen.models.resnet:ResNet")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_what_a_file_names_is_not_imported(
    run: Run, tmp_path: Path, model: nn.Module, monkeypatch: pytest.MonkeyPatch, name: str, suffix: str
) -> None:
    (tmp_path / "trap.py").write_text(TRAP)
    path = tmp_path / f"weights{suffix}"
    about = having(model={"name": name, "num_classes": 2, "options": {"repo_or_dir": str(tmp_path), "source": "local"}})
    if suffix == ".pth":
        save_reference(path, model, "resnet-10", 1, metadata=about)
    else:
        save_weights(path, model, about)
    before = [*sys.path]
    data = ("--dataset", "folder", "--root", videos(tmp_path))
    for command in (
        ("evaluate", path),
        ("train", "out", "--init-from", path),
        ("finetune", "out", "--init-from", path, *data, "--batch-size", "2"),
    ):
        done = run(*command)
        assert done.code == 3 and done.err.count("\n") == 1, done.err
        assert f"names the network {name!r}" in done.err and f"give --model {name} --model-option" in done.err
    filters(path, tmp_path / "filters.png")
    with pytest.raises(ConflictError, match="names the network"):
        evaluate(path, Runtime())
    with pytest.raises(ConflictError, match="names options of"):
        ModelInit(model=name, init_from=path).network  # noqa: B018
    assert ModelInit(model=name, options={"a": 1}, init_from=path).network == (name, {"a": 1})
    assert sys.path == before and "trap" not in sys.modules and not (tmp_path / "ran").exists()
    assert not (tmp_path / "out").exists()


# --- what a file says of itself

FIELDS: dict[str, tuple[dict[str, Any], str]] = {
    "classes of numbers": ({"classes": [1, 2]}, r"`classes\[0\]` cannot be 1"),
    "classes in a dictionary": ({"classes": {"a": 1}}, "`classes` cannot be a dict"),
    "fewer classes": ({"classes": ["a"]}, "`classes` are not as many"),
    "no classes": ({"classes": ...}, "lacks 'classes'"),
    "many outputs": ({"model__num_classes": 10**9}, "`model.num_classes` cannot be 1000000000"),
    "fewer than no outputs": ({"model__num_classes": -1}, "`model.num_classes` cannot be -1"),
    "outputs in words": ({"model__num_classes": "2"}, "`model.num_classes` cannot be '2'"),
    "no outputs": ({"model__num_classes": ...}, "lacks 'num_classes'"),
    "no model": ({"model": ...}, "lacks 'model'"),
    "a model of words": ({"model": "r3d10"}, "`model` cannot be 'r3d10'"),
    "a name of numbers": ({"model__name": 3}, "`model.name` cannot be 3"),
    "no name": ({"model__name": ...}, ""),
    "a long name": ({"model__name": "a:" + "b" * 10**6}, "`model.name` cannot be"),
    "options of others": ({"model__options": {"name": "r3d18"}}, "`name` is no option of r3d10"),
    "an option called self": ({"model__options": {"self": 1}}, "`self` is no option of r3d10"),
    "an option called num_classes": ({"model__options": {"num_classes": 1}}, "`num_classes` is no option of r3d10"),
    "options in a list": ({"model__options": ["width"]}, "`model.options` cannot be a list"),
    "an option in a long list": ({"model__options": {"width": [1] * 10**5}}, "`width` .* must be a number"),
    "an option in a list of lists of lists": ({"model__options": {"width": [[[1]]]}}, "`model.options.width` cannot be a list"),
    "an option of fields": ({"model__options": {"width": {"a": 1}}}, "`model.options.width` cannot be a dict"),
    "a layer of many kernels": ({"model": {"name": "t3d121", "num_classes": 2, "options": {"ttl_channels": [0] * 10**5}}},
                                "`ttl_channels` .* must be one to 8 numbers"),
    "an option in words": ({"model__options": {"width": "1"}}, "`width` .* must be a number"),
    "a large network": ({"model__options": {"width": 64}}, "parameters with these options, and 1,073,741,824 are allowed"),
    "a larger network": ({"model__options": {"width": 8}}, "does not fit"),
    "a seed in words": ({"seed": "0"}, "`seed` cannot be '0'"),
    "a seed beyond all": ({"seed": 2**64}, "`seed` cannot be 18446744073709551616"),
    "a recipe of words": ({"recipe": "wacv2022"}, "`recipe` cannot be 'wacv2022'"),
    "no recipe": ({"recipe": ...}, "lacks 'recipe'"),
    "a recipe of nothing": ({"recipe": None}, "is damaged"),
    "a recipe of others": ({"recipe__speed": 1}, "`speed` is no field of a recipe"),
    "a mean of words": ({"recipe__mean": "grey"}, "`recipe.mean` cannot be 'grey'"),
    "a mean of two": ({"recipe__mean": [1, 2]}, "`recipe.mean` cannot be a list"),
    "a clip of a number": ({"recipe__clip": 3}, "`clip` .* must be"),
    "a task of words": ({"task": "segments"}, "`task` cannot be 'segments'"),
    "weights of segments in words": ({"task": {"weights": ["1", "1"]}}, "`task.weights.0.` cannot be '1'"),
    "weights of other segments": ({"task": {"weights": [1.0] * 3}, "recipe__segments": 2, "recipe__consensus": "weighted"},
                                  "a weight for each of 3 segments, and not of 2"),
    "a source of words": ({"source": "/"}, "`source` cannot be '/'"),
    "no root": ({"source__root": ...}, "lacks 'root'"),
    "a root of numbers": ({"source__root": 3}, "`source.root` cannot be 3"),
    "a source of others": ({"source__more": 3}, "more"),
    "a share of words": ({"source__val_fraction": "all"}, "`source.val_fraction` cannot be 'all'"),
    "a parent of words": ({"parent": "me"}, "`parent` cannot be 'me'"),
    "a parent's model": ({"parent": {"parent": {"model": []}}}, "`parent.parent.model` cannot be a list"),
    "a stage of others": ({"stage": 3}, "`stage` cannot be 3"),
}  # fmt: skip


@pytest.mark.parametrize("case", FIELDS)
def test_fields_are_checked(run: Run, tmp_path: Path, model: nn.Module, case: str) -> None:
    fields, told = FIELDS[case]
    save_weights(tmp_path / "weights", model, having(**fields))
    done = run("evaluate", "weights", "--dataset", "folder", "--root", videos(tmp_path))
    assert done.code == 3, done.err
    assert re.search(told, done.err) and "weights" in done.err, done.err
    assert len(done.err) < 1500


def videos(home: Path) -> Path:
    """A folder of videos of two classes, none of them opened."""
    for each in ("train/a", "train/b", "val/a", "val/b"):
        (home / "set" / each).mkdir(parents=True, exist_ok=True)
        (home / "set" / each / "v.mp4").touch()
    return home / "set"


def levels(count: int) -> list[Any]:
    made: list[Any] = []
    for _ in range(count):
        made = [made]
    return made


def laughs() -> list[Any]:
    made: list[Any] = [1] * 10
    for _ in range(40):
        made = [made] * 10
    return made


@pytest.mark.parametrize("make_", [lambda: levels(100), laughs, lambda: [0] * 10**6], ids=["levels", "laughs", "long"])
def test_depth_and_size_are_bounded(tmp_path: Path, model: nn.Module, make_: Callable[[], Any]) -> None:
    torch.save({"state_dict": model.state_dict(), "vpngen": {"a": make_()}}, tmp_path / "a.pth")
    with pytest.raises(ConflictError, match=r"its metadata h(ave|old) more than"):
        read_weights(tmp_path / "a.pth")


# --- files out of proportion


def header(fields: dict[str, Any] | bytes, data: bytes = b"", length: int | None = None) -> bytes:
    text = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def pth(data: bytes, storages: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", compression) as file:
        file.writestr("archive/data.pkl", data)
        for name, content in storages.items():
            file.writestr(f"archive/data/{name}", content)
    return made.getvalue()


def tensor_of(count: int, shape: tuple[int, ...], stride: tuple[int, ...], offset: int = 0) -> bytes:
    """The pickle of a state dict of one tensor."""

    class Of:
        def __init__(self, name: str, *given: Any) -> None:
            self.name, self.given = name, given

    out = io.BytesIO()

    def put(value: Any) -> None:
        if isinstance(value, tuple):
            out.write(b"(")
            for each in value:
                put(each)
            out.write(b"t")
        elif isinstance(value, int):
            out.write(b"\x8a\x09" + value.to_bytes(9, "little"))
        elif isinstance(value, bool):
            out.write(b"\x89")
        elif isinstance(value, str):
            out.write(b"X" + struct.pack("<I", len(value)) + value.encode())

    out.write(
        b"\x80\x02}X\x01\x00\x00\x00actorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
    )
    put("0")
    put("cpu")
    put(count)
    out.write(b"tQ")
    put(offset)
    put(shape)
    put(stride)
    out.write(b"\x89}tRs.")
    return out.getvalue()


def deep(opcode: bytes, count: int = 3 * 10**5) -> bytes:
    return b"\x80\x02}X\x01\x00\x00\x00a" + b")" + opcode * count + b"s."


GLOBALS = (
    "torch._utils _rebuild_sparse_tensor", "torch._utils _rebuild_qtensor", "torch._utils _rebuild_meta_tensor_no_storage",
    "torch.storage UntypedStorage", "builtins bytearray", "torch FloatTensor", "torch.nn.parameter Parameter", "builtins getattr",
    "os system", "torch.hub load",
)  # fmt: skip
ONE = b"\x00" * 4


def named(name: str) -> bytes:
    """A call of a function by its name."""
    return pth(b"\x80\x02c" + name.replace(" ", "\n").encode() + b"\n)R.", {})


FILES: dict[str, tuple[Callable[[], bytes], str]] = {
    "a header of absurd length": (lambda: header({}, length=2**63), "header"),
    "a header longer than the file": (lambda: header({}, length=10**6), "header"),
    "a header of a million tensors": (
        lambda: header({f"{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(4 * 10**4)}), "40,000 tensors"),
    "an absurd shape": (
        lambda: header({"a": {"dtype": "F32", "shape": [2, 10**18], "data_offsets": [0, 4]}}, ONE), "damaged"),
    "more than the file": (
        lambda: header({"a": {"dtype": "F32", "shape": [10**9], "data_offsets": [0, 4 * 10**9]}}, ONE), "damaged"),
    "a header of many levels": (lambda: header(b'{"a":' * 10**5 + b"}" * 10**5), "damaged"),
    "metadata of many levels": (
        lambda: header({"__metadata__": {"vpngen": "[" * 10**5 + "]" * 10**5}}), "damaged"),
    "metadata in a list": (lambda: header({"__metadata__": {"vpngen": "[]"}}), "`metadata` cannot be a list"),
    "metadata of a number": (lambda: header({"__metadata__": {"vpngen": "1"}}), "`metadata` cannot be 1"),
    "deflated": (
        lambda: pth(tensor_of(10**7, (10**7,), (1,)), {"0": bytes(4 * 10**7)}, zipfile.ZIP_DEFLATED), "compressed"),
    "a storage beyond the file": (lambda: pth(tensor_of(10**12, (10**12,), (1,)), {"0": ONE}), "larger than it can be"),
    "a tensor beyond its storage": (lambda: pth(tensor_of(1, (10**10,), (1,)), {"0": ONE}), "larger than what it is made of"),
    "a tensor beside its storage": (lambda: pth(tensor_of(1, (1,), (1,), 10**9), {"0": ONE}), "damaged"),
    "a tensor expanded": (lambda: pth(tensor_of(1, (10**6, 10**6), (0, 0)), {"0": ONE}), "larger than what it is made of"),
    "many axes": (lambda: pth(tensor_of(1, (1,) * 10**5, (1,) * 10**5), {"0": ONE}), "damaged"),
    "no storage": (lambda: pth(tensor_of(1, (1,), (1,)), {}), "damaged"),
    "two pickles": (lambda: pth(b"", {}) [:-22] + pth(b"", {}), "damaged"),
    "tuples in tuples": (lambda: pth(deep(b"\x85"), {}), "holds no state dict"),
    "a key of tuples in tuples": (lambda: pth(b"\x80\x02})" + b"\x85" * 3 * 10**5 + b"Ns.", {}), "a key that is a tuple"),
    "a key of tuples twice": (lambda: pth(b"\x80\x02})" + b"q\x00h\x00\x86" * 60 + b"Ns.", {}), "a key that is a tuple"),
    "lists in lists": (lambda: pth(b"\x80\x02" + b"]" * 3 * 10**5 + b"a" * (3 * 10**5 - 1) + b".", {}), "holds no state dict"),
    "a long pickle": (lambda: pth(b"\x80\x02" + b"N" * 5 * 10**6 + b".", {}), "larger than it can be"),
    "a number remembered far off": (lambda: pth(b"\x80\x02}r\xff\xff\xff\x7f.", {}), "holds no state dict"),
    "a text longer than the file": (lambda: pth(b"\x80\x02X\xff\xff\xff\x7fa.", {}), "damaged"),
    "attributes of a name": (lambda: pth(b"\x80\x02ccollections\nCounter\nN}X\x06\x00\x00\x00updateNs\x86b.", {}), "damaged"),
    "a count of a type": (lambda: pth(b"\x80\x02ctorch\nFloatStorage\n\x8a\x05\xff\xff\xff\xff\x7f\x85R.", {}), "damaged"),
    "bytes alone": (lambda: b"\x80\x02" + b"]" * 3 * 10**5 + b".", "damaged"),
    **{f"names {name}": (functools.partial(named, name), f"it names {name.replace(' ', '.')}") for name in GLOBALS},
}  # fmt: skip


@pytest.mark.parametrize("case", FILES)
def test_files_out_of_proportion(tmp_path: Path, case: str) -> None:
    make_, told = FILES[case]
    path = tmp_path / "weights"
    path.write_bytes(make_())
    with pytest.raises(ConflictError) as caught:
        read_weights(path)
    text = str(caught.value)
    assert told in text and str(path) in text and "\n" not in text and len(text) < 600, text


@pytest.mark.parametrize("kind", ["fifo", "zero", "folder", "huge"])
def test_what_is_no_file(run: Run, tmp_path: Path, good: Path, kind: str) -> None:
    """Whatever is read in a folder of a run is a regular file, and of a size."""
    for name in ("weights.safetensors", "evaluation.json", "log.csv", CHECKPOINT):
        path = tmp_path / "run" / name
        path.parent.mkdir(exist_ok=True)
        if kind == "fifo":
            os.mkfifo(path)
        elif kind == "zero":
            path.symlink_to("/dev/zero")
        elif kind == "folder":
            path.mkdir()
        else:
            path.touch()
            os.truncate(path, 2**40)
    (tmp_path / "run" / "run.json").touch()
    link = tmp_path / "link"
    link.symlink_to(good)
    assert read_weights(link)[0]  # which somebody named
    told = {
        "fifo": "Not a regular file",
        "zero": "Not a regular file",
        "folder": "Is a directory",
        "huge": "Larger than|damaged",
    }[kind]
    for command in (
        ("evaluate", "run"), ("train", "out", "--init-from", "run"), ("train", "out", "--inflate", "run/weights.safetensors"),
        ("figure", "filters", "run"), ("figure", "curves", "run"), ("figure", "sweep", "run"), ("figure", "confusion", "run"),
        ("train", "run", *SMALL),
    ):  # fmt: skip
        done = run(*command)
        assert done.code in (2, 3) and done.err.count("\n") <= 2 and re.search(told, done.err), (command, done.err)


SMALL = (
    "--model", "r3d10", "--model-option", "width=0.0625", "--categories", "2", "--instances", "16", "--shape", "4x16x16", "--divisions",
    "1,4", "--clip", "4x16x16", "--batch-size", "8", "--epochs", "1",
)  # fmt: skip


def test_the_same_run_leaves_the_same_bytes(run: Run, tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert run("train", name, *SMALL).code == 0
    for name in ("weights.safetensors", "weights.pth"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert "clips_per_second" in (tmp_path / "a" / "log.csv").read_text()


CHECKPOINTS: dict[str, Callable[[dict[str, Any]], object]] = {
    "no settings": lambda c: c.pop("settings"),
    "settings in a list": lambda c: c.update(settings=[]),
    "settings of many levels": lambda c: c["settings"].update(a=levels(100)),
    "no state": lambda c: c.pop("state"),
    "a state of others": lambda c: c["state"].update(more=1),
    "a step of words": lambda c: c["state"].update(step="1"),
    "rows of rows": lambda c: c["state"].update(rows=[levels(3)]),
    "no weights": lambda c: c.pop("state_dict"),
    "other weights": lambda c: c.update(state_dict={"a": torch.zeros(1)}),
    "weights of words": lambda c: c["state_dict"].update({"fc.bias": "a"}),
    "no optimizer": lambda c: c.update(optimizer=None),
    "an optimizer of laughs": lambda c: c["optimizer"].update(state={0: {"a": laughs()}}),
    "a momentum of another shape": lambda c: c["optimizer"]["state"][0].update(momentum_buffer=torch.zeros(7, 7)),
    "a rate of words": lambda c: c["optimizer"]["param_groups"][0].update(lr="a"),
    "no groups": lambda c: c["optimizer"].update(param_groups=[]),
    "a scheduler of words": lambda c: c["scheduler"].update(best="a"),
    "a scheduler with a method": lambda c: c["scheduler"].update(step=1),
    "no random state": lambda c: c.update(random=[]),
    "a random state of another": lambda c: c.update(random=[{"cpu": torch.zeros(3, dtype=torch.uint8)}]),
    "another form": lambda c: c.update(vpngen_checkpoint=9),
    "a form of words": lambda c: c.update(vpngen_checkpoint="a"),
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    home = tmp_path_factory.mktemp("run")
    with contextlib.chdir(home):
        cli.cli.main(args=["train", "run", *SMALL], standalone_mode=False)
    return (home / "run" / CHECKPOINT).read_bytes()


@pytest.mark.parametrize("case", CHECKPOINTS)
def test_checkpoints_are_checked(run: Run, tmp_path: Path, checkpoint: bytes, case: str) -> None:
    content = torch.load(io.BytesIO(checkpoint), weights_only=True)
    CHECKPOINTS[case](content)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").touch()
    torch.save(content, tmp_path / "run" / CHECKPOINT)
    done = run("train", "run", *SMALL, "--epochs", "2")
    assert "Traceback" not in done.err
    if case == "a scheduler with a method":
        assert done.code == 0, done.err
    else:
        assert done.code == 3 and CHECKPOINT in done.err, done.err
        assert "no checkpoint of a run, or damaged" in done.err or "is of form 9" in done.err, done.err


# --- metrics

VIDEO = {"label": 0, "windows": 1, "top": [[0, 1.0]], "rank": 0, "problem": None}
EVALUATIONS: dict[str, bytes | dict[str, Any]] = {
    "many levels": b"[" * 10**5 + b"]" * 10**5,
    "a list": b"[]",
    "bytes": b"\xff\xfe",
    "a label beyond the classes": {"videos": {"v": {**VIDEO, "label": 2}}},
    "a label of words": {"videos": {"v": {**VIDEO, "label": "a"}}},
    "a class beyond the classes": {"videos": {"v": {**VIDEO, "top": [[-1, 1.0]]}}},
    "no scores": {"videos": {"v": {**VIDEO, "top": []}}},
    "windows of words": {"videos": {"v": {**VIDEO, "windows": "many"}}},
    "a rank of words": {"videos": {"v": {**VIDEO, "rank": "first"}}},
    "fields of others": {"videos": {"v": {**VIDEO, "more": 1}}},
    "videos in a list": {"videos": [VIDEO]},
    "a video of words": {"videos": {"v": "a"}},
    "classes of numbers": {"classes": [1, 2]},
    "many classes": {"classes": [str(i) for i in range(10**5)]},
    "a parent of words": {"metadata": {"parent": "me"}},
    "metadata in a list": {"metadata": []},
    "a source of words": {"metadata": {"source": "a"}},
    "a spec of words": {"metadata": {"source": {"spec": "a"}}},
    "a spec of others": {"metadata": {"parent": {"source": {"spec": {"a": 1}}}}},
    "a seed of words": {"metadata": {"seed": "a"}},
}


@pytest.mark.parametrize("case", EVALUATIONS)
def test_evaluations_are_checked(run: Run, tmp_path: Path, case: str) -> None:
    given = EVALUATIONS[case]
    if isinstance(given, dict):
        whole = Evaluation(("a", "b"), {"v": Outcome(0, 1, ((0, 1.0),), 0)}, (1, 1, 1), (), {}).to_dict()
        given = json.dumps({**whole, **given}).encode()
    (tmp_path / "evaluation.json").write_bytes(given)
    for figure in ("sweep", "confusion"):
        done = run("figure", figure, "evaluation.json")
        if figure == "confusion" and "a spec" in case:
            continue  # which only a sweep looks at
        assert done.code == 2 and done.err.count("\n") == 1 and len(done.err) < 500, done.err


@pytest.mark.parametrize(
    "text", ["epoch," * 10**5 + "\n1\n", "epoch\n" + "1\n" * 2**22, "epoch\n\xff\n"], ids=["wide", "long", "bytes"]
)
def test_logs_are_checked(tmp_path: Path, text: str) -> None:
    (tmp_path / "log.csv").write_text(text, encoding="latin1")
    with pytest.raises(ArgumentError, match=r"log\.csv' is no log of a run"):
        figures.curves(tmp_path, tmp_path / "a.png")


# --- arguments, and a machine under strain


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *((f"--{name}", value) for name in ("epochs", "batch-size", "samples-per-epoch", "grad-accum-steps") for value in ("0", "-1", "nan", f"{2**64}")),
        *((f"--{name}", value) for name in ("lr", "weight-decay", "momentum", "lr-factor") for value in ("nan", "inf", "-1")),
        ("--seed", f"{2**64}"), ("--seed", "-1"), ("--threads", "0"), ("--threads", f"{2**64}"), ("--lr-patience", "0"),
        ("--model-option", "name=1"), ("--model-option", "num_classes=3"), ("--model-option", "self=3"), ("--model-option", "width=nan"),
        ("--model-option", "width=64"), ("--model-option", f"stem_frames={2**64}"), ("--mean", "nan,0,0"), ("--std", "inf,1,1"),
        ("--clip", "0x16x16"),
    ],
)  # fmt: skip
def test_counts_that_make_no_sense(run: Run, option: str, value: str) -> None:
    done = run("train", "out", *SMALL[:2], *SMALL[4:], option, value)
    assert done.code == 2 and "Traceback" not in done.err and not Path("out").exists(), done.err


@pytest.mark.parametrize(
    ("command", "option"),
    [("finetune", ("--seeds", f"{2**64}")), ("finetune", ("--num-workers", f"{2**40}")), ("finetune", ("--val-fraction", "nan")),
     ("evaluate", ("--batch-size", "0")), ("evaluate", ("--grad-accum-steps", "0")), ("evaluate", ("--splits", "-1"))],
)  # fmt: skip
def test_counts_of_other_commands(run: Run, good: Path, tmp_path: Path, command: str, option: tuple[str, str]) -> None:
    first = (good,) if command == "evaluate" else ("out",)
    done = run(command, *first, "--dataset", "folder", "--root", videos(tmp_path), *option)
    assert done.code == 2 and "Traceback" not in done.err, done.err


def test_a_board_that_cannot_be_written_is_said(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def short(*_: Any, **__: Any) -> Any:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("torch.utils.tensorboard.SummaryWriter", short)
    done = run("train", "out", *SMALL)
    assert done.code == 0 and "without TensorBoard's files (can't start new thread)" in done.err
