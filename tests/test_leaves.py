"""Dead leaves in motion: what they show, where things go, and what is refused."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import vpngen
from vpngen import ArgumentError, Spec, Window
from vpngen.generators import Leaves, leaves
from vpngen.generators.motion import OWN_KINDS

SHAPE = (40, 64, 80)
SPEC = vpngen.leaves(instances=1, shape=SHAPE)
SMOOTH = vpngen.leaves(instances=1, shape=SHAPE, textured=1, cells=(0.5, 1.0))
MOTIONS = ("translate 135", *OWN_KINDS[::2], OWN_KINDS[3])


def video(motion: str, spec: Spec = SPEC, speed: int = 0, size: int = 0) -> int:
    """The index of the first video of a category."""
    made = spec.generator
    wanted = made.category_id((motion, made.speeds[speed], made.sizes[size]))  # type: ignore[attr-defined]
    return next(i for i in range(spec.n_videos()) if spec.label(i) == wanted)


def sampled(frame: npt.NDArray[Any], x: npt.NDArray[Any], y: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """A frame (Y, X) between its pixels."""
    x0, y0 = np.floor(x).astype(int), np.floor(y).astype(int)
    fx, fy, f = x - x0, y - y0, frame.astype(float)
    top = f[y0, x0] * (1 - fx) + f[y0, x0 + 1] * fx
    return np.asarray(top * (1 - fy) + (f[y0 + 1, x0] * (1 - fx) + f[y0 + 1, x0 + 1] * fx) * fy)


def alike(ids: npt.NDArray[Any], x: npt.NDArray[Any], y: npt.NDArray[Any], within: int) -> npt.NDArray[np.bool]:
    """Whether all pixels so near to (x, y) show one shape: (Y, X); not at the border."""
    x0, y0 = np.rint(x).astype(int), np.rint(y).astype(int)
    inside = (x0 >= within) & (y0 >= within) & (x0 < ids.shape[1] - within) & (y0 < ids.shape[0] - within)
    x0, y0 = np.where(inside, x0, within), np.where(inside, y0, within)
    offsets = range(-within, within + 1)
    same = [ids[y0 + j, x0 + i] == ids[y0, x0] for j in offsets for i in offsets]
    return np.asarray(inside & np.all(same, axis=0))


def at(ids: npt.NDArray[Any], x: npt.NDArray[Any], y: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """What is seen at the pixels nearest to (x, y)."""
    height, width = ids.shape
    return np.asarray(
        ids[np.clip(np.rint(y).astype(int), 0, height - 1), np.clip(np.rint(x).astype(int), 0, width - 1)]
    )


@pytest.mark.parametrize("motion", MOTIONS)
def test_the_next_frame_is_the_frame_moved_by_the_flow(motion: str) -> None:
    """Where a shape is seen in both, its grey and texture come along (those of the ground fade); and it is seen there, unless it is said to be hidden."""
    index = video(motion, SMOOTH)
    step = 2 if motion == "rotate left" else 1
    window = Window(t=(20, 21 + step, step))
    flow, seen = vpngen.motion(SMOOTH, index, window, seen=True)
    pixels = vpngen.render(SMOOTH, index, window)
    y, x = np.mgrid[: SHAPE[1], : SHAPE[2]]
    x_to, y_to = x + flow[0, ..., 0], y + flow[0, ..., 1]
    before, after = seen.shapes
    there = alike(after, x_to, y_to, 2) & alike(before, x, y, 1)
    arrives = at(after, x_to, y_to) == before
    assert there.mean() > 0.3
    assert (arrives == ~seen.hidden[0])[there].mean() > 0.995
    good = there & arrives & (before >= 0) & (x_to >= 0) & (y_to >= 0) & (x_to < SHAPE[2] - 1) & (y_to < SHAPE[1] - 1)
    moved = np.abs(sampled(pixels[1], x_to[good], y_to[good]) - pixels[0][good])
    still = np.abs(pixels[1][good].astype(float) - pixels[0][good])
    assert good.sum() > 200 and moved.mean() < 1 and moved.mean() < 0.35 * still.mean()


@pytest.mark.parametrize("motion", ["translate 0", "rotate right", "zoom in", "shear down"])
def test_what_the_next_frame_hides(motion: str) -> None:
    """Where the flow leads, another shape is seen if, and only if, the shape is said to be hidden: by one before it, or at its end."""
    index, step = video(motion, size=1), 6
    _, seen = vpngen.motion(SPEC, index, Window(t=(8, 33, step)), seen=True)
    flow = vpngen.motion(SPEC, index, Window(t=(8, 33, step)))
    y, x = np.mgrid[: SHAPE[1], : SHAPE[2]]
    kept = covered = ended = 0
    for i in range(len(seen.shapes) - 1):
        x_to, y_to = x + np.asarray(flow)[i, ..., 0], y + np.asarray(flow)[i, ..., 1]
        before, after, hidden = seen.shapes[i], seen.shapes[i + 1], seen.hidden[i]
        there = alike(after, x_to, y_to, 1)
        arrives = at(after, x_to, y_to) == before
        assert hidden[there & ~arrives].mean() > 0.97 and not hidden[there & arrives].mean() > 0.02
        gone = hidden & (before >= 0) & ~np.isin(before, after)
        kept, covered, ended = kept + (there & arrives).sum(), covered + (there & ~arrives).sum(), ended + gone.sum()
    assert kept > 2000 and covered > 400 and ended > 50


def test_the_ground_goes_with_the_common_motion() -> None:
    """And shapes about it: the flow of the ground is that of `motion`, the mean of all near it."""
    for motion in MOTIONS[::3]:
        index = video(motion)
        flow, seen = vpngen.motion(SPEC, index, Window(t=(20, 21)), seen=True)
        params = SPEC.params([index])
        m = SPEC.generator.motion(SHAPE, params, 1)[0]
        y, x = np.mgrid[: SHAPE[1], : SHAPE[2]]
        common = m[:, 0] * x[..., None] + m[:, 1] * y[..., None] + m[:, 2]
        ground = seen.shapes[0] < 0
        assert ground.any() and not ground.all()
        assert np.abs(flow[0] - common)[ground].max() < 1e-3
        speed = np.sqrt((common**2).sum(axis=-1)).mean()
        assert 0 < np.abs((flow[0] - common)[~ground]).mean() < speed


@pytest.mark.parametrize("direction", [0, 90, 225])
def test_phase_correlation_finds_the_velocity(direction: int) -> None:
    """Of shapes that have no motion of their own, in the frames alone."""
    spec = vpngen.leaves(
        instances=1, shape=(12, 96, 96), own=0, turning=0, growth=0, speeds=(3.0,), speed_jitter=1, direction_jitter=0
    )
    index = video(f"translate {direction}", spec)
    first, last = vpngen.render(spec, index, Window(t=(2, 6, 3))).astype(float) * np.outer(*[np.hanning(96)] * 2)
    spectrum = np.fft.fft2(last) * np.conj(np.fft.fft2(first))
    peak = np.fft.ifft2(spectrum / (np.abs(spectrum) + 1e-9)).real
    dy, dx = np.unravel_index(peak.argmax(), peak.shape)
    found = (np.array([dx, dy]) + 48) % 96 - 48
    angle = np.deg2rad(direction)
    assert np.abs(found - 9 * np.array([np.cos(angle), -np.sin(angle)])).max() <= 1


def test_a_mirrored_window_mirrors_the_picture_and_the_flow() -> None:
    index, window = video("rotate left"), Window(t=(3, 9, 3), y=(5, 30), x=(7, 50))
    mirror = dataclasses.replace(window, flip=True)
    assert np.array_equal(vpngen.render(SPEC, index, mirror), vpngen.render(SPEC, index, window)[..., ::-1])
    flow, seen = vpngen.motion(SPEC, index, window, seen=True)
    mirrored, theirs = vpngen.motion(SPEC, index, mirror, seen=True)
    assert np.array_equal(mirrored[..., 0], -flow[:, :, ::-1, 0]) and np.array_equal(
        mirrored[..., 1], flow[:, :, ::-1, 1]
    )
    assert np.array_equal(theirs.shapes, seen.shapes[:, :, ::-1]) and np.array_equal(
        theirs.hidden, seen.hidden[:, :, ::-1]
    )
    whole = vpngen.motion(SPEC, index, Window(t=(3, 4)))
    assert SPEC.generator.handed and np.array_equal(
        vpngen.motion(SPEC, index, Window(t=(3, 4), y=(5, 30)))[0], whole[0, 5:30]
    )


@pytest.mark.parametrize("motion", ["translate 45", "zoom in", "shear down"])
def test_the_last_frames_are_like_the_first(motion: str) -> None:
    """Shapes are as many and as large in all frames, and everywhere in them."""
    spec = vpngen.leaves(instances=1, shape=(240, 96, 96), speed_jitter=1, size_jitter=1)
    params = spec.params([video(motion, spec, speed=1, size=1)])[0]
    y = x = np.arange(0, 96, 4)
    ground, middles = [], []
    for t in range(3, 240, 24):
        slots = np.arange(int(params["slots"]) + 1)
        places = leaves.place(params, s := leaves.draw(params, slots, (lived := leaves.lives(params, slots, t))[0]), lived[1],
                              leaves.coming(params, lived[1]))  # fmt: skip
        covered = np.zeros((24, 24))
        for k in slots[:-1]:
            covered += leaves.opacity(places, k, x, y[:, None])
        ground.append(covered)
        at = np.stack([places.x, places.y], axis=-1)[:-1]
        middles.extend(at[((at >= 0) & (at < 96)).all(axis=1)])
        assert s.kind[-1] == leaves.GROUND
    layers = np.array(ground)  # (T, Y, X): how many shapes lie over each place
    assert 0.75 < layers.mean() < 1.1
    quarters = [part.mean() for part in np.array_split(layers, 4)]
    assert max(quarters) < 1.6 * min(quarters), quarters
    inside = (np.abs(np.array(middles) - 48) < 24).all(axis=1).sum() * 3  # a quarter of the frame, and the rest of it
    outside = len(middles) - inside // 3
    assert inside < 1.3 * outside and outside < 1.3 * inside, (inside, outside)
    halves = [layers[:, :12].mean(), layers[:, 12:].mean(), layers[:, :, :12].mean(), layers[:, :, 12:].mean()]
    assert max(halves) < 1.6 * min(halves), halves


def test_bounds_hold_whatever_the_shape() -> None:
    """Nothing is seen beyond the sides of a shape, and nothing behind it nearer to its middle than `inner`."""
    spec = vpngen.leaves(instances=2, shape=(30, 64, 64), stretch=4, growth=1, size_range=2)
    reached = inner = 0
    for index in range(0, spec.n_videos(), 9):
        params = spec.params([index])[0]
        slots = np.arange(int(params["slots"]))
        generations, ages = leaves.lives(params, slots, 11)
        s = leaves.draw(params, slots, generations)
        places = leaves.place(params, s, ages, leaves.coming(params, ages))
        for k in slots[::7]:
            far = 1.5 * max(places.right[k] - places.left[k], places.bottom[k] - places.top[k]) + 3
            x, y = (
                np.linspace(places.x[k] - far, places.x[k] + far, 90),
                np.linspace(places.y[k] - far, places.y[k] + far, 90)[:, None],
            )
            alpha = leaves.opacity(places, k, x, y)
            out = (x < places.left[k]) | (x > places.right[k]) | (y < places.top[k]) | (y > places.bottom[k])
            assert not alpha[out].any()
            near = np.hypot(x - places.x[k], y - places.y[k]) < places.inner[k]
            assert (alpha[near] == 1).all()
            reached, inner = reached + (alpha > 0).sum(), inner + near.sum()
    assert reached > 1000 and inner > 100


def test_shapes_are_drawn_by_their_laws() -> None:
    """Kinds alike (chi-square), greys and places uniform, radii between their ends and as large in the mean as the number of shapes says."""
    params = SPEC.params([0])[0]
    slots = np.zeros(20_000, np.int64)
    s = leaves.draw(params, slots, np.arange(20_000))
    counts = np.bincount(s.kind, minlength=4)
    assert ((counts - 5000) ** 2 / 5000).sum() < 16.3  # 3 degrees of freedom, 0.1 %
    deviates = np.histogram((s.grey - params["mean"]) / params["gain"], 20, (-1, 1))[0]
    assert ((deviates - 1000) ** 2 / 1000).sum() < 43.8  # 19, 0.1 %
    size = float(params["size"])
    assert size / 3**0.5 * 0.999 < s.radius.min() and s.radius.max() < size * 3**0.5 * 1.001
    assert abs((s.radius.astype(float) ** 2).mean() / (size**2 / 3 * 2 * np.log(3) / (1 - 1 / 9)) - 1) < 0.03
    assert abs((s.amplitude > 0).mean() - 0.5) < 0.02
    assert abs(leaves.ln(37.5) - np.log(37.5)) < 1e-9 and leaves.ln(1) == 0


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"sizes": (40.0,)}, r"`sizes`.*must be at most 15\.4.*is larger than frames of 64 x 80"),
        ({"sizes": (0.1,)}, "`sizes`.*from 0.25 to 4096"),
        ({"sizes": (5.0, 5.0)}, "`sizes`.*different"),
        ({"sizes": (0.25,)}, "`sizes`.*take up to .* shapes.*8192 are allowed; ask for larger ones, or less `coverage`"),
        ({"speeds": (50.0,)}, r"`speeds`.*must be at most 21\.33.*not seen to move"),
        ({"speeds": (-1.0,)}, "`speeds`.*of at least 0"),
        ({"size_range": 0.5}, "`size_range`.*from 1 to 64"),
        ({"coverage": 17}, "`coverage`.*from 0 to 16"),
        ({"texture": (1.0, 0.5)}, "`texture`.*low and high"),
        ({"cells": (0.0, 1.0)}, "`cells`.*from 0.125 to 16"),
        ({"textured": 1.5}, "`textured`.*from 0 to 1"),
        ({"stretch": 0.9}, "`stretch`.*from 1 to 8"),
        ({"turning": 91}, "`turning`.*from 0 to 90"),
        ({"categories": 65}, "`categories`.*must be 64, the product of 16 .motion. x 2 .speed. x 2 .size."),
        ({"motions": "circles"}, "`motions`.*affine, directions"),
    ],
)  # fmt: skip
def test_what_is_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ArgumentError, match=says):
        vpngen.leaves(shape=SHAPE, **given)


@pytest.mark.parametrize(
    ("field", "value"),
    [("slots", 9000), ("slots", -1), ("life", 0), ("velocity", np.nan), ("zoom", 9), ("inverse", 0), ("ends", 7), ("turning", 3e9)],
)  # fmt: skip
def test_params_from_outside_are_checked(field: str, value: float) -> None:
    params = SPEC.params(range(64))
    Leaves.check_params(params)
    params[field][5] = value
    with pytest.raises(ArgumentError, match="values that they never have"):
        Leaves.check_params(params)


def test_what_is_stored_beside_the_pixels() -> None:
    params = SPEC.params([video("translate 90"), video("zoom in"), video("rotate right")])
    found = {name: p.values for name, p in SPEC.generator.parameters(SHAPE, params).items()}
    speed = SPEC.generator.speeds[0]  # type: ignore[attr-defined]
    assert found["velocity"][0, 1] < -speed / 1.5 * 0.8 and not found["velocity"][1:].any()
    assert found["zoom"][1] > 0 and found["rotation"][2] < 0 and not found["zoom"][[0, 2]].any()
    assert (found["shapes"] == params["slots"]).all() and (found["life"] >= leaves.LEAST_LIFE).all()
    assert all((25 <= v <= 70) for v in found["contrast"]) and all((93 <= v <= 163) for v in found["mean"])
