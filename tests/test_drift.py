"""Drift: what its labels say is what its pixels do. That all backends give the same bytes is in test_backends.py."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import vpngen
from vpngen import ArgumentError, Spec, Window
from vpngen.generators import Drift, drift

SHAPE = (60, 112, 112)
SPEC = vpngen.drift(instances=3, shape=SHAPE, change=(0, 0))
KINDS = SPEC.generator.factors[0].values
F64 = npt.NDArray[np.float64]


def video(index: int, t: tuple[int, int] = (20, 22), spec: Spec = SPEC) -> F64:
    frames: npt.NDArray[np.uint8] = vpngen.render(spec, index, Window(t), threads=1)
    return frames.astype(np.float64)


def flow(index: int, window: Window) -> npt.NDArray[np.float32]:
    found = vpngen.motion(SPEC, index, window)
    assert isinstance(found, np.ndarray)
    return found


def warped(frame: F64, motion: npt.NDArray[np.float32]) -> tuple[F64, npt.NDArray[np.bool]]:
    """What the flow finds in the next frame, between pixels by lines; and which pixels are still within it."""
    height, width = frame.shape
    x, y = np.arange(width) + motion[..., 0], np.arange(height)[:, None] + motion[..., 1]
    inside = (x >= 0) & (x < width - 1) & (y >= 0) & (y < height - 1)
    i, j = np.where(inside, x, 0).astype(int), np.where(inside, y, 0).astype(int)
    fx, fy = x - i, y - j
    above, below = frame[j, i] * (1 - fx) + frame[j, i + 1] * fx, frame[j + 1, i] * (1 - fx) + frame[j + 1, i + 1] * fx
    return above * (1 - fy) + below * fy, inside


@pytest.mark.parametrize("kind", range(16), ids=KINDS)
def test_a_frame_warped_by_the_flow_is_the_next_one(kind: int) -> None:
    """Up to grey levels that are whole, and the layers' own coming and going where there are two."""
    index = 4 * kind + 2  # fast, with large cells
    now, following = video(index)
    found, inside = warped(following, flow(index, Window((20, 21)))[0])
    error, still = np.abs(found - now)[inside].mean(), np.abs(following - now)[inside].mean()
    life = SPEC.params([index])["life"][0]
    own = np.sqrt(2 - 2 * np.cos(np.pi / life)) * SPEC.parameters([index])["contrast"].values[0] if life else 0
    assert bool(life) == KINDS[kind].startswith(("zoom", "shear"))
    assert error < 0.5 + own < still + 0.5


@pytest.mark.parametrize("index", [1, 5 + 64, 9, 13, 17 + 64, 21, 25, 29])
def test_phase_correlation_finds_the_velocity(index: int) -> None:
    """Of the label, by a way that knows nothing of the formula; in steps of 4 frames, to half a pixel."""
    frames = vpngen.render(SPEC, index, Window((5, 54, 4)), threads=1).astype(np.float64)
    spectra = np.fft.fft2((frames - frames.mean()) * np.hanning(112) * np.hanning(112)[:, None])
    cross = (spectra[1:] * spectra[:-1].conj()).sum(axis=0)
    peak = np.fft.ifft2(cross / (np.abs(cross) + 1e-9)).real
    dy, dx = ((np.array(np.unravel_index(peak.argmax(), peak.shape)) + 56) % 112 - 56) / 4
    velocity = SPEC.parameters([index])["velocity"].values[0]
    assert np.hypot(*(velocity - (dx, dy))) < 0.3
    turned = (np.degrees(np.arctan2(-dy, dx)) - float(SPEC.category(index % 64)[0].split()[1]) + 180) % 360 - 180
    speed = SPEC.category(index % 64)[1]
    assert abs(turned) < 45 * 0.35 + 10 and speed / 1.58 - 0.2 < np.hypot(dx, dy) < speed * 1.58 + 0.2


