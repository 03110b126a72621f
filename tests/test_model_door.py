"""The door of `models/`: a network of this file goes through all that is done with networks, by a line in the list."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import Run
from torch import Tensor, nn

from vpngen import checks
from vpngen.errors import ArgumentError, ConflictError
from vpngen.fields import field
from vpngen.models import (
    MODELS,
    create_model,
    freeze,
    inflate,
    load_weights,
    read_weights,
    replace_head,
    save_reference,
    save_weights,
)
from vpngen.models.base import Network, State, find_head, reference_arch
from vpngen.models.filters import first_kernel
from vpngen.models.weights import recognize


@dataclass(frozen=True)
class ToyOptions:
    channels: int = field(4, "Channels of the stem.")

    def __post_init__(self) -> None:
        checks.integer("channels", self.channels, 1, 64)


class Toy(Network):
    """A wide layer over images, a narrow one over videos, two stages, and a classifier that no rule would guess."""

    head = "top.classes"
    stem = "video"
    options = ToyOptions
    inflates = True

    def __init__(self, num_classes: int, options: ToyOptions, stages: int) -> None:
        super().__init__()
        n = options.channels
        self.image = nn.Conv3d(3, n, (1, 5, 5), padding=(0, 2, 2), bias=False)
        self.video = nn.Conv3d(3, n, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm3d(n)
        self.names = tuple("abc"[:stages])
        for name in self.names:
            self.add_module(name, nn.Sequential(nn.Conv3d(n, n, 1, bias=False), nn.BatchNorm3d(n)))
        self.top = nn.ModuleDict({"classes": nn.Linear(n, num_classes)})
        self.unused = nn.Linear(1, 1)

    def features(self, clips: Tensor) -> Tensor:
        x = self.norm(self.image(clips) + self.video(clips))
        for name in self.names:
            x = getattr(self, name)(x)
        return x.mean((2, 3, 4))

    def stages(self) -> tuple[str, ...]:
        return self.names

    def initialize_head(self, head: nn.Module) -> None:
        assert isinstance(head.bias, Tensor)
        nn.init.constant_(head.bias, 0.5)

    @classmethod
    def own_name(cls, name: str) -> str:
        return name.removeprefix("backbone.").replace("motion.", "video.").replace("pixels.", "video.")

    @classmethod
    def guess(cls, state: State, **arguments: Any) -> dict[str, Any] | None:
        channels = len(state["video.weight"])
        return {} if channels == 4 else {"channels": channels}


@pytest.fixture(autouse=True)
def listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one line."""
    monkeypatch.setitem(MODELS, "toy", (f"{__name__}:Toy", {"stages": 2}))


def toy(num_classes: int = 5, **options: Any) -> Toy:
    torch.manual_seed(0)
    model = create_model("toy", num_classes, **options)
    assert isinstance(model, Toy)
    return model


def clips() -> Tensor:
    return torch.rand(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0))


def test_it_is_made_by_name() -> None:
    model = toy(7, channels=6)
    assert model.features(clips()).shape == (2, 6) and model(clips()).shape == (2, 7)
    assert (model.top["classes"].bias == 0.5).all()
    assert float(toy(5, channels=64).video.weight.detach().std()) == pytest.approx((2 / (64 * 27)) ** 0.5, rel=0.05)
    assert reference_arch("toy") == "toy"
    with pytest.raises(ArgumentError, match="`width` is no option of toy; it has channels"):
        toy(width=0.5)
    with pytest.raises(ArgumentError, match=r"`channels` \(=0\)"):
        toy(channels=0)
    with pytest.raises(ArgumentError, match=r"must be one of .*, toy, or"):
        create_model("toys")


def test_its_stages_are_frozen_and_its_head_is_replaced() -> None:
    model = toy()
    freeze(model, 1)
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen == {n for n, _ in model.named_parameters() if n.split(".")[0] in ("image", "video", "norm", "a")}
    model.train()
    assert [module.training for module in (model.norm, model.a[1], model.b[1])] == [False, False, True]
    with pytest.raises(ArgumentError, match="is more than Toy has to freeze; it has 2: a, b"):
        freeze(model, 3)
    replace_head(model, 9)
    assert find_head(model)[0] == "top.classes" and model(clips()).shape == (2, 9)
    assert (find_head(model)[1].bias == 0.5).all()


@pytest.mark.parametrize("ours", [True, False])
def test_its_weights_go_to_disk_and_back(ours: bool, tmp_path: Path) -> None:
    model, path = toy(channels=6), tmp_path / "weights"
    about = {"model": {"name": "toy", "options": {"channels": 6}, "num_classes": 5}}
    if ours:
        save_weights(path, model, about)
    else:
        save_reference(path, model, reference_arch("toy"), 1, metadata=about)
    state, metadata = read_weights(path)
    assert recognize(state, metadata) == recognize(state, {}) == about["model"]
    assert recognize({"other": torch.zeros(1)}, {"arch": "toy"}) == {"name": "toy", "options": {}, "num_classes": None}
    assert first_kernel(state, metadata)[0] == first_kernel(state, {})[0] == "video.weight"
    other = toy(9, channels=6)
    load_weights(other, path, head="replace")
    assert torch.equal(other.a[0].weight, model.a[0].weight)
    with pytest.raises(ConflictError, match=r"for 5 classes, and this model for 9"):
        load_weights(other, path)
    with pytest.raises(
        ConflictError, match=r"of toy, as made by create_model\(name='toy', num_classes=5, channels=6\)"
    ):
        load_weights(create_model("r3d10", 5, width=0.125), path)


def test_weights_by_the_names_of_others(tmp_path: Path) -> None:
    model = toy()
    theirs = {"backbone." + n.replace("video.", "motion."): v for n, v in model.state_dict().items()}
    torch.save(theirs, tmp_path / "theirs.pth")
    state, metadata = read_weights(tmp_path / "theirs.pth")
    assert recognize(state, metadata) == {"name": "toy", "options": {}, "num_classes": 5}
    assert first_kernel(state, metadata)[0] == "backbone.motion.weight"
    other = toy()
    nn.init.zeros_(other.video.weight)
    load_weights(other, tmp_path / "theirs.pth")
    assert torch.equal(other.video.weight, model.video.weight)


def test_it_is_inflated() -> None:
    model = toy()
    shapes = {n.replace("video.", "pixels."): v for n, v in model.state_dict().items()}
    flat = {n: (v[:, :, 0] if v.ndim == 5 else v).clone() for n, v in shapes.items()}
    inflate(model, flat)
    assert torch.equal(model.video.weight[:, :, 1], flat["pixels.weight"] / 3)
    assert torch.equal(model.top["classes"].weight, flat["top.classes.weight"])
    with pytest.raises(ArgumentError, match=r"it would fit toy\. Time aside:"):
        inflate(toy(channels=6), flat)


def test_the_command_line_trains_it(run: Run) -> None:
    size = ("--shape", "4x16x16", "--divisions", "1,4", "--categories", "2", "--instances", "32", "--clip", "4x16x16")
    assert run("train", "out", "--model", "toy", *size, "--epochs", "1", "--freeze", "1").code == 0
    state, metadata = read_weights("out/weights.safetensors")
    assert metadata["model"] == {"name": "toy", "options": {}, "num_classes": 4} == recognize(state, {})
    torch.manual_seed(0)
    fresh = create_model("toy", 4)
    assert torch.equal(state["video.weight"], fresh.state_dict()["video.weight"])
    assert not torch.equal(state["b.0.weight"], fresh.state_dict()["b.0.weight"])
