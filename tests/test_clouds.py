"""Motion clouds: the sum of waves in plain Python, their laws, and that videos go where their labels and their flow say."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage, stats

import vpngen
from vpngen import ArgumentError, Spec, Window, rng
from vpngen.generators import Clouds, clouds
from vpngen.generators.base import Params

UNLIKELY = 1e-5
"""As in test_perlin: the draws are fixed numbers, so a test of randomness passes always or never."""
RIGID: dict[str, Any] = {"direction_spread": 0, "speed_spread": 0, "change": 0, "boiling": 0}
SIDE = 64
TWICE = vpngen.clouds(instances=40, shape=(12, SIDE, SIDE), oriented=0)


def generator_of(spec: Spec) -> Clouds:
    assert isinstance(spec.generator, Clouds)
    return spec.generator


# --- the formula, a second time


def score(word: int) -> int:
    return sum(word >> 8 * i & 255 for i in range(4)) - 510


def plain_waves(one: Any) -> list[tuple[float, float, float, float]]:
    """Phase, kx, ky and w of each wave, in cycles."""
    found = []
    for k in range(one["waves"]):
        a, b = ([int(v) for v in rng.philox4x32([k, i, 0, 11 << 16], one["key"])] for i in (0, 1))
        theta = a[1] / 2**32
        if one["oriented"]:
            theta = (int(one["orientation"]) + score(a[1]) * int(one["orientation_spread"])) / 2**32
        way = (int(one["direction"]) + score(b[1]) * int(one["direction_spread"])) / 2**32
        speed = one["speed"] * 2.0 ** (score(b[0]) * one["speed_spread"])
        octaves = score(a[2]) * float(one["frequency_spread"])
        f = one["frequency"] * 2.0**octaves
        if f > 0.35 or f * speed > 0.5:
            f = one["frequency"] * 2.0**-octaves
        kx, ky = f * math.cos(2 * math.pi * theta), -f * math.sin(2 * math.pi * theta)
        vx, vy = speed * math.cos(2 * math.pi * way), -speed * math.sin(2 * math.pi * way)
        w = -(kx * vx + ky * vy) + score(b[2]) * (one["change"] * f * speed + one["boiling"])
        found.append((a[0] / 2**32, kx, ky, w))
    return found


@pytest.mark.parametrize(
    ("options", "index"),
    [
        ({"waves": 8}, 3), ({"orientations": 3}, 100), ({"oriented": 1, "frequency_spread": 4}, 9), ({"waves": 64}, 63),
        ({"speeds": (0, 1), "directions": 1, "change": 0.5, "boiling": 0.1}, 4),
    ],
)  # fmt: skip
def test_pixels_are_a_sum_of_waves(options: dict[str, Any], index: int) -> None:
    spec = vpngen.clouds(instances=2, shape=(40, 48, 70), mean=(128, 128), contrast=(20, 20), **options)
    one = spec.params([index])[0]
    t, y, x = np.arange(0, 40, 13), np.arange(0, 48, 11), np.arange(5, 70)
    grey = np.full((len(t), len(y), len(x)), float(one["bias"]))
    for phase, kx, ky, w in plain_waves(one):
        at = phase + kx * (x - 15.5) + ky * y[:, None] + w * t[:, None, None]
        grey += 20 / math.sqrt(one["waves"] / 2) * np.cos(2 * np.pi * at)
    assert np.abs(clouds.Clouds.reference(one, t, y, x) - grey).max() < 0.02


def test_waves_keep_their_phase_however_far_they_go() -> None:
    """Turns wrap: the last pixel of the largest video is as good as the first."""
    spec = vpngen.clouds(instances=1, shape=(2**16,) * 3, waves=9)
    one, ends = spec.params([7])[0], np.array([0, 2**16 - 1])
    grey = np.full((2, 2, 2), float(one["bias"]))
    found = clouds.waves(one)
    for k in range(9):
        phase, kx_half, ky, w = (int(part[k]) for part in found)
        turned = [
            [[(phase + kx_half * (2 * x - 31) + ky * y + w * t) % 2**32 for x in ends.tolist()] for y in ends.tolist()]
            for t in ends.tolist()
        ]
        grey += float(one["gain"]) * np.cos(2 * np.pi * np.array(turned) / 2**32)
    assert np.abs(clouds.Clouds.reference(one, ends, ends, ends) - grey).max() < 0.001


# --- laws


def test_scores_are_nearly_normal() -> None:
    words = rng.philox4x32(rng.counters(0, 0, np.arange(25_000)), [1, 2]).ravel()
    found = clouds.scores(words) / clouds.STD
    assert abs(found.mean()) < 0.02 and abs(found.std() - 1) < 0.01
    assert stats.kstest(found, "norm").statistic < 0.02
    assert clouds.scores(np.array([0, 2**32 - 1, 0x80], np.uint32)).tolist() == [-510, 510, 128 - 510]


def test_videos_are_drawn_evenly_around_their_category() -> None:
    spec = vpngen.clouds(instances=64)
    everyone = np.arange(spec.n_videos())
    drawn = {name: part.values for name, part in spec.parameters(everyone).items()}
    wanted = np.array([spec.category(int(c)) for c in spec.labels(everyone)])
    off = (drawn["direction"] - wanted[:, 0] + 180) % 360 - 180
    assert stats.chisquare(np.histogram(off, 16, (-0.35 * 45, 0.35 * 45))[0]).pvalue > UNLIKELY
    for name, column, jitter in (("speed", 1, 1.5), ("frequency", 2, 1.2)):
        ratio = drawn[name] / wanted[:, column]
        u = np.where(ratio < 1, -(1 / ratio - 1), ratio - 1) / (jitter - 1)
        assert stats.chisquare(np.histogram(u, 16, (-1.00001, 1.00001))[0]).pvalue > UNLIKELY, name
    share = (drawn["orientation"] >= 0).mean()
    assert abs(share - 0.5) < 0.05
    turned = drawn["orientation"][drawn["orientation"] >= 0]
    assert stats.chisquare(np.histogram(turned, 12, (0, 180))[0]).pvalue > UNLIKELY


def test_contrast_and_mean_are_those_that_are_said() -> None:
    spec = vpngen.clouds(instances=4, shape=(16, 112, 112), contrast=(20, 40), mean=(125, 131))
    some = np.arange(3, spec.n_videos(), 4)  # of the highest frequency, so that a video has much of its whole
    video = vpngen.render(spec, some, Window((0, 16, 5)))
    drawn = spec.parameters(some)
    contrast, mean = (drawn[name].values.astype(float) for name in ("contrast", "mean"))
    assert abs((video.var(axis=(1, 2, 3)) / contrast**2).mean() - 1) < 0.03
    assert abs((video.mean(axis=(1, 2, 3)) + 0.5 - mean).mean()) < 0.3
    assert 20 <= contrast.min() < 22 and 38 < contrast.max() <= 40 and 125 <= mean.min() < mean.max() <= 131


@pytest.mark.parametrize("options", [{}, {"frequency_spread": 4, "speed_spread": 0.3, "speeds": (1.0,)}], ids=str)
def test_no_wave_aliases(options: dict[str, Any]) -> None:
    """Nor is it steeper than a pixel shows. Those that would be are below the frequency of their video."""
    spec = vpngen.clouds(instances=1, **{**RIGID, "speed_spread": 0.1, "frequency_spread": 0.5, **options})
    mirrored = 0
    for one in spec.params(np.arange(3, spec.n_videos(), 4)):
        _, kx_half, ky, w = (part.astype(np.int32) / 2.0**32 for part in clouds.waves(one))
        f, octaves = np.hypot(2 * kx_half, ky), np.array([score(int(v)) for v in words_of(one)])
        assert f.max() <= 0.3501 and np.abs(w).max() <= 0.5001
        mirrored += int((f / one["frequency"] < 1)[octaves > 0].sum())
        assert (f[octaves <= 0] <= one["frequency"] * 1.0001).all()
    assert mirrored > 0


def words_of(one: Any) -> Any:
    return rng.philox4x32(rng.counters(rng.PURPOSE_CLOUDS, 0, np.arange(one["waves"])), one["key"])[:, 2]


# --- where videos go


def velocity_between(first: Any, second: Any) -> npt.NDArray[np.float64]:
    """(dx, dy) by the peak of the phase correlation of two pictures, to a part of a pixel."""
    spectra = [np.fft.fft2((v - v.mean()) * np.outer(*[np.hanning(SIDE)] * 2)) for v in (first, second)]
    product = np.conj(spectra[0]) * spectra[1]
    peak = ndimage.gaussian_filter(
        np.real(np.fft.ifft2(product / (np.abs(product) + 1e-3 * np.abs(product).max()))), 1, mode="wrap"
    )
    y, x = np.unravel_index(peak.argmax(), peak.shape)
    found = []
    for axis, at in ((1, x), (0, y)):
        before, here, after = (np.roll(peak, 1 - i, axis)[y, x] for i in range(3))
        found.append((at + SIDE // 2) % SIDE - SIDE // 2 + (before - after) / 2 / (before - 2 * here + after))
    return np.array(found)


def test_phase_correlation_finds_the_velocity_of_the_label() -> None:
    errors = []
    for index in range(3, TWICE.n_videos(), 4 * 23):
        video = vpngen.render(TWICE, index).astype(float)
        found = np.median([velocity_between(video[t], video[t + 2]) / 2 for t in range(10)], axis=0)
        flow = vpngen.motion(TWICE, index)
        assert isinstance(flow, np.ndarray) and flow.shape == (12, SIDE, SIDE, 2) and (flow == flow[0, 0, 0]).all()
        direction, speed, _ = TWICE.category(TWICE.label(index))
        assert abs((math.degrees(math.atan2(-found[1], found[0])) - direction + 180) % 360 - 180) < 22.5
        assert speed / 1.6 < math.hypot(*found) < speed * 1.6
        errors.append(np.abs(found - flow[0, 0, 0]).max())
    assert len(errors) > 25 and np.mean(errors) < 0.2 and max(errors) < 0.6


@pytest.mark.parametrize(("options", "most"), [(RIGID, 0.03), ({}, 0.35)], ids=["rigid", "as they are"])
def test_a_frame_moved_by_the_flow_is_the_next(options: dict[str, Any], most: float) -> None:
    """Of two frames, in parts of what differs without the flow: little where waves have one velocity, and some where not."""
    spec = vpngen.clouds(instances=3, shape=(9, SIDE, SIDE), contrast=(40, 40), mean=(128, 128), **options)
    y, x = np.mgrid[12:52, 12:52]
    for index in range(1, spec.n_videos(), 7):
        step = 1 + index % 2
        window = Window((2, 9, step), flip=bool(index % 3 == 1))
        video, flow = vpngen.render(spec, index, window).astype(float), vpngen.motion(spec, index, window)
        assert isinstance(flow, np.ndarray)
        moved, still, back = (
            np.square(
                ndimage.map_coordinates(video[1], [y + way * flow[0, 12:52, 12:52, 1], x + way * flow[0, 12:52, 12:52, 0]])
                - video[0, 12:52, 12:52]
            ).mean() - 1 / 6
            for way in (1, 0, -1)
        )  # fmt: skip
        assert moved < most * still and moved < most * back, index


def test_a_flipped_window_has_the_mirrored_flow() -> None:
    window = {"t": (1, 4), "y": (2, 9), "x": (3, 20)}
    plain, mirrored = (vpngen.motion(TWICE, 8, Window(**window, flip=flip)) for flip in (False, True))
    assert isinstance(plain, np.ndarray) and isinstance(mirrored, np.ndarray)
    assert np.array_equal(mirrored, plain * np.array([-1, 1], np.float32)) and plain[0, 0, 0, 0] != 0
    assert TWICE.generator.handed


def test_stripes_have_the_orientation_of_the_label() -> None:
    """By the direction in which pictures change most."""
    spec = vpngen.clouds(instances=2, orientations=5, shape=(1, SIDE, SIDE), orientation_spread=5)
    drawn = spec.parameters(np.arange(spec.n_videos()))["orientation"].values
    for index in range(15, spec.n_videos(), 20 + 1):
        gy, gx = np.gradient(vpngen.render(spec, index)[0].astype(float))
        steepest = math.degrees(math.atan2(-2 * (gx * gy).sum(), (gx**2 - gy**2).sum())) / 2
        orientation = spec.category(spec.label(index))[3]
        assert abs((drawn[index] - orientation + 90) % 180 - 90) <= 0.35 * 36 + 0.01
        assert abs((steepest + 90 - drawn[index] + 90) % 180 - 90) < 8, index


def test_what_boils_goes_nowhere() -> None:
    spec = vpngen.clouds(instances=1, shape=(30, 16, 32), speeds=(0, 0.8), directions=1, boiling=0.05)
    assert [spec.category(c)[1] for c in range(spec.n_categories)] == [0.0] * 4 + [0.8] * 4
    flow = vpngen.motion(spec, 2)
    assert isinstance(flow, np.ndarray) and not flow.any()
    video = vpngen.render(spec, 2).astype(float)
    assert np.abs(video[15] - video[0]).mean() > 10


# --- sets


def test_the_sets() -> None:
    usual, turned = (Spec.preset(f"clouds-{n}x512") for n in (64, 256))
    assert usual == vpngen.clouds() and usual.n_categories == 64 and turned.n_categories == 256
    assert [(f.name, len(f.values)) for f in turned.generator.factors] == [
        ("direction", 8), ("speed", 2), ("frequency", 4), ("orientation", 4),
    ]  # fmt: skip
    assert usual.category(13) == (45.0, 4.9, 0.0184) and turned.category(255) == (315.0, 4.9, 0.044, 135.0)
    half = vpngen.clouds(shape=(32, 56, 80))
    assert generator_of(half).speeds == pytest.approx([v / 2 for v in generator_of(usual).speeds], rel=0.01)
    assert generator_of(half).frequencies == pytest.approx([2 * v for v in generator_of(usual).frequencies], rel=0.01)
    small = vpngen.clouds(instances=1, shape=(1, 1, 1))
    assert vpngen.render(small, 0).shape == (1, 1, 1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"waves": 7}, "`waves` .=7. must be an integer from 8 to 64"), ({"waves": 65}, "from 8 to 64"),
        ({"speeds": (5.6,)}, r"`speeds` .*more than half a period of the highest frequency .* give 4.97 at most"),
        ({"speeds": (1,), "frequencies": (0.2, 0.1), "speed_spread": 1}, "`speeds` .* give 0.127 at most"),
        ({"frequencies": (0.3,)}, "`frequencies` .* more than 0.35 cycles a pixel: give 0.291 at most"),
        ({"frequencies": (0.36,)}, "`frequencies` .*from 0.0001 to 0.35"), ({"frequencies": ()}, "1 to 64 different"),
        ({"frequencies": 0.1}, "`frequencies` .=0.1. must be a list"), ({"frequencies": (0.1, 0.1)}, "different"),
        ({"speeds": (0, 2)}, "`speeds` .*the directions of a texture that rests coincide; .* give directions=1"),
        ({"speeds": (-1,)}, "`speeds` .*of at least 0"), ({"directions": 0}, "`directions` .=0. must be an integer from 1"),
        ({"orientations": -1}, "`orientations`"), ({"orientation_spread": 46}, "`orientation_spread` .*from 0 to 45"),
        ({"direction_spread": math.nan}, "`direction_spread`"), ({"frequency_spread": -1}, "`frequency_spread`"),
        ({"frequency_jitter": 0.9}, "`frequency_jitter`"), ({"speed_spread": 3}, "`speed_spread`"),
        ({"change": 0.6}, "`change` .*from 0 to 0.5"), ({"boiling": 0.2}, "`boiling` .*from 0 to 0.1"),
        ({"oriented": 2}, "`oriented`"), ({"categories": 65}, "`categories` .=65. must be 64, the product of 8 .direction. x"),
        ({"direction": 3}, "`direction` .*is no argument of the clouds generator"), ({"contrast": (9, 1)}, "`contrast`"),
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        vpngen.clouds(**options)


def test_the_speed_that_is_named_is_allowed() -> None:
    vpngen.clouds(speeds=(4.97,))
    with pytest.raises(ArgumentError, match=r"give 4\.97 at most"):
        vpngen.clouds(speeds=(4.98,))


WRONG: dict[str, tuple[Any, ...]] = {
    "gain": (math.nan, -1, math.inf), "bias": (math.nan, 300), "waves": (7, 65, -1), "oriented": (2,),
    "orientation_spread": (-1, 2**23), "direction_spread": (-1, 2**30), "frequency": (0.4, -0.1, math.nan),
    "frequency_spread": (0.04, math.inf), "speed": (-1, 100, math.nan), "speed_spread": (0.1, -1), "change": (0.01, math.nan),
    "boiling": (0.01, -1),
}  # fmt: skip


def test_params_that_could_not_be_are_refused() -> None:
    good: Params = vpngen.clouds().params(np.arange(64))
    Clouds.check_params(good)
    assert set(WRONG) == set(Clouds.params_dtype.names or ()) - {"key", "orientation", "direction"}
    for name, values in WRONG.items():
        for value in values:
            bad = good.copy()
            bad[name][63] = value
            with pytest.raises(ArgumentError, match="values that they never have"):
                Clouds.check_params(bad)


def test_advice() -> None:
    assert vpngen.clouds().generator.advice((240, 240, 240)) == []
    low, rest = (
        vpngen.clouds(shape=(64, 64, 64), speeds=(0,), directions=1, frequencies=(0.01, 0.1), boiling=0.001)
        .generator.advice((64, 64, 64))
    )  # fmt: skip
    assert "a wave of 100 pixels is longer than a side of 64" in low and "give at least 0.0157" in low
    near = vpngen.clouds(speeds=(1, 2, 4), frequency_jitter=1.3).generator.advice((240, 240, 240))
    assert [said.partition(":")[0] for said in near] == ["speed_jitter"] * 2 + ["frequency_jitter"] * 3
    assert "with 1.5, videos of 1 and of 2 overlap; give at most 1.41" in near[0]
    assert "0.064 of a cycle in 64 frames" in rest and "give about 0.0313" in rest
