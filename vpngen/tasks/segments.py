"""Name the class of a video by several clips of it: temporal segment networks, Wang et al., ECCV 2016."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from vpngen import checks
from vpngen.checks import Shape
from vpngen.errors import ArgumentError
from vpngen.sampling import CONSENSUS, MOST_SEGMENTS
from vpngen.tasks.base import Task
from vpngen.tasks.classify import Classify


@dataclass(frozen=True)
class Segments(Classify):
    """Classify by the consensus of the logits that one network gives for each of `segments` clips of a video.

    The clips lie one behind the other in the frames of what the loader gives, see `segments` of `vpngen.sampling.Augment`. The
    consensus is that before softmax (section 3.1): `mean`, as Diba et al., arXiv:1711.08200, section 4.6, have it with 5 segments;
    `max` of each class; or `weighted`, by weights that are learned, one for each segment, which begin as those of the mean.

    Raises:
        ArgumentError: a count or a consensus that is not allowed, or not as many `weights` as segments.
    """

    name: ClassVar[str] = "segments"
    segments: int = 3
    consensus: str = "mean"
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        checks.integer("segments", self.segments, 1, MOST_SEGMENTS)
        checks.one_of("consensus", self.consensus, CONSENSUS)
        weights = checks.numbers("weights", self.weights)
        if weights and (len(weights) != self.segments or self.consensus != "weighted"):
            raise ArgumentError(f"must be one for each of {self.segments} segments, weighted", "weights", weights)
        object.__setattr__(self, "weights", weights)

    def shape(self, recipe: Any) -> Shape:
        """(segments t, y, x) for a recipe whose network sees clips of (t, y, x)."""
        frames, height, width = recipe.clip
        return self.segments * frames, height, width

    @property
    def clips(self) -> int:
        """As many as segments."""
        return self.segments

    def around(self, network: nn.Module, recipe: Any = None) -> nn.Module:
        """The network, shared by all segments, and the consensus."""
        return Consensus(network, self)

    def kept(self, module: nn.Module) -> Mapping[str, Any]:
        """The weights that were learned."""
        learned = getattr(module, "weights", None)
        return {"weights": learned.tolist()} if isinstance(learned, Tensor) else {}


def classification(recipe: Any, learned: Sequence[float] = ()) -> Classify:
    """What a recipe learns, or has learned with these weights of its segments: to classify clips, or several of a video together."""
    if recipe.segments == 1:
        return Classify()
    return Segments(recipe.segments, recipe.consensus, tuple(learned) if recipe.consensus == "weighted" else ())


def task_of(recipe: Any, task: Task | None = None) -> Task:
    """What is learned by a recipe: `task`, or what the recipe says. Raises ArgumentError where the two do not go together."""
    if task is None or type(task) is Classify:
        return classification(recipe)
    if recipe.segments > 1 and not isinstance(task, Classify):
        raise ArgumentError(
            f"are of videos that are classified, and the task is {task.name}", "segments", recipe.segments
        )
    return task.of(recipe)


class Consensus(nn.Module):
    """(N, C, segments T, Y, X) to the logits (N, classes) that all segments come to."""

    def __init__(self, network: nn.Module, task: Segments) -> None:
        super().__init__()
        self.network, self.segments, self.consensus = network, task.segments, task.consensus
        if task.consensus == "weighted":
            self.weights = nn.Parameter(torch.tensor(task.weights or (1 / task.segments,) * task.segments))

    def forward(self, clips: Tensor) -> Tensor:
        """See the class. Raises ArgumentError for clips that the segments do not divide."""
        if clips.shape[2] % self.segments:
            problem = f"must have frames for each of the {self.segments} segments alike"
            raise ArgumentError(problem, "clip", tuple(clips.shape[2:]))
        apart = torch.unflatten(clips, 2, (self.segments, -1)).transpose(1, 2).flatten(0, 1)
        logits: Tensor = torch.unflatten(self.network(apart), 0, (-1, self.segments))
        if self.consensus == "max":
            return logits.amax(1)
        if self.consensus == "mean":
            return logits.mean(1)
        return torch.einsum("nkc,k->nc", logits, self.weights.to(logits.dtype))
