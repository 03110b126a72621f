"""Files of strangers: each command answers within 10 seconds and 2 GB, in one line, runs nothing and writes nothing elsewhere.

`tests/test_strangers_*.py` have more cases of each kind, in the library.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from strangers import Commands

import vpngen

CODECS = ("none", "zstd", "formula")
SET = ["--categories", 4, "--instances", 3, "--shape", "20x48x48", "--noise-terms", 1, "--shard-videos", 2]
SPEC = vpngen.perlin(4, 3, shape=(20, 48, 48), noise_terms=1)
Make = Callable[[Path], object]
ROWS: list[Any] = []


def row(words: str, code: int, gist: str) -> Callable[[Make], Make]:
    """A command that is run where the decorated function made files, its exit code, and what it says."""

    def add(make: Make) -> Make:
        ROWS.append(pytest.param(make, words, code, gist, id=f"{make.__name__.replace('_', ' ')}: {words}"))
        return make

    return add


# --- weights


def weights(path: Path, metadata: object, tensors: dict[str, Any] | None = None) -> None:
    """A .safetensors file by hand; `metadata` is text that stands as it is, or is JSON."""
    tensors = {"fc.weight": np.zeros((5, 8), np.float32)} if tensors is None else tensors
    header: dict[str, Any] = {
        "__metadata__": {"vpngen": metadata if isinstance(metadata, str) else json.dumps(metadata)}
    }
    at = 0
    for name, values in tensors.items():
        header[name] = {"dtype": "F32", "shape": values.shape, "data_offsets": [at, at + values.nbytes]}
        at += values.nbytes
    head = json.dumps(header).encode()
    path.write_bytes(len(head).to_bytes(8, "little") + head + b"".join(v.tobytes() for v in tensors.values()))


def fine_tuned(model: object, **more: object) -> dict[str, object]:
    """The metadata of fine-tuned weights, but for what is changed."""
    source = {"kind": "folder", "root": "films", "annotations": None, "split": 1, "val_fraction": 0.5}
    about = {"stage": "finetune", "model": model, "classes": ["a", "b"], "recipe": {}, "source": source, "seed": 0}
    return about | more


HUB = {
    "name": "torch.hub:load",
    "options": {"repo_or_dir": "repo", "model": "net", "source": "local"},
    "num_classes": 2,
}
TRUST = "give --model"


@row("evaluate w.safetensors", 3, TRUST)
@row("finetune out --init-from w.safetensors --dataset folder --root films --val-fraction 0.5 --batch-size 2", 3, TRUST)
@row("train out --init-from w.safetensors --categories 4 --instances 2 --batch-size 2", 3, TRUST)
@row("figure filters w.safetensors -o f.png", 0, "")
def weights_that_name_a_repository(folder: Path) -> None:
    (folder / "repo").mkdir()
    (folder / "repo/hubconf.py").write_text("open('ran', 'w').write('x')\ndef net(**_): ...\n")
    weights(folder / "w.safetensors", fine_tuned(HUB), {"conv1.weight": np.ones((8, 3, 3, 7, 7), np.float32)})


@row("evaluate w.safetensors", 3, TRUST)
@row("train out --init-from w.safetensors --categories 4 --instances 2 --batch-size 2", 3, TRUST)
@row("train out --init-from w.safetensors --model-option a=1 --categories 4 --instances 2 --batch-size 2", 3, TRUST)
def weights_beside_a_module(folder: Path) -> None:
    (folder / "evil.py").write_text("open('ran', 'w').write('x')\nclass Net: ...\n")
    weights(folder / "w.safetensors", fine_tuned({"name": "evil:Net", "options": {}, "num_classes": 2}))


@row("evaluate w.safetensors", 3, "w.safetensors")
def weights_with_a_module_beside_them_that_hides_one_of_ours(folder: Path) -> None:
    for name in ("numpy", "json", "vpngen_extra", "safetensors"):
        (folder / f"{name}.py").write_text("open('ran', 'w').write('x')\n")
    weights(folder / "w.safetensors", fine_tuned({"name": "r3d10", "options": {}, "num_classes": 2}))


@row("evaluate w.pth", 3, TRUST)
@row("train out --init-from w.pth --categories 4 --instances 2 --batch-size 2", 3, TRUST)
def a_checkpoint_that_names_a_repository(folder: Path) -> None:
    import torch

    (folder / "repo").mkdir()
    (folder / "repo/hubconf.py").write_text("open('ran', 'w').write('x')\ndef net(**_): ...\n")
    torch.save({"state_dict": {"fc.weight": torch.zeros(5, 8)}, "vpngen": fine_tuned(HUB)}, folder / "w.pth")


@row("evaluate w.pth", 3, "could run any code")
def a_checkpoint_of_code(folder: Path) -> None:
    import torch

    class Run:
        def __reduce__(self) -> Any:
            return os.system, ("touch ran",)

    torch.save({"state_dict": {"fc.weight": torch.zeros(5, 8)}, "extra": Run()}, folder / "w.pth")


def add_metadata_rows() -> None:
    """Metadata that are not those of ours, in some place."""
    wrong = {
        "a list": [1, 2],
        "deep": "[" * 100_000,
        "deep model": fine_tuned(json.loads("[" * 500 + "]" * 500)),
        "model is text": fine_tuned("r3d10"),
        "no model": {"stage": "finetune"},
        "builtins": fine_tuned({"name": "builtins:dict", "options": {"name": 1, "self": 2}, "num_classes": 2}),
        "options called name": fine_tuned({"name": "r3d10", "options": {"name": "r3d18"}, "num_classes": 2}),
        "options are a list": fine_tuned({"name": "r3d10", "options": [1], "num_classes": 2}),
        "no number of classes": fine_tuned({"name": "r3d10", "options": {}}),
        "many classes": fine_tuned({"name": "r3d10", "options": {}, "num_classes": 10**9}),
        "classes are numbers": fine_tuned({"name": "r3d10", "options": {}, "num_classes": 2}, classes=[1, 2]),
        "wide": fine_tuned({"name": "r3d200", "options": {"width": 64.0}, "num_classes": 2}),
        "recipe is a list": fine_tuned({"name": "r3d10", "options": {}, "num_classes": 2}, recipe=[]),
        "source is text": fine_tuned({"name": "r3d10", "options": {}, "num_classes": 2}, source="films"),
        "seed is text": fine_tuned({"name": "r3d10", "options": {}, "num_classes": 2}, seed="0"),
    }
    for name, metadata in wrong.items():
        for words in (
            "evaluate w.safetensors",
            "finetune out --init-from w.safetensors --dataset folder --root films --val-fraction 0.5 --batch-size 2",
        ):

            def make(folder: Path, metadata: object = metadata) -> None:
                weights(folder / "w.safetensors", metadata)

            gist = "give --model" if name == "builtins" else "w.safetensors"
            code = 2 if name == "no model" and words.startswith("finetune") else 3
            ROWS.append(pytest.param(make, words, code, gist, id=f"metadata, {name}: {words.split()[0]}"))


add_metadata_rows()


@row("evaluate w.pth", 3, "w.pth")
@row("finetune out --inflate w.pth --dataset folder --root films --val-fraction 0.5 --batch-size 2", 3, "w.pth")
def a_checkpoint_that_unpacks_to_a_thousand_times_its_size(folder: Path) -> None:
    import torch

    file = BytesIO()
    torch.save({"state_dict": {"fc.weight": torch.zeros(5, 8)}}, file)
    with (
        zipfile.ZipFile(file) as given,
        zipfile.ZipFile(folder / "w.pth", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed,
    ):
        for name in given.namelist():
            with packed.open(name, "w", force_zip64=True) as entry:
                if "/data/" in name:
                    for _ in range(200):
                        entry.write(bytes(2**20))
                else:
                    entry.write(given.read(name))


@row("evaluate w.safetensors", 3, "w.safetensors")
def a_header_that_is_longer_than_the_file(folder: Path) -> None:
    (folder / "w.safetensors").write_bytes((2**40).to_bytes(8, "little") + b"{}" * 50)


@row(
    "train out --model r3d10 --model-option width=0.1 --categories 4 --instances 2 --shape 16x48x48 --clip 8x32x32 --batch-size 2 --epochs 1",
    0,
    "is not followed",
)
def a_run_with_a_link_for_events(folder: Path) -> None:
    (folder / "out").mkdir()
    odd = [5, {"command": 7}, {"command": "vpngen train mine/x --shape 8x8x8", "folder": []}]
    (folder / "out/run.json").write_text(json.dumps({"command": [], "commands": odd}))
    (folder / "out/tensorboard").symlink_to(folder / "mine")


def a_run_of(folder: Path, options: str, stage: str = "train") -> None:
    """A run.json that tells of a command."""
    (folder / "evil.py").write_text("open('ran', 'w').write('x')\nclass Net: ...\n")
    weights(folder / "w.safetensors", fine_tuned({"name": "evil:Net", "options": {}, "num_classes": 2}))
    begun = {
        "command": f"vpngen {stage} mine/x --categories 4 --instances 2 --batch-size 2 {options}",
        "folder": str(folder),
    }
    (folder / "out").mkdir()
    (folder / "out/run.json").write_text(json.dumps({"command": stage, "commands": [begun]}))


@row("train out", 3, "--model evil:Net if you trust it")
def a_run_of_a_module(folder: Path) -> None:
    a_run_of(folder, "--model evil:Net")


@row("train out --model evil:Net", 3, "give --model-option 'a=\"rm -rf\"' if you trust it")
def a_run_of_options_of_a_module(folder: Path) -> None:
    a_run_of(folder, "--model r3d10 --model-option 'a=\"rm -rf\"'")


@row("train out", 3, TRUST)
def a_run_that_begins_with_weights_of_a_module(folder: Path) -> None:
    a_run_of(folder, "--init-from w.safetensors --model-option a=1 --mean half")


@row("train out", 3, r"run.json.* is damaged: Invalid value for '--lr'")
@row("finetune out", 3, "go on with: vpngen train out")
def a_run_of_a_rate_that_is_none(folder: Path) -> None:
    a_run_of(folder, "--lr fast")


@row("train out", 3, r"run.json.* is damaged, or of another vpngen: No such option '--help-me'")
def a_run_of_an_option_that_is_none(folder: Path) -> None:
    a_run_of(folder, "--help-me")


@row("train out", 2, "--spec.* came from stdin; give it again")
def a_run_of_what_nobody_has(folder: Path) -> None:
    a_run_of(folder, "--spec -")


@row("evaluate w.safetensors", 3, r"--model 'a:b; touch ran #'")
def weights_whose_name_is_a_command_of_the_shell(folder: Path) -> None:
    weights(folder / "w.safetensors", fine_tuned({"name": "a:b; touch ran #", "options": {}, "num_classes": 2}))


@row("evaluate w.pth", 3, "w.pth")
def a_checkpoint_that_copies_what_it_holds(folder: Path) -> None:
    many = b"](" + b"N" * 10**6 + b"eq\x00ctorch\nSize\nq\x01(" + b"h\x01h\x00\x85R" * 500_000 + b"t."
    with zipfile.ZipFile(folder / "w.pth", "w") as packed:
        packed.writestr("w/data.pkl", b"\x80\x02" + many)


@row("figure filters w.safetensors -o f.png", 2, "too large to be drawn")
def weights_of_a_long_kernel(folder: Path) -> None:
    weights(folder / "w.safetensors", {}, {"conv1.weight": np.zeros((8, 3, 10**5, 1, 1), np.float32)})


@row("figure filters w.safetensors -o f.png", 2, "nothing to draw")
def weights_of_an_empty_kernel(folder: Path) -> None:
    weights(folder / "w.safetensors", {}, {"conv1.weight": np.zeros((0, 3, 3, 7, 7), np.float32)})


@row("figure curves run -o f.png", 0, "")
def a_log_of_numbers_that_cannot_be_drawn(folder: Path) -> None:
    (folder / "run").mkdir()
    (folder / "run/log.csv").write_text("epoch,train_loss,val_top1,lr\n1,1e308,inf,-1\n2,-1e308,-inf,0\n")


@row("figure confusion e.json -o f.png", 2, "e.json")
def an_evaluation_of_a_class_of_no_text(folder: Path) -> None:
    about = {"videos": {}, "windows": [0, 0, 0], "short": [], "metadata": {}}
    (folder / "e.json").write_text(json.dumps({"classes": ["\ud800", "a\nb"], **about}))


@row("figure confusion e.json -o f.png", 2, "e.json")
@row("evaluate e.json", 3, "e.json")
def an_evaluation_of_a_class_with_a_long_name(folder: Path) -> None:
    about = {"videos": {}, "windows": [0, 0, 0], "short": [], "metadata": {}}
    (folder / "e.json").write_text(json.dumps({"classes": ["a" * 10**6, "b"], **about}))


# --- what is no file


def add_special_files() -> None:
    """Pipes, devices, folders and links to devices in the place of a file that a command reads."""
    commands = {
        "evaluate w": 2, "train out --init-from w --categories 4 --instances 2 --batch-size 2": 2, "figure filters w -o f.png": 2,
        "info --spec w": 2, "render out.zarr --spec w": 2, "info w": 3, "verify w": 3,
        "render out.zarr --generator fractal --ifs-dir tables": 2,
        "finetune out --dataset ucf101 --root films --annotations lists": 3,
        "finetune out --dataset kinetics --root films --annotations w": 3,
    }  # fmt: skip
    for kind in ("pipe", "zero", "folder"):
        for words, code in commands.items():
            if kind == "folder" and words.split()[0] in ("info", "verify", "evaluate", "finetune"):
                continue

            def make(folder: Path, kind: str = kind) -> None:
                for path in (folder / "w", folder / "tables/0.csv", folder / "lists/classInd.txt"):
                    path.parent.mkdir(exist_ok=True)
                    if kind == "pipe":
                        os.mkfifo(path)
                    elif kind == "zero":
                        path.symlink_to("/dev/zero")
                    else:
                        path.mkdir()

            ROWS.append(pytest.param(make, words, code, "", id=f"a {kind}: {words}"))


add_special_files()


def test_settings_in_the_current_folder_are_nobodys(tmp_path: Path) -> None:
    (tmp_path / ".numba_config.yaml").write_text("cache_dir: ./nb\ndisable_jit: 1\n")
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\n")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/log.csv").write_text("epoch,train_loss,val_top1\n1,1,.5\n2,1,.6\n")
    code = (
        "import vpngen; from vpngen.train.figures import curves\n"
        "vpngen.render(vpngen.perlin(4, 1, shape=(2, 16, 16)), 0, threads=1, backend='numba')\n"
        "curves('run', 'a.png')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", "")
    assert not (tmp_path / "nb").exists() and (tmp_path / "a.png").exists()


# --- stores


def add_store_rows() -> None:
    """Links, pipes and devices in a store; commands that write, and such that read."""
    places = {
        "a partial shard": "train/video/c.1.0.0.0.partial",
        "a shard": "train/video/c.1.0.0.0",
        "a record": "train/video/c.1.0.0.0.done",
        "a partial record": "train/video/c.1.0.0.0.done.partial",
        "labels": "train/label/c.0",
        "partial labels": "train/label/c.0.partial",
        "metadata": "train/video/zarr.json",
        "root metadata": "zarr.json",
        "a folder": "train/video",
    }
    for what, name in places.items():
        for kind in ("link", "hard link", "pipe", "zero"):
            if (what == "a folder") != (kind == "link" and what == "a folder"):
                continue
            for words in ("render set.zarr --codec zstd", "verify set.zarr --repair", "preview set.zarr -o p.png"):

                def make(folder: Path, name: str = name, kind: str = kind) -> None:
                    store, path = folder / "set.zarr", folder / "set.zarr" / name
                    shutil.copytree(folder.parent / "zstd", store)
                    (store / "train/video/c.1.0.0.0.done").unlink()
                    (store / "train/video/c.1.0.0.0").unlink()
                    (store / "train/label/c.0").write_bytes(b"damaged")
                    if path.is_dir():
                        path.rename(folder / "mine/video")
                        path.symlink_to(folder / "mine/video")
                        return
                    path.unlink(missing_ok=True)
                    if kind == "link":
                        path.symlink_to(folder / "mine/file")
                    elif kind == "hard link":
                        os.link(folder / "mine/file", path)
                    elif kind == "pipe":
                        os.mkfifo(path)
                    else:
                        path.symlink_to("/dev/zero")

                if words.startswith("preview") and kind != "pipe":
                    continue
                more = " " + " ".join(map(str, SET)) if words.startswith("render") else ""
                ROWS.append(pytest.param(make, words + more, None, "", id=f"{kind} for {what}: {words.split()[0]}"))


add_store_rows()


def claim(folder: Path, codec: str = "none", **changes: object) -> None:
    """A store of nothing but a spec that claims much."""
    from vpngen.store.layout import Layout, skeleton

    spec = vpngen.Spec.from_dict({**SPEC.to_dict(), **changes})
    files = skeleton(vpngen.Spec.from_dict({**spec.to_dict(), "instances": 1}), Layout(codec))[0]
    root = json.loads(files["zarr.json"])
    from vpngen.store import layout

    ours = root["attributes"]["vpngen"]
    ours |= {"spec": spec.to_dict(), "fingerprint": spec.fingerprint, "checksum": layout._checksum(spec, Layout(codec))}
    (folder / "set.zarr").mkdir()
    (folder / "set.zarr/zarr.json").write_text(json.dumps(root))


@row("verify set.zarr", 1, "missing")
@row("info set.zarr", 0, "")
@row("preview set.zarr -o p.png", 3, "is not complete")
def a_store_that_claims_a_billion_videos(folder: Path) -> None:
    claim(folder, "formula", instances=10**9 // 4)


@row("verify set.zarr", 1, "missing")
@row("info set.zarr", 0, "")
@row("preview set.zarr -o p.png", 3, "is not complete")
@row("train out --store set.zarr", 3, "set.zarr")
def a_store_that_claims_four_million_shards(folder: Path) -> None:
    claim(folder, instances=32 * 2**20)


@row("verify set.zarr", 1, "c.0.0.0.0")
@row("verify set.zarr --repair", 0, "repaired")
@row("preview set.zarr -o p.png", 1, "vpngen verify")
def a_chunk_that_unpacks_to_gigabytes(folder: Path) -> None:
    from numcodecs import zstd

    from vpngen.store.formula import crc32c

    shutil.copytree(folder.parent / "zstd", folder / "set.zarr")
    packed = zstd.compress(bytes(2**31 - 2**20), 1)
    shard = folder / "set.zarr/train/video/c.0.0.0.0"
    data, size = shard.read_bytes(), shard.stat().st_size
    index = np.frombuffer(data[-(4 * 16 + 4) : -4], "<u8").copy()
    index[0], index[1] = 0, len(packed) + 4
    packed = packed + crc32c(packed)
    body = packed + data[len(packed) : -(4 * 16 + 4)]
    table = index.tobytes()
    data = body + table + crc32c(table)
    shard.write_bytes(data)
    record = shard.with_name(f"{shard.name}.done")
    record.write_text(record.read_text().replace(f'"size": {size}', f'"size": {len(data)}'))


@row("info set.zarr", 3, "zarr.json")
@row("verify set.zarr", 3, "zarr.json")
def a_root_of_millions_of_values(folder: Path) -> None:
    (folder / "set.zarr").mkdir()
    (folder / "set.zarr/zarr.json").write_text("[" + "{}," * 2 * 10**7 + "{}]")


@row("verify set.zarr", 1, r"overlap")
def a_shard_of_one_chunk_many_times(folder: Path) -> None:
    from vpngen.store.formula import crc32c

    shutil.copytree(folder.parent / "zstd", folder / "set.zarr")
    shard = folder / "set.zarr/train/video/c.0.0.0.0"
    data = shard.read_bytes()
    index = np.frombuffer(data[-(4 * 16 + 4) : -4], "<u8").reshape(4, 2).copy()
    index[1:] = index[0]
    shard.write_bytes(data[: -(4 * 16 + 4)] + index.tobytes() + crc32c(index.tobytes()))


@row("verify set.zarr", 1, re.escape(r"x\n\x1b[2K\x1b[32mset.zarr: 12 videos read; whole"))
def names_that_colour_the_terminal(folder: Path) -> None:
    shutil.copytree(folder.parent / "none", folder / "set.zarr")
    (folder / "set.zarr/x\n\x1b[2K\x1b[32mset.zarr: 12 videos read; whole").touch()


def add_flipped_bits() -> None:
    for codec in CODECS:
        for words in ("preview set.zarr -o p.png", "mosaic set.zarr -o p.png"):

            def make(folder: Path, codec: str = codec) -> None:
                shutil.copytree(folder.parent / codec, folder / "set.zarr")
                for shard in (folder / "set.zarr/train/video").glob("c.*.0"):
                    data = bytearray(shard.read_bytes())
                    data[20] ^= 1
                    shard.write_bytes(data)

            if words.startswith("preview"):
                ROWS.append(
                    pytest.param(make, words, 1, "vpngen verify", id=f"a flipped bit, {codec}: {words.split()[0]}")
                )


add_flipped_bits()


@row(f"render set.zarr --codec none {' '.join(map(str, SET))}", 0, "")
def a_damaged_root(folder: Path) -> None:
    shutil.copytree(folder.parent / "none", folder / "set.zarr")
    (folder / "set.zarr/zarr.json").write_text("{")


@row("verify set.zarr --repair", 1, "c.0.0.0.0")
def a_folder_for_a_shard(folder: Path) -> None:
    shutil.copytree(folder.parent / "none", folder / "set.zarr")
    (folder / "set.zarr/train/video/c.0.0.0.0").unlink()
    (folder / "set.zarr/train/video/c.0.0.0.0/more").mkdir(parents=True)
    (folder / "set.zarr/train/video/c.1.0.0.0").write_bytes(b"damaged")


# --- specs, tables and lists


@row("info --spec deep.json", 2, "")
@row("render out.zarr --spec deep.json", 2, "")
def a_spec_that_is_deep(folder: Path) -> None:
    (folder / "deep.json").write_text('{"generator":' * 100_000)


@row("info --spec many.json", 2, "")
def a_mixture_of_many(folder: Path) -> None:
    part = json.dumps(SPEC.to_dict()["generator"])
    parts = f'{{"name": "mixed", "parts": [{", ".join([part] * 100_000)}]}}'
    text = json.dumps({**SPEC.to_dict(), "generator": "HERE"}).replace('"HERE"', parts)
    (folder / "many.json").write_text(text)


@row("render out.zarr --generator fractal --ifs-dir tables", 2, "")
def a_table_of_one_long_line(folder: Path) -> None:
    (folder / "tables").mkdir()
    with (folder / "tables/0.csv").open("wb") as file:
        for _ in range(200):
            file.write(b"0.1," * 2**18)


@row("render out.zarr --generator fractal --ifs-dir tables", 2, "")
def a_table_of_a_million_rows(folder: Path) -> None:
    (folder / "tables").mkdir()
    (folder / "tables/0.csv").write_text("0.1,0.2,0.3,0.4,0.5,0.6,0.000001\n" * 10**6)


@row("finetune out --dataset ucf101 --root films --annotations lists", 3, "trainlist01.txt")
def lists_that_lead_elsewhere(folder: Path) -> None:
    (folder / "lists").mkdir()
    (folder / "lists/classInd.txt").write_text("1 a\n2 b\n")
    (folder / "lists/trainlist01.txt").write_text("a/v_a_g01_c01.avi 1\n../../mine/file.avi 1\n")
    (folder / "lists/testlist01.txt").write_text("a/v_a_g02_c01.avi\n/etc/b/v_b_g01_c01.avi\n")


# --- small


@row("render s.zarr --categories ٤ --instances 1", 2, "")
@row("render s.zarr --categories 1_6 --instances 1", 2, "")
@row("render s.zarr --categories 4 --instances 1 --backend nonsense --codec formula", 2, "backend")
@row("preview --categories 4 --instances 1 --frames 0 -o p.png", 2, "")
@row("mosaic --categories 4 -o p.png/", 2, "")
@row("preview --categories 4 -o p.png/", 2, "names a folder")
@row("figure curves run -o c.png/", 2, "names a folder")
@row("evaluate w -o m.json/", 2, "names a folder")
@row("evaluate w --results m.json/", 2, "names a folder")
def nothing(folder: Path) -> None: ...


@pytest.fixture(scope="module")
def commands() -> Iterator[Commands]:
    running = Commands()
    yield running
    running.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a good store of each codec."""
    folder = tmp_path_factory.mktemp("strangers")
    for codec in CODECS:
        vpngen.write(SPEC, folder / codec, codec=codec, threads=1, shard_videos=2)
    return folder


