"""Selectivity for orientation and direction, of filters whose answer is known and of networks in files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import Run
from PIL import Image
from torch import nn

import vpngen
from vpngen import ArgumentError
from vpngen.models import save_weights
from vpngen.models.selectivity import Selectivity, grating, selectivity, tuning


def filters() -> nn.Module:
    """Five filters of 7 x 15 x 15: two Gabors that follow a direction, one that knows orientation alone, a blob, and nothing."""
    t, y, x = (v.astype(float) - v.max() / 2 for v in np.indices((7, 15, 15)))
    window = np.exp(-(x**2 + y**2) / 18) * np.cos(np.pi * t / 8) ** 2
    kernels = [
        window * np.cos(2 * np.pi * (x / 7 - t / 4)),  # to the right
        window * np.cos(2 * np.pi * (-y / 7 - t / 4)),  # upwards: y grows downwards
        window * np.cos(2 * np.pi * x / 7),
        np.exp(-(x**2 + y**2) / 2),
        0 * window,
    ]
    made = nn.Sequential(nn.Conv3d(3, 5, (7, 15, 15), padding=(3, 7, 7), bias=False), nn.Flatten())
    with torch.no_grad():
        made[0].weight.copy_(torch.tensor(np.array(kernels))[:, None].expand(-1, 3, -1, -1, -1) / 3)
    return made


def test_filters_made_by_hand_are_as_selective_as_they_were_made() -> None:
    network = filters()
    (found,) = selectivity(network, spatial=(1 / 14, 1 / 7), temporal=(1 / 8, 1 / 4), clip=(16, 30, 30))
    assert found.layer == "0" and network.training
    assert (
        found.direction[:2].tolist() == [0, 90]
        and (found.spatial[:3] == 1 / 7).all()
        and (found.temporal[:2] == 1 / 4).all()
    )
    assert (found.dsi[:2] > 0.9).all() and (found.dsi[2:4] < 1e-3).all()
    assert (found.osi[:3] > 0.9).all() and found.osi[3] < 1e-3
    assert (found.vector_dsi[:2] > 0.5).all() and (found.vector_dsi[2:4] < 0.02).all() and found.vector_osi[3] < 0.02
    assert np.isnan([found.osi[4], found.dsi[4], found.vector_osi[4]]).all()
    told = found.to_dict()
    assert (told["units"], told["silent"], told["of_units"]["osi"][4]) == (5, 1, None) and told["dsi"][
        "above_half"
    ] == 0.5
    json.dumps(told, allow_nan=False)


def test_rectified_units_are_measured_alike() -> None:
    """A unit that answers steadily, as one that squares does, is as selective as what drives it."""

    class Squares(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.square()

    network = nn.Sequential(filters()[0], Squares(), nn.Flatten())
    (found,) = selectivity(network, ["1"], spatial=(1 / 7,), temporal=(1 / 4,), clip=(16, 30, 30))
    assert (found.dsi[:2] > 0.9).all() and found.osi[3] < 1e-3


def test_tuning_by_hand() -> None:
    responses = np.zeros((1, 8, 1, 2))
    responses[0, :, 0, 1] = [6, 0, 1, 0, 2, 0, 3, 0]
    found = tuning(responses, "x", (0.1,), (0.2, 0.3))
    assert (found.direction[0], found.spatial[0], found.temporal[0]) == (0, 0.1, 0.3)
    assert found.dsi[0] == pytest.approx(4 / 8) and found.osi[0] == pytest.approx((4 - 2) / (4 + 2))
    assert found.vector_dsi[0] == pytest.approx(abs(6 - 2 + 1j * (1 - 3)) / 12)
    assert found.vector_osi[0] == pytest.approx((6 + 2 - 1 - 3) / 12)


def test_a_grating_drifts_where_it_says() -> None:
    for direction, (dy, dx) in {0: (0, 2), 90: (-2, 0), 180: (0, -2), 270: (2, 0)}.items():
        shown = grating(direction, 1 / 8, 1 / 4, (3, 32, 32))  # 2 pixels a frame
        assert np.allclose(shown[1], np.roll(shown[0], (dy, dx), (0, 1)), atol=1e-5)


def test_networks_of_files_side_by_side(run: Run, tmp_path: Path) -> None:
    for name in ("a", "b"):
        torch.manual_seed(ord(name))
        network = vpngen.create_model("r3d10", 4, width=0.0625)
        about = {"model": {"name": "r3d10", "options": {"width": 0.0625}, "num_classes": 4}}
        save_weights(f"{name}.safetensors", network, about)
    small = ("--directions", "4", "--clip", "8x32x32", "--format", "json")
    told = run("figure", "selectivity", "a.safetensors", "b.safetensors", "--layers", "conv1,layer2", *small).json
    assert list(told["networks"]) == ["a", "b"] and [one["layer"] for one in told["networks"]["a"]] == [
        "conv1",
        "layer2",
    ]
    assert told["networks"]["a"] != told["networks"]["b"] and told["networks"]["a"][1]["units"] == 8
    with Image.open("selectivity.png") as drawn:
        assert drawn.size[1] > 500
    torch.manual_seed(ord("a"))
    (again,) = selectivity(vpngen.create_model("r3d10", 4, width=0.0625), ["layer2"], directions=4, clip=(8, 32, 32))
    assert isinstance(again, Selectivity) and again.to_dict() == told["networks"]["a"][1]
    for wrong, said in {
        ("--layers", "conv9"): "`--layers` (='conv9') is no layer", ("--layers", "fc"): "gives no volume", ("--directions", "6"): "multiple of 4",
    }.items():  # fmt: skip
        refused = run("figure", "selectivity", "a.safetensors", *small, *wrong)
        assert refused.code == 2 and said in refused.err
    with pytest.raises(ArgumentError, match="has no convolution"):
        selectivity(nn.Sequential(nn.Flatten()))
