"""How to train, as the papers say it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from vpngen.checks import MAX_SIDE, Shape, flag, integer, known, number, one_of, shape, three
from vpngen.errors import ArgumentError
from vpngen.fields import field
from vpngen.sampling import AUGMENTATIONS, CONSENSUS, MOST_SEGMENTS, Augment, augmentation

OPTIMIZERS: Final = ("sgd", "adamw")
SCHEDULES: Final = ("plateau", "step", "cosine")
_INTEGERS: Final = {
    "batch_size": (1, 2**20), "epochs": (1, 10**6), "lr_patience": (1, 10**6), "warmup_epochs": (0, 10**6 - 1),
    "freeze": (0, 99), "frame_step": (1, MAX_SIDE), "segments": (1, MOST_SEGMENTS),
}  # fmt: skip
_NUMBERS: Final[tuple[tuple[str, Callable[[float], bool], str], ...]] = (
    ("lr", lambda v: 0 < v <= 1e38, "above 0, up to 1e38"),
    ("momentum", lambda v: 0 <= v < 1, "in [0, 1)"),
    ("weight_decay", lambda v: v >= 0, "of at least 0"),
    ("lr_factor", lambda v: 0 < v < 1, "in (0, 1)"),
    ("warmup_lr", lambda v: 0 <= v <= 1e38, "of at least 0, up to 1e38"),
)
Scales = tuple[tuple[str, float], ...]
"""Names of layers, each with a factor."""


def scales(given: Any) -> Scales:
    """The factors of layers, given as a mapping or as pairs. Raises ArgumentError."""
    try:
        pairs = list(given.items()) if isinstance(given, Mapping) else [(name, factor) for name, factor in given]
    except (TypeError, ValueError):
        raise ArgumentError(
            "must be factors by the names of layers, such as {'head': 10}", "lr_scales", given
        ) from None
    if not all(isinstance(name, str) for name, _ in pairs) or len(dict(pairs)) < len(pairs):
        raise ArgumentError("must name each layer once", "lr_scales", given)
    return tuple(
        (name, number("lr_scales", factor, lambda v: 0 < v <= 1e6, "above 0, up to 1e6")) for name, factor in pairs
    )


@dataclass(frozen=True)
class Recipe:
    """The optimizer, its learning rate over the epochs, and how clips are cut.

    The defaults are those of Kataoka et al., WACV 2022, section 4. Each field has its help, which
    `vpngen train --help` shows.

    The rate after n epochs, n a fraction within an epoch where the schedule says per step:

    - `plateau`: `lr`, times `lr_factor` whenever the validation loss did not improve for `lr_patience` epochs in a row. Epochs
      of warm-up do not count.
    - `step`: `lr`, times `lr_factor` for each of `lr_steps` that n has reached.
    - `cosine`: lr / 2 (1 + cos(pi n / epochs)), per step: Feichtenhofer et al., ICCV 2019, section 4.

    During `warmup_epochs` it rises in a line, per step, from `warmup_lr` to what the schedule has at their end: the same
    section, after Goyal et al., arXiv:1706.02677, section 2.2.

    Raises:
        ArgumentError: a value out of its range.
    """

    optimizer: str = field("sgd", "Optimizer: sgd, or adamw (Loshchilov and Hutter, ICLR 2019).", choices=OPTIMIZERS)
    lr: float = field(0.3, "Learning rate at the start, or at the end of the warm-up.")
    momentum: float = field(0.9, "Momentum of sgd; of adamw the first beta, the second is 0.999.")
    nesterov: bool = field(False, "Nesterov's momentum, of sgd.")
    weight_decay: float = field(1e-3, "Weight decay.")
    norm_decay: bool = field(True, "Whether it applies to the weights of normalization.")
    lr_scales: Scales = field(
        (),
        "Layers and what their learning rate is multiplied by; head is the classifier, of alexnet3d and c3d all that is fully connected.",
        metavar="NAME=X,...",
    )
    batch_size: int = field(128, "Clips of a step, over all ranks.")
    epochs: int = field(200, "Epochs at most.")
    schedule: str = field("plateau", "What becomes of the learning rate.", choices=SCHEDULES)
    lr_factor: float = field(0.1, "What plateau and step multiply the rate by; the papers leave it open.")
    lr_patience: int = field(
        10, "Epochs in a row without a better validation loss, after which plateau lowers the rate."
    )
    lr_steps: tuple[int, ...] = field((), "Epochs after which step lowers the rate.")
    warmup_epochs: int = field(0, "Epochs in which the rate rises to that of the schedule.")
    warmup_lr: float = field(0.0, "Learning rate at the start of the warm-up.")
    clip: Shape = field((16, 112, 112), "Frames, height and width of a clip.")
    frame_step: int = field(1, "Frames of the video from one frame of a clip to the next.")
    segments: int = field(
        1, "Clips of a video, one from each of so many equal parts of it, that are classified together."
    )
    consensus: str = field("mean", "What their logits come to.", choices=CONSENSUS)
    augment: str = field("x10", "How clips are cut.", choices=tuple(AUGMENTATIONS))
    freeze: int = field(0, "Stages whose weights stay as they are: 0 for none, k for the stem and the first k.")
    mean: tuple[float, float, float] = field((0.5, 0.5, 0.5), "Mean of red, green and blue in [0, 1].")
    std: tuple[float, float, float] = field((0.5, 0.5, 0.5), "Standard deviation of red, green and blue.")

    def __post_init__(self) -> None:
        one_of("optimizer", self.optimizer, OPTIMIZERS)
        one_of("schedule", self.schedule, SCHEDULES)
        checked: dict[str, Any] = {n: integer(n, getattr(self, n), *limits) for n, limits in _INTEGERS.items()}
        checked |= {name: number(name, getattr(self, name), good, allowed) for name, good, allowed in _NUMBERS}
        if flag("nesterov", self.nesterov) and (self.optimizer != "sgd" or not self.momentum):
            raise ArgumentError(f"needs optimizer='sgd' and a `momentum` (={self.momentum}) above 0", "nesterov")
        if self.warmup_epochs >= self.epochs:
            raise ArgumentError(f"must be fewer than `epochs` (={self.epochs})", "warmup_epochs", self.warmup_epochs)
        steps = self.lr_steps
        if not isinstance(steps, (tuple, list)) or bool(steps) != (self.schedule == "step"):
            raise ArgumentError("must be epochs with schedule='step', and () without it", "lr_steps", steps)
        one_of("consensus", self.consensus, CONSENSUS)
        flag("norm_decay", self.norm_decay)
        checked["lr_scales"] = scales(self.lr_scales)
        checked["lr_steps"] = tuple(sorted(integer("lr_steps", epoch, 1, 10**6) for epoch in steps))
        checked |= {"clip": shape("clip", self.clip), "mean": three("mean", self.mean), "std": three("std", self.std)}
        if not all(s > 0 for s in self.std):
            raise ArgumentError("must be above 0", "std", self.std)
        augmentation(self.augment)
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def rate(self, at: float) -> float | None:
        """The learning rate of a step that begins after `at` epochs; None where the plateau decides."""
        if at < self.warmup_epochs:
            end = self._scheduled(self.warmup_epochs)
            return self.warmup_lr + (end - self.warmup_lr) * at / self.warmup_epochs
        if self.schedule == "plateau" and at > self.warmup_epochs:
            return None
        return self._scheduled(at)

    def _scheduled(self, at: float) -> float:
        if self.schedule == "cosine":
            return self.lr * (math.cos(math.pi * at / self.epochs) + 1) / 2
        return self.lr * self.lr_factor ** sum(epoch <= at for epoch in self.lr_steps)

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON has them."""
        fields = {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}
        return {**fields, "lr_scales": dict(self.lr_scales)}

    def cut(self, name: str | None = None) -> Augment:
        """How clips are cut: as `augment`, or another augmentation by its `name`, says, at this step and in these segments."""
        augment = AUGMENTATIONS[name or self.augment]
        return dataclasses.replace(augment, step=self.frame_step, segments=self.segments)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Recipe:
        """The recipe of these fields. Raises ArgumentError for a field that there is not."""
        known("field", fields, [f.name for f in dataclasses.fields(cls)], "a recipe")
        return cls(**fields)


