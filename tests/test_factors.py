"""One head for each factor of a label."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import Run
from torch import nn

import vpngen
from vpngen import ArgumentError
from vpngen.models import read_weights
from vpngen.tasks import Factors
from vpngen.train import RECIPES


def test_the_loss_is_the_sum_of_those_of_the_factors() -> None:
    torch.manual_seed(0)
    task = Factors((2, 3, 4))
    logits, labels = torch.randn(7, 9, requires_grad=True), torch.arange(7) * 3
    joint = task.around(nn.Identity())(logits)
    assert joint.shape == (7, 24) and torch.allclose(joint.exp().sum(1), torch.ones(7))
    each = np.unravel_index(labels.numpy(), (2, 3, 4))
    pairs = list(zip(logits.split((2, 3, 4), 1), map(torch.from_numpy, each), strict=True))
    apart = sum(nn.functional.cross_entropy(part, ids, reduction="sum") for part, ids in pairs)
    assert torch.allclose(task.loss(joint, labels), apart, rtol=1e-5)
    right = torch.stack([part.argmax(1) == ids for part, ids in pairs]).all(0)
    assert task.score(joint, labels)[0] == right.sum()
    assert task.chance(joint)["top1"] == 1 / 24


def test_heads_are_those_of_the_set(run: Run, tmp_path: Path) -> None:
    """Of 2 x 2 x 2 categories; the run says which, and goes on with its own."""
    small = shlex.split("--categories 4 --instances 4 --temporal 4,8 --shape 8x48x48 --divisions 1,6 --noise-terms 0")
    net = shlex.split("--model r3d10 --model-option width=0.0625 --clip 8x32x32 --batch-size 8 --device cpu")
    out = run("train", "out", *small, *net, "--heads", "factors", "--epochs", "1", "--format", "json")
    assert (out.code, out.json["chance"]["top1"]) == (0, 1 / 8)
    weights, metadata = read_weights(Path("out/weights.safetensors"))
    assert metadata["task"] == {"name": "factors", "sizes": [2, 2, 2]} and weights["fc.weight"].shape[0] == 6
    again = run("train", "out", *small, *net, "--heads", "factors", "--epochs", "2")
    assert again.code == 0 and Path("out/log.csv").read_text().count("\n") == 3
    assert run("train", "out", "--epochs", "2").code == 0  # with the options of the run
    assert run("train", "out", *small, *net, "--epochs", "2", "--heads", "category").code == 3
    wrong = run("train", "other", *small, *net, "--heads", "factors", "--task", "puzzle")
    assert wrong.code == 2 and "`--heads` (='factors') are of --task classify, and the task is puzzle" in wrong.err


def test_labels_without_factors_and_segments_are_refused() -> None:
    one = vpngen.Spec.make("fractal", categories=3, instances=2)
    with pytest.raises(ArgumentError, match="those of this set have one"):
        Factors().labelled([len(factor.values) for factor in one.generator.factors])
    with pytest.raises(ArgumentError, match="whose product is 12"):
        Factors((2, 3)).outputs(12)
    with pytest.raises(ArgumentError, match="segments"):
        Factors((2, 3)).of(dataclasses.replace(RECIPES["wacv2022"], segments=3))
