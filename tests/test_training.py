"""`vpngen train`, `finetune`, `evaluate`, `figure`: from noise to the metrics of a network on real files."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from commands import Run, end_of, process
from filming import by_command_line
from pairs import two_ranks
from PIL import Image

import vpngen
from benchmarks.motions import write_ucf101
from vpngen.cli import cli
from vpngen.datasets import WindowLoader, read_videos
from vpngen.datasets.sets import DataConfig
from vpngen.errors import ConflictError
from vpngen.models.weights import load_weights, read_weights, save_reference, save_weights
from vpngen.train import Evaluation, ModelInit, Recipe, Runtime, runs
from vpngen.train.evaluation import score

ROOT = Path(__file__).parents[1]
TINY = ("--model", "r3d10", "--model-option", "width=0.125", "--clip", "8x32x32")
NOISE = (
    *TINY, "--categories", "4", "--instances", "8", "--val-instances", "2", "--shape", "16x48x48", "--divisions", "1,12",
    "--epochs", "2", "--batch-size", "8", "--lr", "0.05", "--threads", "1",
)  # fmt: skip
BRIEF = ("--epochs", "2", "--batch-size", "6", "--clip", "8x32x32", "--lr", "0.02", "--num-workers", "0")
CLASSES = ("Left", "Right", "Up")


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Moving pictures as video files in the layout of UCF-101, with two splits, the second the first turned round."""
    home = tmp_path_factory.mktemp("films")
    write_ucf101(
        home / "ucf", home / "lists", clips_per_class=4, test_clips_per_class=2, frames=20, size=48, classes=CLASSES
    )
    for name, other in (("trainlist", "testlist"), ("testlist", "trainlist")):
        lines = (home / "lists" / f"{other}01.txt").read_text().splitlines()
        numbers = {c: i for i, c in enumerate(CLASSES, 1)}
        names = [line.split()[0] for line in lines]
        text = [f"{n} {numbers[n.split('/')[0]]}" if name == "trainlist" else n for n in names]
        (home / "lists" / f"{name}02.txt").write_text("\n".join(text) + "\n")
    return home