@pytest.mark.parametrize(("make", "words", "code", "gist"), ROWS)
def test_files_of_strangers(
    make: Make, words: str, code: int | None, gist: str, place: Path, commands: Commands
) -> None:
    folder = place / "case"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "mine").mkdir(parents=True)
    (folder / "mine/file").write_text("mine")
    for name in ("a", "b"):
        (folder / "films" / name).mkdir(parents=True)
        for group in range(1, 5):
            (folder / f"films/{name}/v_{name}_g0{group}_c01.avi").write_bytes(b"no film")
    make(folder)
    before = sorted(p.name for p in folder.iterdir() if p.name not in ("set.zarr", "p.png", "f.png", "out.zarr"))
    mine = {p: p.read_bytes() for p in (folder / "mine").rglob("*") if p.is_file()}
    said = commands.run(folder, *words.split())
    assert said.code >= 0, f"hangs, or was killed: {said}"
    lines = [line for line in said.text.splitlines() if not line.startswith("  ")]
    assert "Traceback" not in said.text and (said.code < 2 or len(lines) < 3 or lines[0].startswith("Usage")), said.text
    assert said.code == code or (code is None and said.code in (0, 1, 3)), said
    assert re.search(gist, said.text), said.text
    assert "\x1b" not in said.text
    assert {p: p.read_bytes() for p in (folder / "mine").rglob("*") if p.is_file()} == mine, "written elsewhere"
    assert not (folder / "ran").exists(), "code of the file ran"
    if said.code in (2, 3):
        after = sorted(p.name for p in folder.iterdir() if p.name not in ("set.zarr",))
        assert after == before, "something was left"


@pytest.mark.parametrize(
    ("words", "files"),
    [
        ("render set.zarr --codec zstd --shard-videos 1", 12),
        ("render set.zarr --codec zstd --shard-videos 1", 24),
        ("verify whole --render", 12),
        ("verify whole --render", 64),
        ("preview whole -o p.png", 24),
        ("train out --store whole", 24),
    ],
)
def test_few_open_files(words: str, files: int, place: Path, commands: Commands) -> None:
    folder = place / "few"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(place / "zstd", folder / "whole")
    more = f" {' '.join(map(str, SET[:-2]))}" if words.startswith("render") else ""
    if words.startswith("train"):
        more = " --model r3d10 --model-option width=0.1 --clip 8x32x32 --batch-size 2 --epochs 1"
    said = commands.run(folder, *(words + more).split(), files=files)
    assert said.code in (0, 1, 4) and "Traceback" not in said.text, said.text
    assert said.code != 1 or "verify" not in said.text, "a whole store is called damaged"