@pytest.mark.parametrize("kind", range(8, 16), ids=KINDS[8:])
def test_the_speed_is_that_at_the_radius(kind: int) -> None:
    """Rotation and zoom have it all around, shear in the root of the mean square; and each goes its way."""
    index, generator = 4 * kind, SPEC.generator
    assert isinstance(generator, Drift)
    ((m,), centre) = generator.motion(SHAPE, SPEC.params([index]), 1), SPEC.params([index])["centre"][0]
    around = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    offset = generator.radius * np.stack([np.cos(around), -np.sin(around)])  # counter-clockwise, y downwards
    moved = m[:, :2] @ (offset + centre[:, None]) + m[:, 2:]
    speed = np.sqrt((moved**2).sum(axis=0))
    drawn = np.sqrt((speed**2).mean())
    low, high = generator.speeds[0] / 1.58, generator.speeds[0] * 1.58
    assert low * 0.9 < drawn < high * 1.1 and np.allclose(m[:, :2] @ centre + m[:, 2], 0)
    outward = (moved * offset).sum(axis=0) / generator.radius
    left = (moved * np.stack([-np.sin(around), -np.cos(around)])).sum(axis=0)
    along = {"rotate left": left, "rotate right": -left, "zoom in": outward, "zoom out": -outward}.get(KINDS[kind])
    if along is not None:
        assert np.allclose(along, drawn, rtol=0.15)
    else:
        sign, axis, of = {"right": (1, 0, 1), "left": (-1, 0, 1), "down": (1, 1, 0), "up": (-1, 1, 0)}[
            KINDS[kind].split()[1]
        ]
        assert np.allclose(moved[axis], sign * moved[axis].max() * offset[of] / generator.radius)
        assert np.allclose(moved[1 - axis], 0, atol=1e-9)


def test_a_mirrored_window_mirrors_the_picture_and_the_flow() -> None:
    window = Window((3, 8, 2), (10, 60), (20, 110))
    mirrored = dataclasses.replace(window, flip=True)
    for index in (33, 54):
        plain, turned = (flow(index, w) for w in (window, mirrored))
        assert np.array_equal(turned, plain[:, :, ::-1] * np.array([-1, 1], np.float32)) and np.abs(plain).max() > 1
        frames, found = (vpngen.render(SPEC, index, w, threads=1) for w in (window, mirrored))
        assert np.array_equal(found, frames[:, :, ::-1])
    assert SPEC.generator.handed


def test_labels_are_products_of_their_factors() -> None:
    generator = SPEC.generator
    assert [len(factor.values) for factor in generator.factors] == [16, 2, 2] and generator.n_categories == 64
    assert [generator.category_id(generator.category(i)) for i in range(64)] == list(range(64))
    directions = Spec.preset("drift-directions-32x512")
    assert directions.category(31) == (315.0, 5.5, 30.0) and directions.n_videos() == 32 * 512
    assert Spec.preset("drift-64x512") == vpngen.drift()
    assert vpngen.drift(instances=1, shape=(16, 32, 32)).category(0) == ("translate 0", 0.629, 17.1)


def test_what_a_video_draws_is_spread_evenly() -> None:
    """By chi-square: octaves, the direction within its bin, the own change, the centre; 4000 videos of a category."""
    spec = vpngen.drift(instances=4000, shape=(16, 112, 112))
    found = spec.parameters(np.arange(4000) * 64 + 8)  # upwards and to the right
    vx, vy = found["velocity"].values.T
    angle = (np.degrees(np.arctan2(-vy, vx)) - 90) / (45 * 0.35)
    drawn = {
        "octaves": found["octaves"].values - 1.0, "direction": (angle + 1) / 2, "change": found["change"].values / 0.06,
        "x": (found["centre"].values[:, 0] - 56 + 17.5) / 35, "contrast": (found["contrast"].values - 25) / 45,
        "cell": (np.log(found["cell"].values / 60) / np.log(1.41) + 1) / 2 > 0.5,
        "speed": np.log(np.hypot(vx, vy) / 2.2) > 0,
    }  # fmt: skip
    for name, value in drawn.items():
        bins = 2 if name in ("octaves", "cell", "speed") else 7
        counts = np.bincount(np.minimum((np.asarray(value, np.float64) * bins).astype(int), bins - 1), minlength=bins)
        assert len(counts) == bins and ((counts - 4000 / bins) ** 2).sum() / (4000 / bins) < 5 * bins, (name, counts)