@pytest.fixture(scope="module")
def initialized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of `vpngen train`."""
    home = tmp_path_factory.mktemp("initialized")
    called(home, "train", "vpn", *NOISE)
    return home / "vpn"


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory, films: Path) -> Path:
    """A run of `vpngen finetune` from scratch, of one epoch; not to be changed."""
    home = tmp_path_factory.mktemp("tuned")
    called(home, "finetune", "tuned", *TINY[:4], *set_of(films), *BRIEF, "--epochs", "1")
    return home / "tuned"


def called(home: Path, *args: str | Path) -> None:
    """`vpngen ARGS` in this process, for what several tests share."""
    with contextlib.chdir(home):
        cli.main(args=[str(arg) for arg in args], standalone_mode=False)


def set_of(films: Path) -> tuple[str | Path, ...]:
    return ("--dataset", "ucf101", "--root", films / "ucf", "--annotations", films / "lists")


@pytest.fixture
def ucf(films: Path) -> tuple[str | Path, ...]:
    return set_of(films)


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def state_of(path: Path) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in read_weights(path)[0].items()}


def as_pth(weights: Path, path: Path) -> Path:
    """Weights of ours once more, in the form of 3D-ResNets-PyTorch."""
    state, metadata = read_weights(weights)
    about = metadata["model"]
    model = vpngen.create_model(about["name"], about["num_classes"], **about["options"])
    model.load_state_dict(state)
    save_reference(path, model, "resnet-10", 2, metadata=metadata)
    return path


def flat_weights(path: Path, name: str = "r3d10") -> dict[str, torch.Tensor]:
    """Those of a network of images, also in a file."""
    deep = vpngen.create_model(name, 7, width=0.125).state_dict()
    flat = {name: value[:, :, 0].clone() if value.ndim == 5 else value for name, value in deep.items()}
    torch.save(flat, path)
    return flat


def recipe_of(folder: Path) -> dict[str, Any]:
    recipe: dict[str, Any] = read_weights(folder / "weights.safetensors")[1]["recipe"]
    return recipe


def equal(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


# --- end to end


def test_from_noise_to_metrics_on_real_files(
    run: Run, tmp_path: Path, films: Path, initialized: Path, ucf: tuple[str | Path, ...]
) -> None:
    done = run("finetune", "tuned", "--init-from", initialized, *ucf, *BRIEF)
    assert done.code == 0, done.err
    assert "epoch 2/2" in done.err and "videos" in done.out
    left = {p.name for p in (tmp_path / "tuned").iterdir()}
    assert left == {
        "run.json", "checkpoint.pt", "log.csv", "tensorboard", "curves.png", "weights.safetensors", "weights.pth", "evaluation.json",
    }  # fmt: skip
    state, metadata = read_weights(tmp_path / "tuned" / "weights.safetensors")
    assert metadata["stage"] == "finetune" and metadata["classes"] == list(CLASSES)
    assert metadata["model"] == {"name": "r3d10", "options": {"width": 0.125}, "num_classes": 3}
    assert metadata["parent"]["stage"] == "train"
    assert metadata["source"]["root"] == str(films / "ucf") and metadata["source"]["annotations"] == str(
        films / "lists"
    )
    spec = vpngen.Spec.from_dict(metadata["parent"]["source"]["spec"])
    assert spec.fingerprint == metadata["parent"]["source"]["fingerprint"] and spec.n_categories == 4

    # The evaluation once more: decoded by ffmpeg, cut and resized by Pillow, in windows of 8 frames and the looped rest.
    model = vpngen.create_model("r3d10", 3, width=0.125)
    model.load_state_dict(state)
    model.eval()
    found = Evaluation.load(tmp_path / "tuned" / "evaluation.json")
    right = []
    for line in (films / "lists" / "testlist01.txt").read_text().splitlines():
        frames = by_command_line(films / "ucf" / line, 48, 48)
        small = np.stack([np.asarray(Image.fromarray(f).resize((32, 32), Image.Resampling.BILINEAR)) for f in frames])
        windows = [small[i : i + 8] for i in range(0, len(small), 8)]
        windows = [np.resize(w, (8, 32, 32, 3)) for w in windows]  # repeats it from its beginning
        clips = torch.from_numpy(np.stack(windows)).permute(0, 4, 1, 2, 3)
        with torch.no_grad():
            scores = model((clips.float() / 255 - 0.5) / 0.5).softmax(1).mean(0)
        mine = found.videos[Path(line).stem].top
        assert int(scores.argmax()) == mine[0][0]
        for number, mean in mine:
            assert mean == pytest.approx(float(scores[number]), abs=0.02)
        right.append(CLASSES[int(scores.argmax())] == line.split("/")[0])
    assert found.metrics["top1"] == np.mean(right)

    published, same = read_weights(tmp_path / "tuned" / "weights.pth")
    assert same == metadata and all(torch.equal(value, state[name]) for name, value in published.items())

    again = run("evaluate", "tuned", "--format", "json", "--results", "scores.json")
    assert again.code == 0 and again.json["metrics"] == found.to_dict()["metrics"]
    assert set(json.loads(Path("scores.json").read_text())["results"]) == set(found.videos)


def test_splits_and_seeds_are_runs_and_a_summary(run: Run, tmp_path: Path, ucf: tuple[str | Path, ...]) -> None:
    few = (*BRIEF, "--epochs", "1", "--clip", "4x16x16")
    done = run("finetune", "many", *TINY[:4], *ucf, *few, "--splits", "1,2", "--seeds", "3,4")
    assert done.code == 0, done.err
    folders = [f"split{split}-seed{seed}" for seed in (3, 4) for split in (1, 2)]
    assert sorted(p.name for p in (tmp_path / "many").iterdir()) == sorted([*folders, "summary.json"])
    found = {
        (split, seed): Evaluation.load(tmp_path / "many" / f"split{split}-seed{seed}" / "evaluation.json").metrics
        for seed in (3, 4) for split in (1, 2)
    }  # fmt: skip
    summary = json.loads((tmp_path / "many" / "summary.json").read_text())
    shown = dict(line.split(maxsplit=1) for line in done.out.splitlines()[1:3])
    for what, metric in (
        ("videos", "top1"),
        ("windows", "window_top1"),
    ):  # video and clip accuracy, as papers call them
        by_seed = [(found[1, seed][metric] + found[2, seed][metric]) / 2 for seed in (3, 4)]
        mean, std = float(np.mean(by_seed)), float(np.std(by_seed, ddof=1))
        assert summary["metrics"][metric] == {"mean": pytest.approx(mean), "std": pytest.approx(std), "n": 2}
        assert shown[what].startswith(f"{100 * mean:.1f} ± {100 * std:.1f}")
    assert "mean ± sample standard deviation" in done.out
    both = run("evaluate", *(tmp_path / "many" / name for name in folders[:2]), "--format", "json")
    assert both.code == 0 and both.json["runs"] == json.loads(Path("many/summary.json").read_text())["runs"][::2]
    of_all = run("evaluate", "many")
    assert (of_all.code, of_all.out) == (0, done.out), of_all.err
    again = run("finetune", "many")  # with its own options
    assert (again.code, again.out) == (0, done.out) and "--splits 1,2 --seeds 3,4" in again.err, again.err
    one = run("finetune", "many/split2-seed4")
    assert one.code == 0 and "--splits 2 --seeds 4" in one.err and not list(Path("many/split2-seed4").glob("split*")), (
        one.err
    )
    assert not equal(*(state_of(tmp_path / "many" / f"split1-seed{seed}" / "weights.pth") for seed in (3, 4)))

    for command in (
        ("curves", "many", "-o", "curves.png"),
        ("filters", "many/split1-seed3", "-o", "filters.gif"),
        ("sweep", "many", "-o", "sweep.png"),
    ):
        drawn = run("figure", *command)
        assert (drawn.code, drawn.out.strip()) == (0, command[-1]), drawn.err
        with Image.open(command[-1]) as picture:
            assert min(picture.size) > 50 and len(np.unique(np.asarray(picture.convert("L")))) > 10

    words: tuple[str | Path, ...]
    for words, says in (
        (("figure", "confusion", "many"), "of several splits or seeds; give one of them, such as many/split1-seed3"),
        (("finetune", "x", "--init-from", "many", *ucf), "such as many/split1-seed3"),
        (("evaluate", "many", "--results", "r.json"), "are those of one network, and 4 are given"),
        (
            ("evaluate", "many"),
            "the run in 'many/split2-seed4' has not ended; go on with: vpngen finetune many/split2-seed4",
        ),
        (("evaluate", "many"), "many lacks split2-seed4; go on with: vpngen finetune many, or"),
    ):
        wrong = run(*words)
        assert wrong.code == 2 and says in wrong.err, wrong.err
        if "--results" in words:
            Path("many/split2-seed4/weights.safetensors").unlink()
        elif "ended" in says:
            shutil.rmtree("many/split2-seed4")


# --- where weights come from


def test_frozen_stages_stay_as_they_were(
    run: Run, tmp_path: Path, initialized: Path, ucf: tuple[str | Path, ...]
) -> None:
    assert run("finetune", "tuned", "--init-from", initialized, *ucf, *BRIEF, "--freeze", "3").code == 0
    before, after = state_of(initialized / "weights.safetensors"), state_of(tmp_path / "tuned" / "weights.safetensors")
    moved = {name for name in after if not np.array_equal(before[name], after[name])}
    assert moved and all(name.startswith(("layer4.", "fc.")) for name in moved)
    assert {name for name in after if name.startswith("layer4.") and name.endswith("weight")} <= moved


def test_weights_of_3d_resnets_pytorch_begin_a_run(
    run: Run, tmp_path: Path, initialized: Path, ucf: tuple[str | Path, ...]
) -> None:
    state, _ = read_weights(initialized / "weights.pth")
    theirs = {"arch": "resnet-10", "epoch": 3, "state_dict": {f"module.{name}": value for name, value in state.items()}}
    torch.save(theirs, tmp_path / "theirs.pth")
    brief = (*BRIEF, "--epochs", "1", "--lr", "0.0001")
    done = run("finetune", "tuned", "--init-from", "theirs.pth", *ucf, *brief, "--freeze", "4")
    assert done.code == 0, done.err
    said = "theirs.pth does not say which mean and std it was trained with: 0.5,0.5,0.5 and 0.5,0.5,0.5 are taken"
    assert done.err.count(said) == 1
    after = state_of(tmp_path / "tuned" / "weights.safetensors")
    assert all(np.array_equal(state[name].numpy(), after[name]) for name in after if not name.startswith("fc."))
    again = run("finetune", "told", "--init-from", "theirs.pth", *ucf, *brief, "--mean", "kinetics")
    assert again.code == 0 and "does not say" not in again.err
    assert recipe_of(tmp_path / "told").items() >= {
        "mean": [0.4345, 0.4051, 0.3775], "std": [0.2768, 0.2713, 0.2737],
    }.items()  # fmt: skip


def test_weights_that_nothing_tells_the_network_of(run: Run, tmp_path: Path, ucf: tuple[str | Path, ...]) -> None:
    torch.save({"state_dict": {"a.weight": torch.zeros(2)}}, tmp_path / "odd.pth")
    done = run("finetune", "tuned", "--init-from", "odd.pth", *ucf, *BRIEF)
    assert done.code == 2 and "`--init-from` (='odd.pth') holds weights of none" in done.err and "`model`" in done.err


def test_a_pth_file_of_ours_says_what_it_is(
    run: Run, tmp_path: Path, initialized: Path, ucf: tuple[str | Path, ...]
) -> None:
    vpn = as_pth(initialized / "weights.safetensors", tmp_path / "vpn.pth")
    done = run("finetune", "tuned", "--init-from", vpn, *ucf, *BRIEF, "--epochs", "1", "--format", "json")
    assert done.code == 0 and "does not say" not in done.err, done.err
    parent = read_weights(tmp_path / "tuned" / "weights.safetensors")[1]["parent"]
    assert vpngen.Spec.from_dict(parent["source"]["spec"]).n_categories == 4 and parent["file"] == str(vpn)
    tuned = as_pth(tmp_path / "tuned" / "weights.safetensors", tmp_path / "tuned.pth")
    again = run("evaluate", tuned, "--format", "json")
    assert again.code == 0 and again.json["metrics"] == done.json["metrics"], again.err


def test_a_flat_network_is_inflated(run: Run, tmp_path: Path, ucf: tuple[str | Path, ...]) -> None:
    flat = flat_weights(tmp_path / "flat.pth")
    done = run("finetune", "--inflate", "flat.pth", *TINY[:4], *ucf, *BRIEF, "--freeze", "4", "--epochs", "1")
    assert done.code == 0, done.err
    out = tmp_path / "runs" / "ucf101-r3d10-inflated"
    after = state_of(out / "weights.safetensors")
    np.testing.assert_allclose(
        after["conv1.weight"], flat["conv1.weight"][:, :, None].repeat(1, 1, 7, 1, 1).numpy() / 7
    )
    assert read_weights(out / "weights.safetensors")[1]["parent"]["stage"] == "inflation"
    assert recipe_of(out).items() >= {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}.items()


@pytest.mark.parametrize(
    ("command", "extra", "told"),
    [
        ("train", ("--init-from", "nope"), "`--init-from` (='nope') cannot be read: No such file or directory"),
        ("finetune", ("--inflate", "nope"), "`--inflate` (='nope') cannot be read: No such file or directory"),
        ("train", ("--inflate", "deep.pth"), "`--inflate` (='deep.pth') has kernels in time already"),
        (
            "finetune", ("--inflate", "flat.pth", "--model", "r3d18"),
            "`--inflate` (='flat.pth') does not fit `model`; it would fit r3d10, width=0.125. Time aside:\n",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_with_weights_names_their_option(
    run: Run, tmp_path: Path, ucf: tuple[str | Path, ...], command: str, extra: tuple[str, ...], told: str
) -> None:
    flat_weights(tmp_path / "flat.pth")
    torch.save(vpngen.create_model("r3d10", 5, width=0.125).state_dict(), tmp_path / "deep.pth")
    rest = NOISE[len(TINY) :] if command == "train" else (*ucf, *BRIEF)
    done = run(command, "out", *rest, *extra)
    assert done.code == 2 and told in done.err, done.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "mean", "std"),
    [
        (("--mean", "activitynet"), [0.4477, 0.4209, 0.3906], [0.2767, 0.2695, 0.2714]),
        (("--std", "imagenet"), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        (("--mean", "kinetics", "--std", "1,1,2"), [0.4345, 0.4051, 0.3775], [1, 1, 2]),
        (("--mean", "0,0,0", "--std", "half"), [0, 0, 0], [0.5, 0.5, 0.5]),
        (("--mean", "kinetics", "--std", "imagenet"), [0.4345, 0.4051, 0.3775], [0.229, 0.224, 0.225]),
        (("--mean", "0,0,0"), [0, 0, 0], [0.5, 0.5, 0.5]),
    ],
)
def test_mean_and_std_by_name(
    run: Run, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], mean: list[float], std: list[float]
) -> None:
    taken = []
    monkeypatch.setattr(runs, "initialize", lambda *args, **_: taken.append(args[3]) or sys.exit(0))
    assert run("train", "vpn", *NOISE, *options).code == 0
    assert ([*taken[0].mean], [*taken[0].std]) == (mean, std)


def test_mean_and_std_that_are_none(run: Run) -> None:
    done = run("train", "vpn", *NOISE, "--mean", "imagnet")
    assert (
        done.code == 2
        and "'imagnet' must be one of half, kinetics, activitynet, imagenet, or three numbers" in done.err
    )
    done = run("train", "vpn", *NOISE, "--std", "0.5,0.5")
    assert done.code == 2 and "`--std` (=(0.5, 0.5)) must be three numbers" in done.err


def test_a_run_without_a_name_has_that_of_its_weights(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, initialized: Path, ucf: tuple[str | Path, ...]
) -> None:
    taken: list[str] = []
    monkeypatch.setattr(runs, "initialize", lambda *args, **_: taken.append(str(args[1])) or sys.exit(0))
    monkeypatch.setattr(runs, "finetune", lambda *args, **_: taken.append(str(args[1])) or sys.exit(0))
    shutil.copy(initialized / "weights.pth", tmp_path / "published.pth")
    monkeypatch.chdir(initialized)
    for begin in (
        TINY[:4], ("--init-from", "."), ("--init-from", "weights.pth"), ("--init-from", initialized), ("--init-from", tmp_path / "published.pth"),
        ("--inflate", "none.pth"),
    ):  # fmt: skip
        assert run("finetune", *begin, *ucf).code == 0
    assert run("train", "--init-from", ".", "--categories", "4", "--instances", "8").code == 0
    assert taken == [
        *(f"runs/ucf101-r3d10{end}" for end in ("", "-from-vpn", "-from-vpn", "-from-vpn", "-from-published")),
        "runs/ucf101-r3d50-inflated",
        "runs/vpn-4x8-r3d10-from-vpn",
    ]


def test_a_model_of_somebody_else(
    run: Run, tmp_path: Path, ucf: tuple[str | Path, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n"
        "def net(num_classes, width=4):\n"
        "    return nn.Sequential(nn.Conv3d(3, width, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(),\n"
        "                         nn.Linear(width, num_classes))\n"
    )
    monkeypatch.setattr(sys, "path", [*sys.path])  # the command adds the folder that it is called in
    own = ("--model", "mine:net", "--model-option", "width=6", "--clip", "8x32x32")
    noise = NOISE[len(TINY) :]
    assert run("train", "vpn", *own, *noise).code == 0
    told = "names the network 'mine:net', which is code from elsewhere; give --model mine:net --model-option width=6 if you trust it"
    refused = run("finetune", "tuned", "--init-from", "vpn", *ucf, *BRIEF)
    assert refused.code == 3 and told in refused.err
    refused = run("finetune", "tuned", "--init-from", "vpn", *own[:2], *ucf, *BRIEF)
    assert refused.code == 3 and "names options of mine:net, " in refused.err
    assert run("finetune", "tuned", "--init-from", "vpn", *own[:4], *ucf, *BRIEF).code == 0
    shapes = {name: value.shape for name, value in state_of(tmp_path / "tuned" / "weights.pth").items()}
    assert shapes["0.weight"] == (6, 3, 3, 3, 3) and shapes["4.weight"] == (3, 6)
    refused = run("evaluate", "tuned")
    assert refused.code == 3 and told in refused.err
    assert run("evaluate", "tuned", *own[:4]).code == 0
    refused = run("evaluate", "vpn", "--retrieval", *ucf)
    assert refused.code == 3 and told in refused.err
    found = run("evaluate", "vpn", "--linear", "--clips", "1", "--num-workers", "0", *ucf, *own[:4])
    assert found.code == 0 and found.out.startswith("%        top-1"), found.err


MISFITS = """
from torch import nn

