"""What generators whose labels are motions owe the rooms above them: factors, flow, and clips that are not mirrored."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from scipy import stats
from test_generator_door import Toy

import vpngen
from vpngen import ArgumentError, Augment, Spec, Window, preview
from vpngen.generators import GENERATORS, Factor, Params, Shape, motion
from vpngen.rendering import clip_motion
from vpngen.tasks import Classify
from vpngen.train import RECIPES
from vpngen.train.runs import rendered

SHAPE: Shape = (20, 24, 40)


@dataclass(frozen=True)
class Sliding(Toy):
    """Stripes that go to the left or to the right: a category is a way and a width. What is seen of stripe 0 is a shape."""

    name: ClassVar[str] = "sliding"

    @property
    def factors(self) -> tuple[Factor, ...]:
        return Factor("way", ("left", "right")), Factor("width", self.widths, "pixels")

    @property
    def handed(self) -> bool:
        return True

    @property
    def n_categories(self) -> int:
        return 2 * len(self.widths)

    def category(self, category_id: int) -> tuple[Any, ...]:
        way, width = divmod(self.label(category_id), len(self.widths))
        return ("left", "right")[way], self.widths[width]

    def params(
        self, shape: Shape, keys: npt.NDArray[np.uint32], category_ids: npt.NDArray[np.int64], instances: Any
    ) -> Params:
        way, width = self.factor_ids(category_ids).T
        params = super().params(shape, keys, width, instances)
        params["speed"] *= 1 - 2 * way
        return params

    def motion(self, shape: Shape, params: Params, steps: npt.ArrayLike) -> npt.NDArray[np.float64]:
        found = np.zeros((len(params), 2, 3))
        found[:, 0, 2] = -params["speed"] * np.asarray(steps)
        return found

    @property
    def truth(self) -> tuple[str, ...]:
        return "motion", "shape", "hidden"

    def known(self, name: str, shape: Shape, params: np.void, t: Any, y: Any, x: Any, step: int) -> npt.NDArray[Any]:
        if name == "motion":
            return super().known(name, shape, params, t, y, x, step)
        shapes = np.broadcast_to((x // 8 - 1).astype(np.int32), (len(t), len(y), len(x)))
        return shapes if name == "shape" else shapes < 0


@pytest.fixture
def sliding(monkeypatch: pytest.MonkeyPatch) -> Spec:
    """A small set of it, while it is in the list."""
    monkeypatch.setitem(GENERATORS, "sliding", Sliding)
    return Spec.make("sliding", instances=5, val_instances=2, shape=SHAPE, speed=2, colours=5)


def follows(clip: npt.NDArray[Any], flow: npt.NDArray[Any]) -> bool:
    """Whether each pixel of a frame is found where its flow, of whole pixels, leads in the next one."""
    t, y, x = np.indices(clip.shape)
    there = np.stack([y + flow[..., 1], x + flow[..., 0]]).astype(int)
    inside = (t < len(clip) - 1) & (there >= 0).all(0) & (there[0] < clip.shape[1]) & (there[1] < clip.shape[2])
    after = clip[t[inside] + 1, there[0][inside], there[1][inside]]
    return bool(inside.any() and np.array_equal(after, clip[inside]))


@pytest.mark.parametrize("flip", [False, True])
def test_the_flow_of_a_window_leads_to_its_next_frame(sliding: Spec, flip: bool) -> None:
    window = Window(t=(2, 19, 3), y=(1, 9), x=(5, 37), flip=flip)
    both = vpngen.mixed(vpngen.perlin(2, 5, val_instances=2, shape=SHAPE, divisions=(1, 2), noise_terms=0), sliding)
    for index in range(6):
        flow, seen = vpngen.motion(sliding, index, window, seen=True)
        assert flow.shape == (6, 8, 32, 2) and flow.dtype == np.float32 and flow.flags.c_contiguous
        assert follows(vpngen.render(sliding, index, window, backend="reference"), flow)
        assert not follows(vpngen.render(sliding, index, window, backend="reference"), -flow)
        assert seen.shapes[0, 0].tolist() == [x // 8 - 1 for x in (range(36, 4, -1) if flip else range(5, 37))]
        assert np.array_equal(seen.hidden, seen.shapes < 0)
        assert np.array_equal(vpngen.motion(both, 4 + index, window), flow)
    with pytest.raises(ArgumentError, match=r"perlin.* has no motion that is known"):
        vpngen.motion(both, 0)


def test_a_generator_without_shapes_says_so(sliding: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sliding, "known", Toy.known)
    with pytest.raises(ArgumentError, match=r"sliding.* no shapes that hide each other"):
        vpngen.motion(sliding, 0, seen=True)


def batch(spec: Spec, **options: Any) -> Any:
    return next(iter(vpngen.ClipStream(spec, 30, clip=(4, 16, 20), device="cpu", channels=1, **options)))


def test_targets_are_labels_factors_or_motions(sliding: Spec) -> None:
    _, labels = batch(sliding)
    _, factors, parameters = batch(sliding, target="factors", parameters=True)
    assert factors.dtype == torch.int64 and torch.equal(factors[:, 0] * 3 + factors[:, 1], labels)
    assert all(
        sliding.category(c) == (("left", "right")[a], (1, 3, 5)[b])
        for c, (a, b) in zip(labels.tolist(), factors, strict=True)
    )
    assert len(set(labels.tolist())) == 6 and (parameters["window"][:, 4] == 0).all()
    for augment in ("x10", "multiscale", {"step": (1, 2)}, Augment(flip=1.0, scales=(1.0,), step=2)):
        clips, motions, known, flow, numbers = batch(
            sliding, target="motion", augment=augment, parameters=True, flow=True, numbers=True
        )
        step, flip = known["window"].T[[1, 4]]
        assert bool(flip.all()) == bool(flip.any()) == isinstance(augment, Augment)
        expected = (2 * factors[:, 0] - 1) * 2 * step * (1 - 2 * flip) * 20 / known["side"][:, 1]
        assert motions.dtype == torch.float32 and torch.allclose(motions[:, 0], expected.float())
        assert (motions[:, 1:] == 0).all() and flow.shape == (30, 4, 16, 20, 2) and numbers.shape == (30, 3)
        assert (
            torch.allclose(flow[..., 0], motions[:, 0, None, None, None].expand(30, 4, 16, 20))
            and not flow[..., 1].any()
        )
        if augment == {"step": (1, 2)}:
            assert all(follows(c[0].numpy(), f.numpy()) for c, f in zip(clips, flow, strict=True))
    noise = vpngen.perlin(4, 5, val_instances=2, shape=SHAPE, divisions=(1, 2), noise_terms=0)
    for wrong in ({"target": "motion"}, {"flow": True}):
        with pytest.raises(ArgumentError, match="no motion that is known"):
            batch(noise, **wrong)
        with pytest.raises(ArgumentError, match=r"perlin.* no motion that is known"):  # whichever part comes first
            batch(vpngen.mixed(sliding, noise), **wrong)
    with pytest.raises(ArgumentError, match=r"`target` .='depth'. must be one of label, factors, motion"):
        batch(noise, target="depth")
    assert [f.name for f in noise.generator.factors] == ["D", "W", "H"]
    values = [
        [f.values[i] for f, i in zip(noise.generator.factors, ids, strict=True)]
        for ids in noise.generator.factor_ids(np.arange(4))
    ]
    assert [(w, h, d) for d, w, h in values] == [noise.category(c) for c in range(4)]


def test_segments_have_flow_of_their_own(sliding: Spec) -> None:
    clips, flow = batch(sliding, augment=Augment(segments=2), flow=True)[::2]
    assert flow.shape == (30, 4, 16, 20, 2)
    for clip, one in zip(clips[:, 0].numpy(), flow.numpy(), strict=True):
        assert follows(clip[:2], one[:2]) and follows(clip[2:], one[2:])


def test_training_mirrors_no_clip_whose_label_would_be_wrong(sliding: Spec) -> None:
    recipe = RECIPES["wacv2022"]
    noise = vpngen.perlin(4, 5, val_instances=2, shape=SHAPE, divisions=(1, 2), noise_terms=0)
    both = vpngen.mixed(vpngen.perlin(2, 5, val_instances=2, shape=SHAPE, divisions=(1, 2), noise_terms=0), sliding)
    cuts = [rendered(spec, recipe, Classify()).flip for spec in (noise, sliding, both)]
    assert cuts == [0.5, 0.0, 0.0]


def test_the_motion_of_a_clip_is_that_of_its_middle() -> None:
    """By finite differences of where pixels of the video go, in pixels of a resized, mirrored clip."""
    rng = np.random.default_rng(0)
    video, windows = rng.normal(size=(5, 2, 3)), np.array([[0, 1, 3, 7, i % 2] for i in range(5)], np.int32)
    sides, (height, width) = np.array([[24, 36]] * 5), (12, 9)
    found = clip_motion(video, windows, sides, (height, width))

    def there(n: int, x: float, y: float) -> npt.NDArray[np.float64]:
        """Where a point of the clip, from its middle, goes."""
        sx, sy, way = 36 / width, 24 / height, -1 if n % 2 else 1
        at = np.array([7 + 35 / 2 + way * x * sx, 3 + 23 / 2 + y * sy, 1])
        moved = video[n] @ at
        return np.array([way * moved[0] / sx, moved[1] / sy])

    for n in range(5):
        u = there(n, 0, 0)
        dx, dy = there(n, 1, 0) - u, there(n, 0, 1) - u
        assert np.allclose(found[n], [*u, dx[0], dy[0], dx[1], dy[1]], atol=1e-5)


class Kinds(motion.Affine):
    """Its kinds of motion alone."""


Kinds.__abstractmethods__ = frozenset()


@pytest.mark.parametrize("kind", range(16))
def test_kinds_of_motion_do_what_they_are_called(kind: int) -> None:
    """Their speed at the radius, and where they take what is to the right of the middle and below it."""
    name = motion.OWN_KINDS[kind - 8] if kind >= 8 else f"translate {45 * kind}"
    moves = Kinds((3.0,), radius=42.0).drawn_motions(np.array([kind]), np.array([3.0]), np.array([0.5]))
    field = moves.about(np.array([[100, 50]]), 1)[0]
    right, below, middle = (field @ np.array([*at, 1]) for at in ((142, 50), (100, 92), (100, 50)))
    if kind < 8:
        angle = np.deg2rad(45 * kind)
        assert np.allclose([right, below, middle], 3 * np.array([np.cos(angle), -np.sin(angle)]), atol=1e-5)
        return
    assert np.allclose(middle, 0, atol=1e-4)
    ways = {
        "rotate left": ((0, -3), (3, 0)), "rotate right": ((0, 3), (-3, 0)),
        "zoom in": ((3, 0), (0, 3)), "zoom out": ((-3, 0), (0, -3)),
        "shear right": ((0, 0), (4.243, 0)), "shear left": ((0, 0), (-4.243, 0)),
        "shear down": ((0, 4.243), (0, 0)), "shear up": ((0, -4.243), (0, 0)),
    }  # fmt: skip
    assert np.allclose([right, below], ways[name], atol=0.12)
    back = moves.about(np.array([[100, 50]]), -1)[0]
    there = np.array([142, 50]) + right
    assert np.allclose(back @ [*there, 1], -right, atol=1e-3)
    seven = np.eye(2) + moves.about([[100, 50]], 7)[0][:, :2]
    assert np.allclose(seven, np.linalg.matrix_power(np.eye(2) + field[:, :2], 7), atol=1e-4)


def test_speeds_are_drawn_on_both_sides_alike() -> None:
    u = (np.arange(100_000) + 0.5) / 100_000
    drawn = motion.around(3.0, 1.5, u)
    assert drawn.min() == pytest.approx(2, rel=1e-4) and drawn.max() == pytest.approx(4.5, rel=1e-4)
    assert np.median(drawn) == pytest.approx(3, rel=1e-4)
    assert stats.kstest(3 / drawn[drawn < 3], drawn[drawn >= 3] / 3).pvalue > 0.99  # as far below as above
    assert (motion.around(3.0, 1.0, u) == 3).all()


def apart(one: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8]) -> float:
    return float(np.abs(one.astype(int) - other).mean())


def test_pictures_show_where_frames_go(sliding: Spec, tmp_path: Path) -> None:
    """Arrows to the left are the mirror image of those to the right, and point where the motion goes: heads are wider than shafts."""
    source = functools.partial(vpngen.render, sliding, backend="reference")
    mosaic = preview.mosaic(sliding, source, still=True)
    plain = preview.mosaic(vpngen.perlin(4, 8, shape=SHAPE, divisions=(1, 2), noise_terms=0), source, still=True)
    assert mosaic.shape[2] > plain.shape[2]
    left, right = (
        preview._arrows(sliding.generator.motion(SHAPE, sliding.params([i]), 1)[0], 24, 40, 64) for i in (0, 3)
    )
    assert apart(left, right[:, ::-1]) < apart(left, right) / 2
    column = (right[:16, :16] < 200).sum(0)
    assert column[:8].max() < column[8:].max()  # of one arrow: the head lies to the right
    assert (preview._arrows(None, 24, 40, 64) == preview.PAPER).all()
    assert (preview._arrows(np.zeros((2, 3)), 24, 40, 64) < 200).any()  # dots
    preview.preview(tmp_path / "strips.png", sliding, source, [0, 3])
    with Image.open(tmp_path / "strips.png") as strips:
        assert strips.size[0] > 9 * 40  # eight frames and the arrows
    turning = np.array([[0, 0.1, -1.15], [-0.1, 0, 1.95]])  # about the middle of the frame
    drawn = preview._arrows(turning, 24, 40, 64)
    assert apart(drawn, np.rot90(drawn, 2)) < apart(drawn, drawn[:, ::-1]) / 2
