"""How to train, as the papers say it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from vpngen.errors import ArgumentError
from vpngen.generators import Shape
from vpngen.sampling import augmentation


@dataclass(frozen=True)
class Recipe:
    """Stochastic gradient descent on the cross entropy, and how clips are cut.

    The defaults are those of Kataoka et al., WACV 2022, section 4.

    Attributes:
        lr: the learning rate at the start.
        momentum: in [0, 1).
        weight_decay: at least 0.
        nesterov: whether the momentum is Nesterov's.
        batch: clips of a step, over all ranks and all parts of an accumulated batch.
        epochs: how many at most.
        patience: epochs in a row that do not improve the validation loss, after which the rate is lowered.
        factor: what it is multiplied by then; the papers leave it open, 3D-ResNets-PyTorch divides by ten.
        clip: (t, y, x) of a clip.
        augment: a name of `vpngen.sampling.AUGMENTATIONS`.
        freeze: stages whose weights stay as they are: 0 for none, k for the stem and the stages up to the k-th.
        mean: of red, green and blue in [0, 1].
        std: likewise.

    Raises:
        ArgumentError: a value out of its range.
    """

    lr: float = 0.3
    momentum: float = 0.9
    weight_decay: float = 1e-3
    nesterov: bool = False
    batch: int = 128
    epochs: int = 200
    patience: int = 10
    factor: float = 0.1
    clip: Shape = (16, 112, 112)
    augment: str = "x10"
    freeze: int = 0
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    def __post_init__(self) -> None:
        for name, low, high in (("batch", 1, 2**20), ("epochs", 1, 10**6), ("patience", 1, 10**6), ("freeze", 0, 99)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise ArgumentError(f"must be an integer from {low} to {high}", name, value)
        for name in ("lr", "momentum", "weight_decay", "factor"):
            if isinstance(getattr(self, name), bool) or not isinstance(getattr(self, name), (int, float)):
                raise ArgumentError("must be a number", name, getattr(self, name))
        for name, what, good in (
            ("lr", "above 0, up to 1e38", 0 < self.lr <= 1e38),
            ("momentum", "in [0, 1)", 0 <= self.momentum < 1),
            ("weight_decay", "at least 0", self.weight_decay >= 0),
            ("factor", "in (0, 1)", 0 < self.factor < 1),
        ):
            if not good or not math.isfinite(getattr(self, name)):
                raise ArgumentError(f"must be a number {what}", name, getattr(self, name))
        if self.nesterov and not self.momentum:
            raise ArgumentError(f"needs a `momentum` (={self.momentum}) above 0", "nesterov")
        if (
            isinstance(self.clip, str)
            or len(self.clip) != 3
            or not all(isinstance(n, int) and n > 0 for n in self.clip)
        ):
            raise ArgumentError("must be (frames, height, width)", "clip", self.clip)
        object.__setattr__(self, "clip", tuple(self.clip))
        object.__setattr__(self, "mean", tuple(self.mean))
        object.__setattr__(self, "std", tuple(self.std))
        if len(self.mean) != 3 or len(self.std) != 3 or not all(math.isfinite(m) for m in self.mean):
            raise ArgumentError(f"and `std` (={self.std!r}) must be three numbers each", "mean", self.mean)
        if not all(math.isfinite(s) and s > 0 for s in self.std):
            raise ArgumentError("must be above 0", "std", self.std)
        augmentation(self.augment)

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON has them."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Recipe:
        """The recipe of these fields. Raises ArgumentError for a field that there is not."""
        known = {f.name for f in dataclasses.fields(cls)}
        if unknown := sorted(set(fields) - known):
            raise ArgumentError(f"a recipe has no field `{unknown[0]}`; it has {', '.join(sorted(known))}")
        return cls(**fields)


RECIPES: Final[dict[str, Recipe]] = {
    "wacv2022": Recipe(),
    "cvpr2018": Recipe(lr=0.1, augment="multiscale"),
    "cvpr2018-finetune": Recipe(lr=0.001, weight_decay=1e-5, augment="multiscale", freeze=3),
}
"""`wacv2022`: Kataoka et al., section 4, for initialization and all that follows it. `cvpr2018`: Hara et al., section 3.3, from
scratch; `-finetune`: the same section and 4.3, conv5_x and the classifier alone."""