def test_contrast_and_mean_are_what_they_say() -> None:
    """Over videos, as one shows few cells; whatever the place between two planes of the third axis."""
    spec = vpngen.drift(
        instances=40, shape=(1, 240, 240), contrast=(20, 20), mean=(128, 128), cells=(12.0,), speeds=(0.5,)
    )
    for indices in (np.arange(40) * 16, np.arange(40) * 16 + 11):  # one layer, and two
        levels = vpngen.render(spec, indices, threads=1).astype(np.float64) + 0.5
        assert levels.std(axis=(1, 2, 3)) == pytest.approx(20, rel=0.2)
        assert (
            np.sqrt(levels.var(axis=(1, 2, 3)).mean()) == pytest.approx(20, rel=0.02) and abs(levels.mean() - 128) < 1
        )
    fade = 10 * (f := np.linspace(0, 1, 4001)) ** 3 - 15 * f**4 + 6 * f**5
    a, b = ((1 - fade) ** 2).mean(), ((1 - fade) ** 2 * f**2).mean()
    assert (drift.ACROSS, drift.ALONG) == pytest.approx((8 * a * b / 3, 4 * a * a / 3), rel=2e-3)


@pytest.mark.parametrize("index", [40, 46, 50, 62])
def test_layers_come_and_go_without_a_pop(index: int) -> None:
    """No frame of a video that zooms or shears differs much more from the one before it than the others do."""
    spec = vpngen.drift(instances=1, shape=(150, 112, 112))
    frames = video(index, (0, 150), spec)
    steps = np.abs(np.diff(frames, axis=0)).mean(axis=(1, 2))
    assert spec.params([index])["life"][0] < 75 and steps.max() < 2.5 * np.median(steps)


BAD: list[tuple[dict[str, Any], str]] = [
    ({"speeds": (12,)}, r"`speeds` \(=\(12.0,\)\) must be at most 6.73: .* half a period, 10.6 pixels"),
    ({"speeds": ()}, "`speeds`.*must be 1 to 64 different numbers"),
    ({"speeds": (-1,)}, "`speeds`.*of at least 0"),
    ({"cells": (2, 30), "speeds": (0,)}, "`cells`.*must be at least 2.82: .*2 octaves make details of 0.709 pixels"),
    ({"cells": (30, 30)}, "`cells`.*different numbers"),
    ({"cells": (2000,)}, "`cells`.*from 1 to 1024"),
    ({"cell_jitter": 0.5}, "`cell_jitter`.*from 1 to 4"),
    ({"octaves": (5,)}, "`octaves`.*integers from 1 to 4"),
    ({"octaves": ()}, "`octaves`.*none twice"),
    ({"octaves": (1, 1)}, "`octaves`.*none twice"),
    ({"change": (0.5, 0.1)}, "`change`.*two numbers, low and high, from 0 to 1"),
    ({"radius": 5}, "`radius`.*must be at least 21.7: a speed of 8.69 there"),
    ({"motions": "spiral"}, "`motions`.*affine, directions"),
    ({"directions": 0}, "`directions`.*from 1 to 64"),
    ({"direction_jitter": 0.5}, "`direction_jitter`"),
    ({"contrast": (10, 300)}, "`contrast`"),
    ({"grey": "stretch"}, "`grey`.*random, fixed"),
    ({"categories": 63}, r"`categories` \(=63\) must be 64, the product of 16 \(motion\) x 2 \(speed\) x 2 \(cell\)"),
    ({"shape": (16, 4, 4)}, "`cells`.*must be at least 2.82"),
    ({"pace": 1}, "`pace` is no argument of the drift generator"),
]


@pytest.mark.parametrize(("options", "said"), BAD, ids=lambda v: next(iter(v)) if isinstance(v, dict) else "")
def test_bad_input(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        vpngen.drift(**options)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("gain", np.nan), ("bias", np.inf), ("octaves", 0), ("octaves", 5), ("life", 7), ("life", 66), ("life", -8), ("age", -1),
        ("age", 70), ("centre", 2**20), ("lattice", 2.0**22), ("zoom", 2.0), ("shear", 3.0), ("velocity", np.nan),
    ],
)  # fmt: skip
def test_params_that_no_kernel_may_see(name: str, value: float) -> None:
    params = SPEC.params(np.arange(64))
    Drift.check_params(params)
    params[name][41] = value
    with pytest.raises(ArgumentError, match="values that they never have"):
        Drift.check_params(params)


def test_advice() -> None:
    assert SPEC.generator.advice(SHAPE) == []
    (said,) = vpngen.drift(instances=1, cells=(300,)).generator.advice((240, 240, 240))
    assert said == "cells of 300 pixels are wider than frames of 240 x 240: give smaller `cells`"