_T3D: Final = Recipe(lr=0.1, nesterov=True, weight_decay=1e-4, batch_size=64, clip=(32, 224, 224), frame_step=2)
RECIPES: Final[dict[str, Recipe]] = {
    "wacv2022": Recipe(),
    "cvpr2018": Recipe(lr=0.1, augment="multiscale"),
    "cvpr2018-finetune": Recipe(lr=0.001, weight_decay=1e-5, augment="multiscale", freeze=3),
    "i3d2017": Recipe(lr=0.1, weight_decay=1e-7, batch_size=64, epochs=30, clip=(64, 224, 224), augment="random"),
    "slowfast2019": Recipe(
        lr=0.1, nesterov=True, weight_decay=1e-4, norm_decay=False, batch_size=64, epochs=196, schedule="cosine", warmup_epochs=34,
        warmup_lr=0.01, clip=(32, 224, 224), frame_step=2, augment="jitter", mean=(0.45,) * 3, std=(0.225,) * 3,
    ),
    "videoorder2018": Recipe(
        lr=1e-4, lr_scales=(("head", 10.0),), weight_decay=5e-4, batch_size=64, clip=(8, 224, 224), augment="random",
    ),
    "t3d2017": _T3D,
    "t3d2017-transfer": dataclasses.replace(_T3D, batch_size=32, epochs=150, schedule="step", lr_steps=(30, 60, 90, 120), augment="random"),
}  # fmt: skip
"""`wacv2022`: Kataoka et al., section 4, for initialization and all that follows it. `cvpr2018`: Hara et al., section 3.3, from
scratch; `-finetune`: the same section and 4.3, conv5_x and the classifier alone. `i3d2017`: Carreira and Zisserman, CVPR 2017, section 2.5;
`slowfast2019`: Feichtenhofer et al., ICCV 2019, section 4, as PySlowFast has it;
`videoorder2018`: fine-tuning of Suzuki et al., ECCV Workshops 2018, section 3.2; `t3d2017`: Diba et al., arXiv:1711.08200, section 4.4, and `-transfer`. What
each leaves open is in docs/training.md."""
