"""What every task is: from clips to inputs and targets, from outputs to a loss and metrics."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from torch import Tensor, nn

from vpngen import rng
from vpngen.checks import Shape
from vpngen.errors import ArgumentError


@dataclass(frozen=True)
class Task(ABC):
    """What `vpngen.train.fit` trains a network to do: a frozen dataclass, whose fields are recorded in the checkpoint.

    Attributes:
        name: in files and messages.
        metrics: the names of what `score` gives. Of each there is a column `val_NAME` in log.csv; of the first also
            `train_NAME`.
        needs_numbers: whether `prepare` draws at random; the loader must then be made with `numbers=True`.
    """

    name: ClassVar[str]
    metrics: ClassVar[tuple[str, ...]]
    needs_numbers: ClassVar[bool] = False
    needs_labels: ClassVar[bool] = False
    """Whether it cannot do without labels."""
    defaults: ClassVar[Mapping[str, Any]] = {}
    """Fields of a recipe, and the `model`, where nothing else is asked for; those of its paper."""
    spans: ClassVar[tuple[str, ...]] = ("clip",)
    """Fields of it, and of the recipe, that decide how many frames of a video a sample takes, for messages."""
    loops: ClassVar[bool] = True
    """Whether a real video that is shorter than `shape` may be shown again from its beginning; else it is left out, and said."""

    least: ClassVar[int] = 1
    """How many videos there must be, to train on as to validate on."""

    def of(self, recipe: Any) -> Task:
        """The same, for clips as a recipe has them. Raises ArgumentError where it cannot learn from such."""
        return self

    def drawn_of(self, recipe: Any) -> Task:
        """As `of`, for pictures alone: what only training needs is not looked for."""
        return self.of(recipe)

    def labelled(self, factors: Sequence[int]) -> Task:
        """The same, for labels that are products of factors with so many values each: see `vpngen.generators.Factor`."""
        return self

    def outputs(self, classes: int) -> int:
        """How many numbers the head of the network gives, where the labels are so many classes."""
        return classes

    @property
    def clips(self) -> int:
        """How many clips go through the network for each sample."""
        return 1

    def shape(self, recipe: Any) -> Shape:
        """(t, y, x) of the clips that the loader must give, for a recipe whose network sees `recipe.clip`."""
        return recipe.clip  # type: ignore[no-any-return]

    def check_frames(self, recipe: Any, frames: int) -> None:
        """Raises ArgumentError, which names `spans`, where videos of so many frames are shorter than what `shape` and the recipe ask for."""
        part = self.shape(recipe)[0] // recipe.segments
        needed = ((part - 1) * recipe.frame_step + 1) * recipe.segments
        if needed <= frames:
            return
        more = {"frame_step": recipe.frame_step, "segments": recipe.segments}
        names = [*self.spans, *(name for name, value in more.items() if value > 1)]
        value = (vars(recipe) | vars(self))[names[0]]
        smaller = " or ".join(f"`{name}`" for name in names)
        taken = f"makes {self.name} take {needed} frames of each video, and they have {frames}"
        raise ArgumentError(f"{taken}; give a smaller {smaller}, or longer videos", names[0], value)

    def around(self, network: nn.Module, recipe: Any) -> nn.Module:
        """The module that is trained: `network`, which sees `recipe.clip`, with what the task puts around it. Only `network` is kept.

        Every weight of it that asks for gradients must play a part in the outputs.
        """
        return network

    def kept(self, module: nn.Module) -> Mapping[str, Any]:
        """What the weights of the run say of what was put `around` its network: JSON, fields of the task with other values."""
        return {}

    @abstractmethod
    def prepare(self, clips: Tensor, labels: Tensor | None, numbers: Tensor | None) -> tuple[Any, Any]:
        """Inputs and targets of some samples of a batch; it must not matter which others are with them.

        Args:
            clips: float32 (N, 3, T, H, W), normalised, on the device.
            labels: int64 (N,) on the device; None where the loader has none.
            numbers: int64 (N, 3) in host memory: the epoch of each sample and its number in that epoch, for `words`, and
                which video it is of; None unless `needs_numbers`.

        Returns:
            What goes through the module, and what `loss` and `score` get beside its outputs.
        """

    def shown(self, inputs: Any, targets: Any, k: int) -> list[tuple[str, Tensor]]:
        """Sample `k` of a batch that was prepared, for a picture: titles, and float32 clips (3, T, Y, X) in their place."""
        return [("", inputs[k])]

    @abstractmethod
    def loss(self, outputs: Any, targets: Any) -> Tensor:
        """The loss in float32, summed over the samples; `fit` divides by those of the whole batch. Outputs may be bfloat16."""

    @abstractmethod
    def score(self, outputs: Any, targets: Any) -> Tensor:
        """(len(metrics),): each metric, summed over the samples."""

    @abstractmethod
    def chance(self, outputs: Any) -> Mapping[str, float]:
        """What a guess gets: the mean `loss`, and each metric by its name."""

    @staticmethod
    def words(seed: int, numbers: Tensor, draw: int = 0) -> rng.Words:
        """Random words that belong to the samples: the same after a resume, on other ranks, in other batches.

        >>> import torch
        >>> from vpngen import rng
        >>> rng.choose(Task.words(0, torch.tensor([[0, 7], [1, 7]]))[:, 0], 2).tolist()  # 0 or 1 for each sample
        [0, 1]

        Args:
            seed: in [0, 2**64), a field of the task.
            numbers: as `prepare` gets them.
            draw: in [0, 2**16), tells apart what is drawn for one sample.

        Returns:
            uint32 (N, 4), uniform; `vpngen.rng.choose` makes integers of them.
        """
        epoch, sample = numbers.cpu().numpy().astype(np.uint64).T[:2]
        purpose = np.full_like(epoch, rng.purpose_word(rng.PURPOSE_TASK, draw))
        counter = np.stack([sample & np.uint64(0xFFFFFFFF), sample >> np.uint64(32), epoch, purpose], 1)
        return rng.philox4x32(counter, [seed & 0xFFFFFFFF, seed >> 32])

    def to_dict(self) -> dict[str, Any]:
        """The name and the fields."""
        return {"name": self.name, **dataclasses.asdict(self)}