def large(num_classes):
    return nn.Sequential(nn.AvgPool3d((8, 40, 40)), nn.Flatten(), nn.Linear(3, num_classes))

def map(num_classes):
    return nn.Sequential(nn.Conv3d(3, num_classes, 1), nn.AdaptiveAvgPool3d(1))

class pair(nn.Linear):
    def __init__(self, num_classes):
        super().__init__(32, num_classes)

    def forward(self, x):
        return x, x
"""


@pytest.mark.parametrize(
    ("command", "model", "told"),
    [
        ("train", "misfits:large", "`--clip` (='8x32x32') is a shape of clips that misfits:large cannot take (RuntimeError: "),
        ("train", "misfits:map", "`--model` (='misfits:map') must give logits (1, 4) for a clip of 8x32x32, and gives (1, 4, 1, 1, 1)"),
        ("finetune", "misfits:pair", "and gives a tuple"),
    ],
)  # fmt: skip
def test_a_model_that_does_not_fit_is_named_before_anything_is_written(
    run: Run, tmp_path: Path, ucf: tuple[str | Path, ...], monkeypatch: pytest.MonkeyPatch, command: str, model: str,
    told: str,
) -> None:  # fmt: skip
    (tmp_path / "misfits.py").write_text(MISFITS)
    monkeypatch.setattr(sys, "path", [*sys.path])
    rest = NOISE[len(TINY) :] if command == "train" else (*ucf, *BRIEF)
    done = run(command, "out", *rest, "--clip", "8x32x32", "--model", model)
    assert done.code == 2 and told in done.err, done.err
    assert not (tmp_path / "out").exists()


# --- going on


def test_a_terminated_run_goes_on_with_the_same_command(run: Run, tmp_path: Path, initialized: Path) -> None:
    running = process("train", "vpn", *NOISE, cwd=tmp_path, env=environment())
    time.sleep(0.2)
    while not (tmp_path / "vpn" / "log.csv").exists() and running.poll() is None:
        time.sleep(0.01)
    running.send_signal(signal.SIGTERM)
    ended = end_of(running)
    assert ended.code in (0, 143), ended.err
    if ended.code:
        advice = ended.err.strip().partition("Terminated. Go on from the last checkpoint with: ")[2]
        started, words = shlex.split(advice)[:3], shlex.split(advice)[3:]
        assert started == [sys.executable, "-m", "vpngen"]
        again = run(*words)
        assert again.code == 0, again.err
    assert equal(state_of(tmp_path / "vpn" / "weights.pth"), state_of(initialized / "weights.pth"))


def test_a_run_goes_on_with_its_own_options(run: Run, tmp_path: Path, initialized: Path) -> None:
    shutil.copytree(initialized, tmp_path / "vpn")
    before = (tmp_path / "vpn" / "weights.pth").read_bytes()
    for epochs, given in ((2, ("--batch-size", "8")), (3, ("--epochs", "3", "--lr", "0.01")), (4, ("--epochs", "4"))):
        done = run("train", "vpn", *given)
        assert (done.code, done.out.split()[1]) == (0, str(epochs)), done.err
        assert done.err.startswith("vpn goes on with --model r3d10 --model-option width=0.125"), done.err
        assert ((tmp_path / "vpn" / "weights.pth").read_bytes() == before) == (epochs == 2)
        about = json.loads((tmp_path / "vpn" / "run.json").read_text())
        assert about["recipe"]["epochs"] == epochs and about["recipe"]["lr"] == (0.05 if epochs == 2 else 0.01)
    assert [(each["epochs"], each["lr"]) for each in about["commands"]] == [(2, 0.05), (3, 0.01), (4, 0.01)]
    assert about["commands"][-1]["command"].endswith("vpngen train vpn --epochs 4")
    kept = (tmp_path / "vpn" / "run.json").read_bytes()
    other = run("train", "vpn", "--data-seed", "5", "--epochs", "9")
    assert other.code == 3 and "train.set: " in other.err
    assert (tmp_path / "vpn" / "run.json").read_bytes() == kept


def test_a_run_that_fails_says_what_was_asked(run: Run, tmp_path: Path) -> None:
    done = run("train", "it's", *NOISE, "--lr", "1e30")
    assert done.code == 1 and "may be too high" in done.err
    command = done.err.partition("The command was: ")[2].partition("\n")[0]
    assert shlex.split(command)[-len(NOISE) - 4 :] == ["train", "it's", *NOISE, "--lr", "1e30"]


def test_ranks_share_a_run_and_speak_once(tmp_path: Path) -> None:
    """As torchrun starts them; tests/test_examples.py has it start some."""
    both = two_ranks("from vpngen.cli import main; main()", "train", "vpn", *NOISE, "--epochs", "1", cwd=tmp_path)
    assert [rank.code for rank in both] == [0, 0], both[0].err + both[1].err
    out, err = ("".join(said) for said in zip(*((rank.out, rank.err) for rank in both), strict=True))
    assert out.count("1 epoch, val loss") == 1 and err.count("epoch 1/1") == 1
    assert (
        state_of(tmp_path / "vpn" / "weights.pth").keys()
        == vpngen.create_model("r3d10", 4, width=0.125).state_dict().keys()
    )


# --- sets that are not as they should be


@pytest.fixture
def own(films: Path, tmp_path: Path) -> Path:
    """The films, to be damaged."""
    shutil.copytree(films, tmp_path / "own")
    return tmp_path / "own"


def test_broken_and_short_videos_are_told_and_counted(run: Run, tmp_path: Path, own: Path, initialized: Path) -> None:
    test = (own / "lists" / "testlist01.txt").read_text().splitlines()
    train = [line.split()[0] for line in (own / "lists" / "trainlist01.txt").read_text().splitlines()]
    (own / "ucf" / test[0]).write_bytes(b"no video")
    (own / "ucf" / test[1]).unlink()
    (own / "ucf" / train[0]).write_bytes(b"no video")
    brief = own / "ucf" / test[2]
    brief.unlink()
    writer = imageio_ffmpeg.write_frames(str(brief), (48, 48), fps=25, macro_block_size=1)
    writer.send(None)
    for _ in range(3):
        writer.send(np.full((48, 48, 3), 128, np.uint8))
    writer.close()
    data = set_of(own)
    done = run("finetune", "tuned", "--init-from", initialized, *data, *BRIEF)
    assert done.code == 0, done.err
    found = Evaluation.load(tmp_path / "tuned" / "evaluation.json")
    assert set(found.unreadable) == {Path(test[0]).stem, Path(test[1]).stem}
    assert found.short == (Path(test[2]).stem,)
    assert len(found.videos) == 6 and found.metrics["top1"] <= 4 / 6
    assert found.read is not None and found.read[0] == pytest.approx(found.metrics["top1"] * 6 / 4)
    failures = json.loads((tmp_path / "tuned" / "failures.json").read_text())
    assert Path(train[0]).stem in failures
    first, second = done.err.split("epoch 2/2")
    gone = f"videos that are not there: 1 of 6 to validate, 1 of 6 to test; the first is {own / 'ucf' / test[1]}"
    assert gone in first.split("epoch 1/2")[0]
    assert first.count("videos that could not be read, or not whole: 3; see tuned/failures.json") == 1
    assert "could not be read, or" not in second
    assert "videos read" in done.out and Path(test[0]).stem in done.out


@pytest.mark.parametrize(
    ("harm", "extra", "code", "what"),
    [
        (lambda own: (own / "lists" / "trainlist01.txt").unlink(), (), 3, "trainlist01.txt"),
        (lambda own: None, ("--splits", "3"), 3, "trainlist03.txt"),
        (lambda own: (own / "lists" / "testlist02.txt").unlink(), ("--splits", "1,2"), 3, "testlist02.txt"),
        (lambda own: (own / "ucf" / "Left").rename(own / "ucf" / "Sinister"), (), 3, "Sinister"),
        (lambda own: shutil.rmtree(own / "ucf"), (), 2, "`--root`"),
        (lambda own: None, ("--batch-size", "500"), 2, "`--batch-size` (=500) is more than the 12 clips of an epoch"),
        (lambda own: None, ("--val-fraction", "1.5"), 2, "`--val-fraction`"),
        (lambda own: None, ("--init-from", "none.pth"), 2, "none.pth"),
        (lambda own: None, ("--model", "r3d11"), 2, "`--model` (='r3d11')"),
        (lambda own: None, ("--model-option", "shortcut=C"), 2, "shortcut"),
        (lambda own: None, ("--freeze", "7"), 2, "`--freeze` (=7)"),
        (lambda own: None, ("--seeds", "-1"), 2, "`--seeds`"),
        (lambda own: None, ("--batch-size", "1"), 2, "`--batch-size` (=1) leaves each rank one clip"),
        (lambda own: None, ("--grad-accum-steps", "6"), 2, "`--grad-accum-steps` (=6) cuts the 6 clips of a batch into parts of one"),
        (lambda own: None, ("--model", "alexnet3d", "--clip", "8x63x63", "--grad-accum-steps", "6"), 2, "`--grad-accum-steps` (=6) cuts"),
        (lambda own: None, ("--lr-scales", "layer9=2"), 2, "`--lr-scales` names 'layer9'"),
        (lambda own: None, ("--lr-scales", "maxpool=2"), 2, "`--lr-scales` names 'maxpool', which is no layer of ResNet with weights"),
        (lambda own: None, ("--lr-scales", "=2"), 2, "`--lr-scales` names ''"),
        (lambda own: None, ("--lr-scales", "head=2,fc=3"), 2, "names a layer twice: head is fc, stem is conv1"),
        (lambda own: None, ("--model-option", "in_channels=1"), 2, "`in_channels` (=1) must be 3"),
        (lambda own: None, ("--num-workers", "-1"), 2, "'--num-workers'"),
        (lambda own: None, ("--device", "tpu"), 2, "`--device`"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_before_anything_is_written(
    run: Run, tmp_path: Path, own: Path, harm: Callable[[Path], object], extra: tuple[str, ...], code: int, what: str
) -> None:
    harm(own)
    data = set_of(own)
    done = run("finetune", "tuned", *TINY[:4], *data, *BRIEF, *extra)
    assert done.code == code and what in done.err and done.err.startswith(("Error: ", "Usage: ")), done.err
    assert not (tmp_path / "tuned").exists() or not any((tmp_path / "tuned").iterdir())


def test_weights_of_another_network_are_named(run: Run, initialized: Path, ucf: tuple[str | Path, ...]) -> None:
    done = run("finetune", "tuned", "--init-from", initialized, "--model", "r3d18", *ucf, *BRIEF)
    assert done.code == 3 and "r3d10" in done.err, done.err
    both = run("finetune", "tuned", "--init-from", initialized, "--inflate", initialized / "weights.pth", *ucf, *BRIEF)
    assert both.code == 2 and "leave one of them out" in both.err


def test_classes_of_other_videos_are_a_conflict(run: Run, own: Path, tuned: Path) -> None:
    shutil.rmtree(own / "ucf" / "Up")
    for path in (own / "lists").iterdir():
        path.write_text("".join(f"{line}\n" for line in path.read_text().splitlines() if "Up" not in line))
    done = run("evaluate", tuned, *set_of(own))
    assert done.code == 3 and "has 3 classes" in done.err and "only the weights have Up" in done.err, done.err


def test_a_folder_of_something_else_is_left_alone(run: Run, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("dear reader")
    done = run("train", "thesis", *NOISE)
    assert done.code == 3 and "holds other things than a run" in done.err
    assert [p.name for p in (tmp_path / "thesis").iterdir()] == ["chapter.tex"]


def test_what_a_system_puts_into_a_mount_point_is_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    runs._describe(tmp_path, {}, {}, False)
    assert (tmp_path / "run.json").exists()


def test_another_run_in_the_folder_is_left_alone(run: Run, tmp_path: Path, initialized: Path) -> None:
    shutil.copytree(initialized, tmp_path / "vpn")
    before = {p.name: p.read_bytes() for p in (tmp_path / "vpn").iterdir() if p.is_file()}
    done = run("train", "vpn", *NOISE, "--seed", "9")
    assert done.code == 3 and "seed: 0 there, 9 here" in done.err
    assert {p.name: p.read_bytes() for p in (tmp_path / "vpn").iterdir() if p.is_file()} == before


def test_other_videos_in_a_finished_folder_are_a_conflict(run: Run, tuned: Path, ucf: tuple[str | Path, ...]) -> None:
    """Nothing of a finished run may come to say that it saw what it did not."""
    before = {p.name: p.read_bytes() for p in tuned.iterdir() if p.is_file()}
    for changes, what in (
        (("--splits", "2"), "train.set: "), (("--val-fraction", "0.3"), "train.set: "),
        (("--model-option", "stem_stride=2"), "model.options: "),
    ):  # fmt: skip
        done = run("finetune", tuned, *TINY[:4], *ucf, *BRIEF, "--epochs", "1", *changes)
        assert done.code == 3 and what in done.err, done.err
    assert {p.name: p.read_bytes() for p in tuned.iterdir() if p.is_file()} == before


def test_a_plain_folder_is_evaluated_on_what_is_held_out_of_it(run: Run, films: Path, initialized: Path) -> None:
    data = ("--dataset", "folder", "--root", films / "ucf", "--val-fraction", "0.34")
    done = run("finetune", "tuned", "--init-from", initialized, *data, *BRIEF, "--epochs", "1", "--format", "json")
    assert done.code == 0, done.err
    count = done.json["metrics"]["videos"]
    assert 3 <= count < 18
    again = run("evaluate", "tuned", "--format", "json")
    assert again.code == 0 and again.json["metrics"] == done.json["metrics"]
    without = run("finetune", "other", "--init-from", initialized, *data[:4], *BRIEF)
    assert without.code == 3 and "`val_fraction`" in without.err, without.err


def test_what_is_held_out_as_the_test_is_the_same_for_all_seeds(films: Path) -> None:
    folder = DataConfig("folder", films / "ucf", val_fraction=0.34)
    first, *others = (folder.sets(seed) for seed in range(5))
    assert all(sets == first for sets in others)
    ucf = DataConfig("ucf101", films / "ucf", films / "lists", val_fraction=0.34)
    by_seed = [ucf.sets(seed) for seed in range(5)]
    assert len({held.videos for _, held, _ in by_seed}) > 1 and len({test.videos for *_, test in by_seed}) == 1


def test_a_run_knows_its_videos_from_anywhere(films: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(films)
    fields = DataConfig("ucf101", Path("ucf"), Path("lists")).to_dict()
    assert (fields["root"], fields["annotations"]) == (str(films / "ucf"), str(films / "lists"))


def test_a_finished_run_is_not_evaluated_again(
    run: Run, tmp_path: Path, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored = []
    monkeypatch.setattr(runs, "score", lambda *args, **more: scored.append(0) or score(*args, **more))
    data = set_of(own)
    command = ("finetune", "tuned", *TINY[:4], *data, *BRIEF, "--format", "json")
    first = run(*command, "--epochs", "1")
    again = run(*command, "--epochs", "1")
    assert again.code == 0 and again.json == first.json and len(scored) == 1
    assert run(*command, "--epochs", "2").code == 0 and len(scored) == 2  # other weights
    file = tmp_path / "tuned" / "evaluation.json"
    before = file.read_bytes()
    fields = json.loads(before)
    dropped = next(iter(fields["videos"]))
    del fields["videos"][dropped]
    file.write_text(json.dumps(fields))
    assert run(*command, "--epochs", "2").code == 0 and len(scored) == 3  # of fewer videos
    assert file.read_bytes() == before
    file.write_bytes(before[:100])
    assert run(*command, "--epochs", "2").code == 0 and len(scored) == 4  # cut short
    assert file.read_bytes() == before


def test_an_evaluation_on_videos_that_were_trained_on_says_so(run: Run, tuned: Path) -> None:
    done = run("evaluate", tuned, "--splits", "2")
    said = f"{tuned} was trained on split 1, and has seen many of the videos that split 2 tests"
    assert done.code == 0 and said in done.err


def test_mean_and_std_are_carried_on(run: Run, monkeypatch: pytest.MonkeyPatch, ucf: tuple[str | Path, ...]) -> None:
    how = [*NOISE, "--epochs", "1", "--samples-per-epoch", "8"]
    assert run("train", "one", *how, "--mean", "0.4,0.4,0.4", "--std", "0.2,0.25,0.3").code == 0
    assert run("finetune", "two", *ucf, *BRIEF, "--epochs", "1", "--init-from", "one").code == 0
    taken: list[Recipe] = []
    for name in ("initialize", "finetune"):
        monkeypatch.setattr(runs, name, lambda *args, **_: taken.append(args[3]) or sys.exit(0))
    assert run("train", "three", *how, "--init-from", "two").code == 0
    assert run("finetune", "three", *ucf, *BRIEF, "--init-from", "two").code == 0
    assert [(each.mean, each.std) for each in taken] == [((0.4, 0.4, 0.4), (0.2, 0.25, 0.3))] * 2


def test_the_same_weights_by_another_path_are_the_same_run(
    run: Run, ucf: tuple[str | Path, ...], initialized: Path
) -> None:
    assert run("finetune", "tuned", *ucf, *BRIEF, "--epochs", "1", "--init-from", initialized).code == 0
    roundabout = initialized / ".." / initialized.name / "weights.safetensors"
    assert run("finetune", "tuned", *ucf, *BRIEF, "--epochs", "1", "--init-from", roundabout).code == 0
    done = run("finetune", "tuned", *ucf, *BRIEF, "--epochs", "1", "--init-from", "tuned")
    assert done.code == 3 and "initialized from: " in done.err


def test_networks_of_one_split_and_seed_stand_side_by_side(run: Run, tuned: Path) -> None:
    shutil.copytree(tuned, "other")
    done = run("evaluate", "other", tuned, "-o", "both.json")
    assert done.code == 0 and done.out.count("top-1") == 2 and "was trained on" not in done.err
    assert set(json.loads(Path("both.json").read_text())) == {"other", str(tuned)}


def metadata_changed(weights: Path, path: Path, part: str = "recipe", **fields: Any) -> Path:
    """The same weights, which say of themselves that they were trained otherwise."""
    _, metadata = read_weights(weights)
    about = metadata["model"]
    model = vpngen.create_model(about["name"], about["num_classes"], **about["options"])
    load_weights(model, weights)
    save_weights(path, model, {**metadata, part: {**metadata[part], **fields}})
    return path


def test_networks_together_are_the_mean_of_their_scores(run: Run, films: Path, tuned: Path) -> None:
    weights = tuned / "weights.safetensors"
    alone, twice = (
        run("evaluate", tuned, "--format", "json"),
        run("evaluate", tuned, tuned, "--ensemble", "-o", "e.json"),
    )
    assert twice.code == 0 and twice.out.startswith("%  "), twice.err
    found = Evaluation.load("e.json")
    assert found.metrics == Evaluation.from_dict(alone.json).metrics and found.metadata["stage"] == "ensemble"
    assert [one["sha256"] for one in found.metadata["networks"]] == [alone.json["metadata"]["sha256"]] * 2
    other = metadata_changed(weights, Path("other.safetensors"), mean=[0.3] * 3, std=[0.9] * 3)
    assert run("evaluate", weights, other, "--ensemble", "-o", "e.json").code == 0
    mixed = Evaluation.load("e.json").videos
    every = [runs.evaluate(path, Runtime("cpu")).videos for path in (weights, other)]
    for name, video in mixed.items():
        wanted = np.mean([[dict(one[name].top)[c] for c, _ in video.top] for one in every], 0)
        np.testing.assert_allclose([share for _, share in video.top], wanted, atol=1e-6)
    long = metadata_changed(weights, Path("long.safetensors"), clip=[9, 32, 32])
    done = run("evaluate", weights, long, "--ensemble")
    assert done.code == 3 and "with a clip of (8, 32, 32)" in done.err and "give one `clip` for all" in done.err, (
        done.err
    )
    assert run("evaluate", weights, long, "--ensemble", "--clip", "8x32x32").code == 0
    second = metadata_changed(weights, Path("second.safetensors"), "source", split=2)
    with pytest.raises(
        ConflictError, match=r"weights.safetensors' and others were trained on different videos or splits"
    ):
        runs.evaluate([weights, second], Runtime("cpu"))
    both = run("evaluate", *[tuned] * 4, "--ensemble", "--splits", "1,2,1,2", "--format", "json")
    assert both.code == 0 and both.json["splits"] == [1, 2] and len(both.json["runs"]) == 2, both.err
    done = run("evaluate", *[tuned] * 3, "--ensemble", "--splits", "1,2,1")
    assert (
        done.code == 2 and "of each split and seed, and of split 2, seed 0 there is one; give more WEIGHTS" in done.err
    )
    done = run("evaluate", *[tuned] * 4, "--ensemble", "--splits", "1,2,1,2", "--results", "r.json")
    assert done.code == 2 and "are those of one network, and 2 are given" in done.err


# --- without fine-tuning


@pytest.fixture(scope="module")
def ordered(tmp_path_factory: pytest.TempPathFactory, films: Path) -> Path:
    """A run without labels, of one epoch on real videos; not to be changed."""
    home = tmp_path_factory.mktemp("ordered")
    called(
        home,
        "train",
        "order",
        "--task",
        "order",
        *TINY,
        *set_of(films),
        "--epochs",
        "1",
        "--batch-size",
        "6",
        "--num-workers",
        "0",
    )
    return home / "order"


def test_what_the_features_of_a_run_find(run: Run, ucf: tuple[str | Path, ...], ordered: Path, tuned: Path) -> None:
    how = ("--retrieval", "--clips", "2", "--num-workers", "0")
    two = run("evaluate", ordered, tuned / "weights.pth", *how, "--format", "json", "-o", "r.json")
    assert two.code == 0 and two.json == json.loads(Path("r.json").read_text()), two.err
    mine, theirs = two.json.values()
    assert list(two.json) == [str(ordered), str(tuned / "weights.pth")] and mine["metrics"] != theirs["metrics"]
    for each in (mine, theirs):
        assert each["metrics"].items() >= {"r20": 1, "clip_r50": 1, "videos": 6, "clips": 12, "gallery": 12}.items()
    assert mine["metadata"]["stage"] == "train" and mine["metadata"]["evaluated"] == {"retrieval": {"clips": 2}}
    trunk = vpngen.create_model("r3d10", 3, width=0.125)
    load_weights(trunk, ordered / "weights.safetensors", head="replace")
    rows = [cosines_by_hand(trunk.eval().features, subset, ucf) for subset in ("train", "val")]
    nearest = [np.argsort(-rows[0][0] @ row, kind="stable")[:5] for row in rows[1][0]]
    right = [label in rows[0][1][near] for near, label in zip(nearest, rows[1][1], strict=True)]
    assert mine["metrics"]["r5"] == np.mean(right)
    lists = run("evaluate", ordered, *how, "--splits", "1,2", *ucf)
    assert lists.code == 0 and "\nsplit 2, seed 0" in lists.out and "\nmean" in lists.out, lists.err
    assert "has seen many of the videos that split 2 tests" in lists.err


def cosines_by_hand(features: Any, subset: str, ucf: tuple[str | Path, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The direction of the mean feature of two clips of each video, and its class."""
    videos = read_videos("ucf101", ucf[3], ucf[5], subset=subset)
    loader = WindowLoader(videos, 99, clip=(8, 32, 32), clips=2)
    ((clips, _),) = loader
    with torch.no_grad():
        rows = features(clips / 127.5 - 1).numpy().reshape(-1, 2, 64).mean(1)
    return rows / np.linalg.norm(rows, axis=1)[:, None], np.array([video.label for video in videos.videos])


