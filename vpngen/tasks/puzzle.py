"""In which order are the pieces of a video? Kim et al., AAAI 2019: space-time cubic puzzles."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from vpngen import checks, rng
from vpngen.checks import SEEDS, Shape
from vpngen.fields import field
from vpngen.tasks.base import Task
from vpngen.tasks.trunk import Siamese, Trunk, order_of, words

GRIDS: Final = ("space-time", "space", "time")
ROTATIONS: Final = ("joint", "head", "none")
PIECES: Final = 4
ORDERS: Final = math.factorial(PIECES)


@dataclass(frozen=True)
class Puzzle(Task):
    """Find the order in which four pieces of a video are shown, one of 24.

    The pieces lie in a grid of 2 x 2 cells at one time (`space`), or in four cells one after the other at one place (`time`);
    `space-time` draws either, which the network is not told, of a grid of four times two by two. A piece is as large as
    `Recipe.clip` says, and its cell larger by the gaps: without them, the edges of pieces alone would tell which are neighbours.

    Published are the grids, four towers of shared weights that meet late, and what keeps a network from an easy way: `replicate`,
    `jitter` and rotation, all of them on in the full method. The sizes of pieces, gaps and layers are open. So is the order of the
    draws: here each piece has a channel and a place of its own, and all of them are upside down or none is.

    Raises:
        ArgumentError: a value out of range.
    """

    name: ClassVar[str] = "puzzle"
    metrics: ClassVar[tuple[str, ...]] = ("accuracy",)
    needs_numbers: ClassVar[bool] = True
    spans: ClassVar[tuple[str, ...]] = ("clip", "gap_frames")
    loops: ClassVar[bool] = False
    defaults: ClassVar[Mapping[str, Any]] = {
        "model": "r3d18", "clip": (16, 80, 80), "augment": "random", "optimizer": "adamw", "lr": 5e-4, "weight_decay": 0.05,
        "batch_size": 64,
    }  # fmt: skip
    grid: str = field("space-time", "How the four pieces lie: 2 x 2 in space, 4 in time, or either.", choices=GRIDS)
    gap: int = field(32, "Pixels by which a cell is wider and higher than its piece.")
    gap_frames: int = field(4, "Frames by which a cell is longer than its piece.")
    jitter: bool = field(True, "Whether a piece lies anywhere in its cell, or in the middle.")
    replicate: bool = field(True, "Whether a piece shows one of its colours as all three.")
    rotation: str = field(
        "joint", "Whether pieces are upside down half of the time: the order and that as one class, as two, or never.", choices=ROTATIONS
    )  # fmt: skip
    piece: Shape = (16, 80, 80)
    seed: int = 0

    def __post_init__(self) -> None:
        checks.one_of("grid", self.grid, GRIDS)
        checks.one_of("rotation", self.rotation, ROTATIONS)
        for name in ("gap", "gap_frames"):
            checks.integer(name, getattr(self, name), 0, checks.MAX_SIDE)
        for name in ("jitter", "replicate"):
            checks.flag(name, getattr(self, name))
        object.__setattr__(self, "piece", checks.shape("clip", self.piece))
        checks.integer("seed", self.seed, 0, SEEDS)

    def of(self, recipe: Any) -> Puzzle:
        """With pieces as large as its clips."""
        return dataclasses.replace(self, piece=recipe.clip)

    @property
    def clips(self) -> int:
        """The pieces."""
        return PIECES

    @property
    def cells(self) -> tuple[int, int, int]:
        """Cells in time, height and width."""
        return 1 if self.grid == "space" else 4, *(2 * (1 if self.grid == "time" else 2,))

    @property
    def cell(self) -> Shape:
        """(t, y, x) of a cell."""
        t, y, x = self.piece
        return t + self.gap_frames, y + self.gap, x + self.gap

    def shape(self, recipe: Any) -> Shape:
        """(t, y, x) of the whole grid."""
        t, y, x = (count * size for count, size in zip(self.cells, self.of(recipe).cell, strict=True))
        return t, y, x

    def around(self, network: nn.Module, recipe: Any) -> nn.Module:
        """The trunk, 512 features of each piece, and 512 of all."""
        outputs = {"joint": 2 * ORDERS, "head": ORDERS + 2, "none": ORDERS}[self.rotation]
        return Siamese(Trunk(network, self.piece), PIECES, 512, 512, outputs)

    def drawn(self, numbers: Tensor) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """First voxels (t, y, x) of the pieces of each sample as they are shown, (N, 4, 3); which order that is (N,); upside down, 0 or 1."""
        n = len(numbers)
        number, time, place, either = words(self.seed, numbers, 4).T
        order = rng.choose(number, ORDERS)
        in_time = np.full(n, self.grid == "time") if self.grid != "space-time" else rng.choose(either, 2) == 1
        piece = order_of(order, PIECES)  # which piece stands where
        at_time, at_place = rng.choose(time, self.cells[0]), rng.choose(place, self.cells[1] * self.cells[2])
        k = np.where(in_time[:, None], piece, at_time[:, None])
        corner = np.where(in_time[:, None], at_place[:, None], piece)
        index = np.stack([k, corner // 2, corner % 2], 2)
        room = np.array([self.gap_frames, self.gap, self.gap])
        if self.jitter:
            free = words(self.seed, numbers, 3 * PIECES, draw=1).reshape(n, PIECES, 3)
            within = np.stack([rng.choose(free[:, :, axis], int(room[axis]) + 1) for axis in range(3)], 2)
        else:
            within = np.broadcast_to(room // 2, index.shape)
        turned = rng.choose(words(self.seed, numbers, 1, draw=2)[:, 0], 2) if self.rotation != "none" else order * 0
        return index * np.array(self.cell) + within, order, turned

    def prepare(self, clips: Tensor, labels: Tensor | None, numbers: Tensor | None) -> tuple[Tensor, Any]:
        """The pieces (N, 4, 3, t, y, x), and int64 (N, 2): which order, and whether upside down."""
        assert numbers is not None  # fit has asked for them
        begin, order, turned = self.drawn(numbers)
        t, y, x = self.piece
        channels = rng.choose(words(self.seed, numbers, PIECES, draw=3), 3)
        made = clips.new_empty((len(clips), PIECES, *clips.shape[1:2], t, y, x))
        for i, k in np.ndindex(begin.shape[:2]):
            t0, y0, x0 = begin[i, k].tolist()
            piece = clips[i, :, t0 : t0 + t, y0 : y0 + y, x0 : x0 + x]
            if self.replicate:
                piece = piece[int(channels[i, k])].expand_as(piece)
            made[i, k] = piece.flip(2, 3) if turned[i] else piece
        return made, torch.from_numpy(np.stack([order, turned], 1)).to(clips.device)

    def shown(self, inputs: Any, targets: Any, k: int) -> list[tuple[str, Tensor]]:
        """The pieces of a sample, with their numbers in the grid."""
        order = order_of(targets[k : k + 1, 0].cpu().numpy(), PIECES)[0]
        turned = ", upside down" if targets[k, 1] else ""
        return [(f"piece {piece + 1}{turned}", clip) for piece, clip in zip(order, inputs[k], strict=True)]

    def _wanted(self, targets: Tensor) -> Tensor:
        return targets[:, 0] + (ORDERS * targets[:, 1] if self.rotation == "joint" else 0)

    def loss(self, outputs: Any, targets: Any) -> Tensor:
        """The sum of the cross entropies; of both where there are two."""
        if self.rotation != "head":
            return nn.functional.cross_entropy(outputs.float(), self._wanted(targets), reduction="sum")
        parts = zip(outputs.float().split([ORDERS, 2], 1), targets.T, strict=True)
        total: Tensor = sum(nn.functional.cross_entropy(one, wanted, reduction="sum") for one, wanted in parts)  # type: ignore[assignment]
        return total

    def score(self, outputs: Any, targets: Any) -> Tensor:
        """How many orders are found; with `joint`, and whether they are upside down."""
        found: Tensor = outputs[:, :ORDERS].argmax(1) if self.rotation == "head" else outputs.argmax(1)
        return (found == (targets[:, 0] if self.rotation == "head" else self._wanted(targets))).sum()[None]

    def chance(self, outputs: Any) -> Mapping[str, float]:
        """One of all orders; with `joint`, of 48."""
        classes = ORDERS * (2 if self.rotation == "joint" else 1)
        return {"loss": math.log(classes * (2 if self.rotation == "head" else 1)), "accuracy": 1 / classes}
