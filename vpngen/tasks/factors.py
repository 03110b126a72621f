"""Name the category of a clip by one head for each of its factors, such as direction, speed and frequency."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from vpngen import checks
from vpngen.errors import ArgumentError
from vpngen.tasks.base import Task
from vpngen.tasks.classify import Classify


@dataclass(frozen=True)
class Factors(Classify):
    """Classify by a softmax for each factor of the label; the probability of a category is the product of those of its values.

    The loss is then the sum of the cross entropies of all factors, and top-1 counts the clips whose factors are all right. A
    factor is learned from the clips of all values of the others, and the head has their sum of outputs in place of their product.

    Attributes:
        sizes: how many values each factor has, the first one varying slowest from label to label; empty until the set says.

    Raises:
        ArgumentError: a count below 1, or labels that are not of factors.
    """

    name: ClassVar[str] = "factors"
    sizes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "sizes", checks.integers("sizes", self.sizes, 1, 2**31))

    def of(self, recipe: Any) -> Task:
        """The same. Raises ArgumentError where a recipe takes several segments of a video."""
        if recipe.segments > 1:
            raise ArgumentError(
                "are of clips that have one head, and these have one for each factor", "segments", recipe.segments
            )
        return self

    def labelled(self, factors: Sequence[int]) -> Task:
        """With a head for each. Raises ArgumentError where there is one factor alone."""
        if len(factors) < 2:
            raise ArgumentError(
                "are of labels with several factors, and those of this set have one", "heads", "factors"
            )
        return dataclasses.replace(self, sizes=tuple(factors))

    def outputs(self, classes: int) -> int:
        """The sum of the sizes. Raises ArgumentError where their product is not that of the classes."""
        if math.prod(self.sizes) != classes or not self.sizes:
            raise ArgumentError(f"must be sizes of factors whose product is {classes}", "sizes", self.sizes)
        return sum(self.sizes)

    def around(self, network: nn.Module, recipe: Any = None) -> nn.Module:
        """The network, and the product of its heads."""
        return Heads(network, self.sizes)


class Heads(nn.Module):
    """Clips to the logarithm of the probability of each category, (N, classes)."""

    def __init__(self, network: nn.Module, sizes: Sequence[int]) -> None:
        super().__init__()
        self.network, self.sizes = network, tuple(sizes)

    def forward(self, clips: Tensor) -> Tensor:
        """See the class."""
        first, *others = (part.float().log_softmax(1) for part in self.network(clips).split(self.sizes, dim=1))
        for part in others:
            first = (first[:, :, None] + part[:, None]).flatten(1)
        logarithms: Tensor = first
        return logarithms