def test_a_linear_classifier_of_frozen_features(
    run: Run, ucf: tuple[str | Path, ...], ordered: Path, initialized: Path
) -> None:
    how = ("--linear", "--clips", "3", "--num-workers", "0", "--clip", "8x24x24")
    done = run("evaluate", ordered, *how, "--results", "scores.json", "-o", "e.json")
    assert done.code == 0 and done.out.startswith("%        top-1  top-3  average  of\nvideos"), done.err
    found = Evaluation.load("e.json")
    said = found.metadata["evaluated"]
    assert (
        said["clip"] == [8, 24, 24]
        and said["linear"]["clips"] == 3
        and said["linear"]["l2"] in (1, 0.1, 0.01, 0.001, 0.0001)
    )
    assert (
        found.windows[0] == 18
        and found.classes == CLASSES
        and len(json.loads(Path("scores.json").read_text())["results"]) == 6
    )
    rendered = run("evaluate", initialized, *how, *ucf, "--format", "json")
    assert rendered.code == 0 and rendered.json["metrics"]["videos"] == 6, rendered.err
    plain = ("--dataset", "folder", "--root", ucf[3], "--val-fraction", "0.34", "--format", "json")
    part = run("evaluate", initialized, "--retrieval", *how[1:], *plain)
    assert part.code == 0 and part.json["metrics"]["videos"] + part.json["metrics"]["gallery"] == 18, part.err


