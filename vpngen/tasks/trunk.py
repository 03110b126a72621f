"""What tasks share that learn without labels: a network up to its features, and orders drawn for each sample."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from vpngen import rng
from vpngen.models.base import Network, find_head, within
from vpngen.tasks.base import Task

MOST_LEHMER = 12
"""The longest order of which a 32-bit word says which one it is: 12! is below 2**32."""


class Trunk(nn.Module):
    """A network up to its features: clips (N, C, T, Y, X) to (N, `features`).

    Of a `Network` they are those of `trunk`, of another network what its classifier takes. What serves classification alone plays no
    part, and does not learn.

    Args:
        network: it is kept as it is, but for what does not learn.
        clip: (t, y, x) of what it sees; (y, x) of one for images.

    Raises:
        ArgumentError: clips that the network cannot take, or no classifier is found.
    """

    def __init__(self, network: nn.Module, clip: tuple[int, ...]) -> None:
        super().__init__()
        self.network = network
        self._name, head = find_head(network)
        above = network.above if isinstance(network, Network) else ()
        for name, parameter in network.named_parameters():
            if any(within(name, layer) for layer in (self._name, *above)):
                parameter.requires_grad_(False)
        if isinstance(network, Network):
            network.check_clip(clip)
        mode, device = network.training, head.weight.device
        with torch.no_grad():
            self.features = int(self.eval()(torch.zeros(1, 3, *clip, device=device)).shape[1])
        self.train(mode)

    def forward(self, clips: Tensor) -> Tensor:
        """See the class."""
        if isinstance(self.network, Network):
            return self.network.trunk(clips)
        taken: list[Tensor] = []
        hook = self.network.get_submodule(self._name).register_forward_pre_hook(lambda _, given: taken.append(given[0]))
        try:
            self.network(clips)
        finally:
            hook.remove()
        return taken[0].flatten(1) if taken[0].ndim < 5 else taken[0].mean((2, 3, 4))


class Siamese(nn.Module):
    """Some clips of each sample through one trunk, what it gives side by side, and layers that decide.

    Args:
        trunk: shared by all clips.
        clips: of a sample.
        branch: features that are made of those of each clip, by a layer that all share.
        hidden: features within the layers that decide.
        outputs: what they decide among.
    """

    def __init__(self, trunk: Trunk, clips: int, branch: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.branch = layer(trunk.features, branch)
        self.fusion = nn.Sequential(*layer(clips * branch, hidden), nn.Linear(hidden, outputs))

    def forward(self, clips: Tensor) -> Tensor:
        """(N, clips, C, T, Y, X) to (N, outputs)."""
        each = self.branch(self.trunk(clips.flatten(0, 1)))
        outputs: Tensor = self.fusion(each.view(len(clips), -1))
        return outputs


def layer(inputs: int, outputs: int) -> nn.Sequential:
    """A linear layer, batch normalization and ReLU, as OPN (Lee et al., ICCV 2017) has them."""
    return nn.Sequential(nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU())


def words(seed: int, numbers: Tensor, count: int, draw: int = 0) -> npt.NDArray[np.uint32]:
    """`count` random words for each sample, uint32 (N, count), see `Task.words`; `draw` tells apart what they are for."""
    first = draw * 256  # draws of 4 words, for up to 1,024
    return np.concatenate([Task.words(seed, numbers, first + k) for k in range(-(-count // 4))], axis=1)[:, :count]


def orders(word: npt.NDArray[np.uint32], n: int, first: int = 0) -> npt.NDArray[np.int64]:
    """An order of `n` things for each word (N,): (N, n), all equally likely; `first` of them in alphabetical order are left out.

    The identity is the first. Raises ValueError for more than 12 things.
    """
    if n > MOST_LEHMER:
        raise ValueError(f"{n} things have more orders than a word tells apart")
    total = int(np.prod(np.arange(1, n + 1, dtype=np.int64)))
    return order_of(rng.choose(word, total - first) + first, n)


def shuffles(word: npt.NDArray[np.uint32], more: npt.NDArray[np.uint32]) -> npt.NDArray[np.int64]:
    """An order of n things for each row, all but the identity equally likely: (N, n).

    Args:
        word: (N,), which says the order of things that are few enough for `orders`.
        more: (N, n), of those that are not. What comes out as the identity, one in 13! or fewer, has its first two swapped.
    """
    n = more.shape[1]
    if n <= MOST_LEHMER:
        return orders(word, n, first=1)
    made = some(more, n)
    same = (made == np.arange(n)).all(1)
    made[same, :2] = made[same, 1::-1]
    return made


def order_of(number: npt.NDArray[np.int64], n: int) -> npt.NDArray[np.int64]:
    """The orders (N, n) of these numbers (N,) among all of `n` things, from 0, in alphabetical order."""
    digits = np.empty((len(number), n), np.int64)
    for place in range(n - 1, -1, -1):
        number, digits[:, place] = np.divmod(number, n - place)
    left = np.tile(np.arange(n), (len(number), 1))
    made = np.empty_like(digits)
    rows = np.arange(len(number))
    for place in range(n):
        at = digits[:, place]
        made[:, place] = left[rows, at]
        keep = np.arange(n - place) != at[:, None]
        left = left[keep].reshape(len(number), n - place - 1)
    return made


def some(word: npt.NDArray[np.uint32], n: int) -> npt.NDArray[np.int64]:
    """Different numbers below `n` for each row of words (N, k), in any order: (N, k). Raises ValueError where `n` is below k."""
    k = word.shape[1]
    if k > n:
        raise ValueError(f"{k} different numbers below {n}")
    pool = np.tile(np.arange(n), (len(word), 1))
    rows = np.arange(len(word))
    for place in range(k):
        at = place + rng.choose(word[:, place], n - place)
        pool[rows, place], pool[rows, at] = pool[rows, at], pool[rows, place].copy()
    return pool[:, :k]