@pytest.mark.parametrize(
    ("extra", "code", "what"),
    [
        (("--retrieval", "--linear"), 2, "`--retrieval` cannot be given beside --linear"),
        (("--retrieval",), 2, "`--dataset` is missing, as {weights} does not say which videos to take: give --dataset KIND and --root"),
        (("--linear", "--dataset", "folder", "--root", "one"), 3, "has videos of 1 class, which leaves nothing to tell apart"),
        (("--clips", "3"), 2, "`--clips` (=3) is for --retrieval and --linear"),
        (("--linear", "--clips", "0"), 2, "'--clips'"),
        (("--linear", "--dataset", "folder", "--root", "two", "--frame-step", "0"), 2, "`--frame-step` (=0) must be"),
        (("--val-fraction", "0.3"), 2, "`--val-fraction` (=0.3) is of the videos of --dataset"),
        (("--ensemble", "--linear"), 2, "`--ensemble` is of scores, and --linear is of features"),
        (("--retrieval", "--segments", "2"), 2, "`--segments` (=2) are of networks that classify"),
        (("--retrieval", "--results", "r.json"), 2, "`--results` are scores of classes, and --retrieval gives none"),
        (("--linear", "--dataset", "folder", "--root", "two", "--clip", "8x0x8"), 2, "`--clip`"),
        ((), 2, "does not say which classes it has; give weights of `vpngen finetune`"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_features_is_said(
    run: Run, films: Path, initialized: Path, extra: tuple[str, ...], code: int, what: str
) -> None:
    for root, names in (("one", ("Left",)), ("two", ("Left", "Right"))):
        for subset, name in itertools.product(("train", "val"), names):
            Path(root, subset).mkdir(parents=True, exist_ok=True)
            Path(root, subset, name).symlink_to(films / "ucf" / name)
    done = run("evaluate", initialized, *extra)
    weights = initialized / "weights.safetensors"
    assert done.code == code and what.format(weights=weights) in done.err, done.err


def test_one_network_alone_and_weights_of_nothing_known(run: Run, ucf: tuple[str | Path, ...], tuned: Path) -> None:
    done = run("evaluate", tuned, "--ensemble")
    assert done.code == 2 and "`--ensemble` takes two networks or more; give more WEIGHTS" in done.err, done.err
    torch.save({"state_dict": {"a.weight": torch.zeros(2)}}, "odd.pth")
    done = run("evaluate", "odd.pth", "--linear", *ucf)
    assert done.code == 2 and "`WEIGHTS` (='odd.pth') holds weights of none of the networks here" in done.err, done.err


def test_a_set_without_val_gets_one_instance_in_sixteen_more(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """They are never trained on: the epoch is that of the instances that were asked for."""
    taken: list[Any] = []
    monkeypatch.setattr(runs, "_fit", lambda *args, **_: taken.append(args))
    recipe = Recipe(batch_size=4, clip=(8, 32, 32))
    for instances, more in ((1, 1), (31, 1), (32, 2), (48, 3)):
        spec = vpngen.perlin(categories=4, instances=instances, divisions=(1, 12), shape=(16, 48, 48))
        runs.initialize(spec, tmp_path, ModelInit("r3d10", {"width": 0.125}), recipe, Runtime("cpu"), threads=1)
        *_, (train, val), _, _, _, metadata, _, _ = taken.pop()
        made = metadata["source"]["spec"]
        assert (made["instances"], made["val_instances"]) == (instances, more)
        assert len(train) == instances and len(val) == more


def test_a_stored_set_trains_as_its_spec_does(run: Run, tmp_path: Path, initialized: Path) -> None:
    which = NOISE[NOISE.index("--categories") : NOISE.index("--epochs")]
    how = [*TINY, *NOISE[NOISE.index("--epochs") :]]
    assert run("render", "set.zarr", *which, "--codec", "zstd").code == 0
    assert run("train", "vpn", "--store", "set.zarr", *how).code == 0
    assert equal(state_of(tmp_path / "vpn" / "weights.pth"), state_of(initialized / "weights.pth"))
    beside = run("train", "other", "--store", "set.zarr", "--categories", "4", *how)
    assert beside.code == 2 and "cannot be given beside `--store`" in beside.err


def test_wide_clips_are_enlarged(run: Run, tmp_path: Path) -> None:
    """128 x 256 x 256 of videos of 240 x 240 x 240, as section 5.3 has it, in small."""
    noise = list(NOISE)
    noise[noise.index("--clip") + 1] = "8x64x64"
    assert run("train", "vpn", *noise, "--epochs", "1", "--samples-per-epoch", "8").code == 0
    assert read_weights(tmp_path / "vpn" / "weights.safetensors")[1]["recipe"]["clip"] == [8, 64, 64]
