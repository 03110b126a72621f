"""Pictures of training: opened again, and looked at where it is known what they must show."""

from __future__ import annotations

import csv
import dataclasses
import itertools
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import vpngen
from vpngen import ArgumentError, MissingError
from vpngen.models.filters import GUTTER, PAPER, SCALE, filters, first_kernel, tiles
from vpngen.train.evaluation import Evaluation, Outcome
from vpngen.train.figures import COLOURS, confusion, curves, sweep

RNG = np.random.default_rng(0)


def kernel(*shape: int) -> torch.Tensor:
    return torch.from_numpy(RNG.normal(size=shape)).float()


def saved(path: Path, **state: torch.Tensor) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({name.replace("__", "."): value for name, value in state.items()}, path)
    return path


def pixels(path: Path, frame: int = 0) -> Any:
    with Image.open(path) as image:
        image.seek(frame)
        return np.asarray(image.convert("RGB"))


# --- which weights


def test_the_first_convolution_of_our_networks() -> None:
    conv1 = kernel(4, 3, 7, 7, 7)
    name, found = first_kernel(
        {"fc.weight": kernel(2, 4), "conv1.weight": conv1, "layer1.0.conv1.weight": kernel(4, 4, 3, 3, 3)}, {}
    )
    assert name == "conv1.weight" and np.array_equal(found, conv1.numpy().astype(float))


def test_space_and_time_apart_are_multiplied() -> None:
    """The product answers as both one after the other do, where nothing is cut off between."""
    space, time = torch.nn.Conv3d(3, 5, (1, 3, 3), bias=False), torch.nn.Conv3d(5, 2, (4, 1, 1), bias=False)
    norm = torch.nn.BatchNorm3d(5).eval()
    with torch.no_grad():
        for values, low in ((norm.weight, -2.0), (norm.running_var, 0.1)):
            assert values is not None
            values.uniform_(low, 2)
        clip = kernel(1, 3, 4, 3, 3)
        wanted = time(norm(space(clip))).flatten()
    state = {"conv1_s.weight": space.weight, "conv1_t.weight": time.weight, "bn1_s.weight": norm.weight,
             "bn1_s.running_var": norm.running_var}  # fmt: skip
    name, found = first_kernel({k: v.detach() for k, v in state.items() if v is not None}, {})
    assert name == "conv1_s x conv1_t" and found.shape == (2, 3, 4, 3, 3)
    np.testing.assert_allclose((found * clip.numpy()).sum((1, 2, 3, 4)), wanted, rtol=1e-4, atol=1e-5)
    plain = first_kernel({k: v.detach() for k, v in state.items() if v is not None and "conv" in k}, {})[1]
    assert plain.shape == found.shape and not np.allclose(plain, found)


def test_the_first_convolution_of_others() -> None:
    slow, fast, later = kernel(8, 3, 1, 7, 7), kernel(2, 3, 5, 7, 7), kernel(2, 16, 7, 3, 3)
    state = {"a.weight": later, "b.point": kernel(9, 3, 1, 1, 1), "c.slow": slow, "d.fast": fast, "e.bias": kernel(3)}
    assert first_kernel(state, {})[0] == "d.fast", "the one that sees motion"
    assert first_kernel({k: v for k, v in state.items() if k != "d.fast"}, {})[0] == "c.slow"
    assert first_kernel(state, {}, "a.weight")[0] == "a.weight"
    with pytest.raises(ArgumentError, match=r"`layer` \(='b.point'\).*a\.weight, c\.slow, d\.fast"):
        first_kernel(state, {}, "b.point")
    with pytest.raises(ArgumentError, match="has no convolution in time and space"):
        first_kernel({"b.point": kernel(9, 3, 1, 1, 1), "image": kernel(9, 3, 3, 3)}, {})


# --- filters


@given(st.integers(1, 4), st.sampled_from([1, 3]), st.integers(1, 5), st.integers(1, 5), st.integers(0, 99))
def test_tiles_show_sign_and_size(count: int, channels: int, frames: int, side: int, seed: int) -> None:
    weights = np.random.default_rng(seed).normal(size=(count, channels, frames, side, side)) * 10.0 ** (seed % 9 - 4)
    weights[0, 0, 0, 0, 0] = 0
    made = tiles(weights)
    assert made.shape == (count, frames, side, side, 3) and made.dtype == np.uint8
    assert (made[0, 0, 0, 0, 0]) == 128
    for f, c in itertools.product(range(count), range(channels)):
        wanted = 128 + 127 * weights[f, c] / np.abs(weights[f]).max() if weights[f].any() else 128 + 0 * weights[f, c]
        assert np.abs(made[f, ..., c] - wanted).max() <= 0.5 + 1e-9
    if channels == 1:
        assert (made[..., 0] == made[..., 1]).all() and (made[..., 0] == made[..., 2]).all()


def test_filters_that_cannot_be_shown() -> None:
    assert (tiles(np.zeros((2, 3, 1, 2, 2))) == 128).all()
    with pytest.raises(ArgumentError, match="`kernel` must be of 1 or 3 channels, not 2"):
        tiles(np.zeros((2, 2, 1, 2, 2)))
    with pytest.raises(ArgumentError, match="not finite"):
        tiles(np.full((1, 3, 1, 2, 2), np.nan))


def coloured() -> torch.Tensor:
    """Four filters of 3 frames of 2 x 2: one all zero, one that turns from red to green to blue, black, white at a corner."""
    weights = torch.zeros(4, 3, 3, 2, 2)
    for t in range(3):
        weights[1, t, t] = 2.0
    weights[2] = -0.5
    weights[3, :, :, 0, 1] = 1e-9
    return weights


def corner(picture: Any) -> tuple[int, int]:
    """(y, x) of the first filter of `coloured`, all grey."""
    side = 2 * SCALE
    where = np.lib.stride_tricks.sliding_window_view((abs(picture - 128) < 3).all(-1), (side, side)).all((2, 3))
    y, x = np.argwhere(where)[0]
    return int(y), int(x)


def check_panel(picture: Any, t: int, near: int) -> None:
    """That a picture which begins at the corner of a panel shows frame `t` of `coloured`; in a GIF only nearly."""
    side = 2 * SCALE
    there = side + GUTTER
    red = [255 if c == t else 128 for c in range(3)]
    for (y, x), wanted in {
        (1, 1): [128] * 3, (1, there + 1): red, (there + 1, 1): [1] * 3, (there + 1, there + 1): [128] * 3,
        (there + 1, there + SCALE + 1): [255] * 3, (side, 1): [PAPER] * 3, (1, side): [PAPER] * 3,
    }.items():  # fmt: skip
        assert abs(picture[y, x].astype(int) - wanted).max() <= near, (y, x)


def test_filters_in_a_row_and_playing(tmp_path: Path) -> None:
    path = saved(tmp_path / "net.pth", conv1__weight=coloured())
    filters(path, tmp_path / "filters.png")
    picture = pixels(tmp_path / "filters.png")
    y, x = corner(picture)
    for t in range(3):
        check_panel(picture[y:, x:], t, near=0)
        x += 1 + corner(picture[y:, x + 1 :])[1] if t < 2 else 0
    filters(path, tmp_path / "filters.gif")
    with Image.open(tmp_path / "filters.gif") as image:
        assert image.n_frames == 3 and image.info["duration"] == 160 and image.info["loop"] == 0
    for t in range(3):
        picture = pixels(tmp_path / "filters.gif", t)
        y, x = corner(picture)
        check_panel(picture[y:, x:], t, near=4)


def test_many_colours_of_a_gif_stay_close_and_nothing_flickers(tmp_path: Path) -> None:
    """64 filters of noise have more colours than a GIF."""
    weights = kernel(64, 3, 3, 7, 7)
    weights[:, :, 1:] = weights[:, :, :1]
    filters(saved(tmp_path / "net.pth", conv1__weight=weights), tmp_path / "a.gif")
    first, other = (pixels(tmp_path / "a.gif", t).astype(int) for t in (0, 2))
    assert (first != other).any(-1).mean() < 0.01, "but for the number of the frame"
    filters(tmp_path / "net.pth", tmp_path / "a.png")
    colours = [np.sort(pixels(tmp_path / name).reshape(-1, 3).mean(1)) for name in ("a.png", "a.gif")]
    some = [np.quantile(c, np.linspace(0, 1, 99)) for c in colours]
    assert abs(some[0] - some[1]).mean() < 8


def test_several_networks(tmp_path: Path) -> None:
    runs = [
        saved(tmp_path / name / "weights.pth", conv1__weight=kernel(4, 3, frames, 3, 3))
        for name, frames in (("one", 2), ("other", 3))
    ]
    filters(runs, tmp_path / "rows.png")
    filters(runs[:1], tmp_path / "row.png")
    assert len(pixels(tmp_path / "rows.png")) > 1.7 * len(pixels(tmp_path / "row.png"))
    filters(runs, tmp_path / "side.gif", titles=["A", "B"])
    filters(runs[:1], tmp_path / "alone.gif")
    with Image.open(tmp_path / "side.gif") as side, Image.open(tmp_path / "alone.gif") as alone:
        assert side.n_frames == 6, "each goes round in its own time" and alone.n_frames == 2
        assert side.width > 1.7 * alone.width and side.height == alone.height


def test_safetensors_and_other_prefixes(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    weights = coloured()
    save_file({"conv1.weight": weights, "fc.weight": kernel(2, 2)}, tmp_path / "net.safetensors")
    torch.save({"state_dict": {"module.conv1.weight": weights}, "arch": "resnet-18", "epoch": 3}, tmp_path / "net.pth")
    for suffix in ("safetensors", "pth"):
        filters(tmp_path / f"net.{suffix}", tmp_path / f"{suffix}.png")
    assert np.array_equal(pixels(tmp_path / "safetensors.png"), pixels(tmp_path / "pth.png"))


def test_filters_errors_leave_what_was_there(tmp_path: Path) -> None:
    good = saved(tmp_path / "net.pth", conv1__weight=coloured())
    flat = saved(tmp_path / "flat.pth", conv1__weight=kernel(4, 3, 7, 7))
    out = tmp_path / "filters.png"
    out.write_bytes(b"old")
    for arguments, options, match in (
        ((flat, out), {}, r"flat\.pth` has no convolution"),
        ((tmp_path / "none.pth", out), {}, r"`weights` \(='.*none\.pth'\) cannot be read"),
        (([], out), {}, "`weights` is empty"),
        ((good, tmp_path / "filters.jpg"), {}, r"must end in one of \.png, \.gif"),
        ((good, out), {"titles": ["a", "b"]}, "`titles` must be one for each of 1, not 2"),
        ((good, out), {"layer": "x"}, "conv1.weight"),
    ):
        with pytest.raises(ArgumentError, match=match):
            filters(*arguments, **options)  # type: ignore[arg-type]
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(ArgumentError, match="must be a file"):
        filters(good, tmp_path / "folder.png")
    assert out.read_bytes() == b"old" and not list(tmp_path.glob(".*"))


# --- curves

COLUMNS = ("epoch", "step", "lr", "train_loss", "train_top1", "val_loss", "val_top1", "val_top5", "clips_per_second",
           "data_wait", "seconds")  # fmt: skip


def run(folder: Path, epochs: int = 20, best: float = 0.5, drops: tuple[int, ...] = (), val: bool = True) -> Path:
    """A folder with the log of a run whose validation accuracy rises evenly to `best`."""
    folder.mkdir(parents=True)
    rows: list[dict[str, Any]] = []
    for epoch in range(1, epochs + 1):
        right = best * epoch / epochs
        row: dict[str, Any] = {
            "epoch": epoch, "step": 9 * epoch, "lr": f"{0.3 * 0.1 ** sum(d <= epoch for d in drops):.6g}",
            "train_loss": 5 - right, "train_top1": right / 2, "val_loss": 6 - right, "val_top1": right,
            "val_top5": min(1.0, 1.5 * right), "clips_per_second": 100, "data_wait": 0.1, "seconds": 3,
        }  # fmt: skip
        rows.append(row if val else {k: "" if k.startswith("val") else v for k, v in row.items()})
    with (folder / "log.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return folder


Figures = list[Any]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Figures:
    """The matplotlib figures that are written meanwhile."""
    from matplotlib.figure import Figure

    found: Figures = []
    save = Figure.savefig

    def keep(self: Figure, *arguments: Any, **options: Any) -> None:
        found.append(self)
        save(self, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", keep)
    return found


def shown(axes: Any) -> dict[str, Any]:
    """Label -> (x, y) of its line."""
    return {
        str(line.get_label()): line.get_xydata().T for line in axes.lines if not str(line.get_label()).startswith("_")
    }


def rgb(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))


def test_one_run(tmp_path: Path, drawn: Figures) -> None:
    folder = run(tmp_path / "vpn", epochs=20, best=0.8, drops=(6, 14))
    curves([folder], folder / "curves.png")
    left, middle, right = drawn[0].axes
    epochs = np.arange(1, 21)
    assert set(shown(left)) == {"training loss", "validation loss"}
    np.testing.assert_allclose(shown(left)["validation loss"], [epochs, 6 - 0.04 * epochs])
    assert set(shown(middle)) == {"training top-1", "validation top-1", "validation top-5"}
    np.testing.assert_allclose(shown(middle)["validation top-1"], [epochs, 0.04 * epochs])
    assert middle.get_title("left") == "best: 80.0%" and middle.yaxis.get_major_formatter()(0.5) == "50%"
    rates = right.lines[0].get_ydata()
    assert right.get_yscale() == "log" and rates[0] == 0.3 and rates[-1] == pytest.approx(0.003)
    assert left.get_title("left") == "vpn"
    picture = pixels(folder / "curves.png")
    for colour in COLOURS[:2]:
        assert (picture == rgb(colour)).all(-1).sum() > 100
    assert (picture[0] == 255).all()


def test_several_runs(tmp_path: Path, drawn: Figures) -> None:
    runs = [run(tmp_path / "scratch", best=0.4), run(tmp_path / "vpn", 30, best=0.6)]
    curves(runs, tmp_path / "figure4.svg", labels=["scratch", "VPN, 256 categories"])
    (axes,) = drawn[0].axes
    lines = shown(axes)
    assert list(lines) == ["scratch", "VPN, 256 categories"]
    np.testing.assert_allclose(lines["scratch"], [np.arange(1, 21), np.arange(1, 21) / 50])
    text = (tmp_path / "figure4.svg").read_text()
    assert "VPN, 256 categories" in text and "validation top-1" in text and "40%" in text
    curves(runs, tmp_path / "a.svg", "train_loss")
    assert list(shown(drawn[1].axes[0])) == ["scratch", "vpn"] and "%" not in (tmp_path / "a.svg").read_text()[-9000:]


@pytest.mark.parametrize("val", [True, False])
def test_a_run_of_one_epoch(val: bool, tmp_path: Path, drawn: Figures) -> None:
    curves(run(tmp_path / "a", 1, val=val), tmp_path / "a.png")
    left, middle, _ = drawn[0].axes
    assert len(shown(left)) == (2 if val else 1) and len(shown(middle)) == (3 if val else 1)
    assert all(line.get_marker() == "o" for line in left.lines), "a line of one point is not seen"
    assert [tick for tick in left.get_xticks() if left.get_xlim()[0] <= tick <= left.get_xlim()[1]] == [1]


def test_names_tell_runs_apart(tmp_path: Path, drawn: Figures) -> None:
    runs = [run(tmp_path / a / b) for a, b in (("vpn", "r18"), ("scratch", "r18"), ("vpn", "r50"))]
    curves([runs[0], runs[1] / "log.csv", runs[2]], tmp_path / "a.png")
    assert list(shown(drawn[0].axes[0])) == ["vpn/r18", "scratch/r18", "vpn/r50"]


def test_names_are_text_and_no_mathematics(tmp_path: Path, drawn: Figures) -> None:
    runs = [run(tmp_path / name) for name in (r"a$\frac$", "$x_1$ and $y$", "_b_")]
    curves(runs, tmp_path / "a.svg"), curves(runs[0], tmp_path / "b.svg")
    text = (tmp_path / "a.svg").read_text() + (tmp_path / "b.svg").read_text()
    assert text.count(r">a$\frac$<") == 2 and ">$x_1$ and $y$<" in text and "> _b_<" in text
    found = dataclasses.replace(evaluation(0.5, {}), classes=(r"$\bad{$", "_a"))
    found.write(tmp_path / "evaluation.json")
    confusion(tmp_path, tmp_path / "c.svg")
    assert r">$\bad{$<" in (tmp_path / "c.svg").read_text()


def test_more_runs_than_colours(tmp_path: Path, drawn: Figures) -> None:
    curves([run(tmp_path / str(i), best=0.1 + i / 20) for i in range(10)], tmp_path / "a.png")
    lines = [line for line in drawn[0].axes[0].lines if not str(line.get_label()).startswith("_")]
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 10


def test_the_same_numbers_give_the_same_file_and_nothing_is_left_behind(tmp_path: Path) -> None:
    """Neither in pyplot, which a notebook would show, nor in the settings of matplotlib."""
    import matplotlib

    before = dict(matplotlib.rcParams)
    folder = run(tmp_path / "a")
    for suffix in (".svg", ".pdf"):
        for name in ("one", "two"):
            curves(folder, tmp_path / f"{name}{suffix}", "val_top1")
        assert (tmp_path / f"one{suffix}").read_bytes() == (tmp_path / f"two{suffix}").read_bytes()
    assert dict(matplotlib.rcParams) == before
    if "matplotlib.pyplot" in sys.modules:
        assert not sys.modules["matplotlib.pyplot"].get_fignums()


def test_logs_that_cannot_be_drawn(tmp_path: Path) -> None:
    good, blind = run(tmp_path / "good"), run(tmp_path / "blind", val=False)
    out = tmp_path / "out.png"
    out.write_bytes(b"old")

    def folder(name: str, text: str) -> Path:
        (tmp_path / name).mkdir()
        (tmp_path / name / "log.csv").write_text(text)
        return tmp_path / name

    cases: list[tuple[Any, dict[str, Any], str]] = [
        (tmp_path / "none", {}, r"log\.csv' is no log of a run: .*No such file.*give its folder"),
        (folder("empty", ""), {}, "or no epoch yet"),
        (folder("head", ",".join(COLUMNS) + "\n"), {}, "or no epoch yet"),
        (folder("other", "a,b\n1,2\n"), {}, "no column `epoch`"),
        (folder("damaged", "epoch,val_top1\n1,2,3\n"), {}, r"(?s)is no log of a run: .*got 3 columns"),
        ([good, blind], {}, r"`metric` \(='val_top1'\) is not in .*blind.*which has step, lr, train_loss"),
        (good, {"metric": "top1"}, "`metric` .*which has step, lr, train_loss"),
        (good, {"labels": ["a", "b"]}, "`labels` must be one for each of 1, not 2"),
        ([], {}, "`runs` is empty"),
    ]
    for runs, options, match in cases:
        with pytest.raises(ArgumentError, match=match):
            curves(runs, out, **options)
    with pytest.raises(ArgumentError, match=r"must end in one of \.png, \.svg, \.pdf"):
        curves(good, tmp_path / "a.gif")
    assert out.read_bytes() == b"old" and not list(tmp_path.glob(".*"))


def test_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = run(tmp_path / "a")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingError, match=r"pip install 'vpngen\[train\]'"):
        curves(folder, tmp_path / "a.png")
    filters(saved(tmp_path / "net.pth", conv1__weight=coloured()), tmp_path / "filters.png")


def test_lines_differ_for_those_who_lack_a_cone() -> None:
    """CIE 1976 distances of all pairs, as seen and as Machado et al., 2009, simulate protanopia, deuteranopia, tritanopia."""
    sights = [
        np.eye(3),
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    ]
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    srgb = np.array([rgb(colour) for colour in COLOURS]) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    for sight in sights:
        xyz = np.clip(linear @ np.transpose(sight), 0, 1) @ to_xyz.T / [0.9505, 1, 1.089]
        f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
        lab = np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], 1)
        assert min(float(np.linalg.norm(a - b)) for a, b in itertools.combinations(lab, 2)) > 20


# --- sweeps


def evaluation(share: float, metadata: Mapping[str, Any]) -> Evaluation:
    videos = {
        f"v{i}": Outcome(0, 1, ((int(i >= round(100 * share)), 1.0),), int(i >= round(100 * share))) for i in range(100)
    }
    return Evaluation(("a", "b"), videos, (100, round(100 * share), 100), metadata=metadata)


Write = Callable[..., Path]


@pytest.fixture
def points(tmp_path: Path) -> Write:
    """A function that writes an evaluation of weights made from a set of so many categories and instances."""
    numbers = itertools.count()

    def write(
        share: float, categories: int = 0, instances: int = 200, kind: str = "ucf101", seed: int = 0, split: int = 1,
        through: bool = False, **more: Any,
    ) -> Path:  # fmt: skip
        made = (
            {"source": {"spec": vpngen.perlin(categories, instances).to_dict()}, "parent": None} if categories else None
        )
        if through:
            made = {"stage": "train", "source": {"kind": "kinetics"}, "parent": made}
        metadata = {
            "stage": "finetune", "model": {"name": "r3d18"}, "seed": seed, "source": {"kind": kind, "split": split},
            "parent": made, **more,
        }  # fmt: skip
        path = tmp_path / "points" / str(next(numbers)) / "evaluation.json"
        evaluation(share, metadata).write(path)
        return path

    return write


def series(axes: Any) -> dict[str, tuple[Any, Any]]:
    """Label -> (what its x ticks say, y) of each error bar line."""
    ticks = dict(zip(axes.get_xticks(), [t.get_text() for t in axes.get_xticklabels()], strict=True))
    found = {}
    for container in axes.containers:
        xs, ys = container.lines[0].get_data()
        found[container.get_label()] = [ticks[x] for x in xs], [round(100 * float(y), 6) for y in ys]
    return found


def test_a_sweep_over_categories(points: Write, tmp_path: Path, drawn: Figures) -> None:
    for kind, base in (("ucf101", 0.3), ("hmdb51", 0.1)):
        for step, categories in enumerate((0, 16, 64, 400)):
            for seed, off in ((0, -0.02), (1, 0.02)):
                points(base + 0.1 * step + off, categories, kind=kind, seed=seed, through=kind == "hmdb51")
    sweep(tmp_path / "points", tmp_path / "figure3.svg")
    (axes,) = drawn[0].axes
    ticks = ["0\nscratch", "16", "64", "400"]
    assert series(axes) == {"UCF-101": (ticks, [30, 40, 50, 60]), "HMDB-51": (ticks, [10, 20, 30, 40])}
    bar = axes.containers[0].lines[2][0].get_segments()[0]
    assert bar[1][1] - bar[0][1] == pytest.approx(2 * np.std([0.08, 0.12], ddof=1))
    xs = [axes.transData.transform((size, 0))[0] for size in (0, 16, 32, 64)]
    assert np.ptp(np.diff(xs)) < 1e-6, "doublings; scratch is a step before"
    text = (tmp_path / "figure3.svg").read_text()
    assert "HMDB-51" in text and "scratch" in text and "categories of the initialization" in text


def test_a_sweep_over_instances(points: Write, tmp_path: Path, drawn: Figures) -> None:
    paths = [points(0.2), points(0.5, 256, 512), points(0.3, 256, 16), points(0.4, 256, 128)]
    sweep(paths, tmp_path / "a.png", x="instances")
    (axes,) = drawn[0].axes
    assert series(axes) == {"UCF-101": (["0\nscratch", "16", "128", "512"], [20, 30, 40, 50])}
    assert "instances of each category" in axes.get_xlabel() and axes.get_legend() is None
    assert not axes.containers[0].has_yerr, "one seed has no std"
    assert (pixels(tmp_path / "a.png") == rgb(COLOURS[0])).all(-1).sum() > 100


def test_other_sizes_are_lines_of_their_own(points: Write, tmp_path: Path, drawn: Figures) -> None:
    paths = [points(0.1), points(0.2, 16, 100), points(0.3, 64, 100), points(0.4, 16, 200), points(0.5, 64, 200)]
    sweep(paths, tmp_path / "a.png")
    assert series(drawn[0].axes[0]) == {
        "UCF-101, 100 instances": (["0\nscratch", "16", "64"], [10, 20, 30]),
        "UCF-101, 200 instances": (["0\nscratch", "16", "64"], [10, 40, 50]),
    }


def test_a_point_is_the_mean_over_splits(points: Write, tmp_path: Path, drawn: Figures) -> None:
    paths = [points(share, 16, split=split, seed=seed) for share, split, seed in
             ((0.1, 1, 0), (0.3, 2, 0), (0.5, 1, 1), (0.7, 2, 1))]  # fmt: skip
    sweep(paths, tmp_path / "a.png")
    (axes,) = drawn[0].axes
    assert series(axes) == {"UCF-101": (["16"], [40])}
    low, high = axes.containers[0].lines[2][0].get_segments()[0][:, 1]
    assert high - low == pytest.approx(2 * np.std([0.2, 0.6], ddof=1))


def test_series_by_model_and_other_metrics(points: Write, tmp_path: Path, drawn: Figures) -> None:
    paths = [points(0.2, 16, model={"name": name}, kind="hmdb51", split=2) for name in ("r3d18", "r3d50")]
    sweep(paths, tmp_path / "a.png", series="model", metric="window_average")
    (axes,) = drawn[0].axes
    assert series(axes) == {"r3d18": (["16"], [60]), "r3d50": (["16"], [60])}
    assert axes.get_ylabel() == "mean of top-1 and top-5 of windows"


def test_sweeps_that_make_no_sense(points: Write, tmp_path: Path) -> None:
    good = points(0.2, 16)
    twice = points(0.3, 16)
    out = tmp_path / "a.png"
    lacking = [points(0.2, 64), points(0.2, 64, split=2), points(0.2, 64, seed=1)]
    damaged = points(0.1, parent={"source": {"spec": {"seed": 0}}})
    (tmp_path / "empty").mkdir()
    cases: list[tuple[Any, dict[str, Any], str]] = [
        ([good, twice], {}, "two evaluations are of UCF-101, 16 categories, split 1, seed 0"),
        (lacking, {}, "UCF-101, 64 categories: `evaluations` lacks split 2 of seed 1"),
        (damaged, {}, "spec"),
        (tmp_path / "empty", {}, r"holds no evaluation\.json"),
        (tmp_path / "none.json", {}, "is no evaluation: .*No such file"),
        ([], {}, "`points` is empty"),
        (good, {"x": "frames"}, "must be one of categories, instances"),
        (good, {"series": "seed"}, "must be one of target, model"),
        (good, {"metric": "top2"}, "must be one of top1"),
    ]
    for given_, options, match in cases:
        with pytest.raises(ArgumentError, match=match):
            sweep(given_, out, **options)
    assert not out.exists()
    sweep([good, good], out)
    assert out.exists(), "a file that is named twice is one"


def test_confusion(tmp_path: Path, drawn: Figures) -> None:
    videos = {f"v{i}": Outcome(label, 1, ((guess, 1.0),), int(label != guess)) for i, (label, guess) in
              enumerate([(0, 0), (0, 0), (0, 1), (0, 2), (1, 1)])}  # fmt: skip
    (tmp_path / "run").mkdir()
    Evaluation(("left", "right", "up"), videos, (5, 3, 5)).write(tmp_path / "run" / "evaluation.json")
    confusion(tmp_path / "run", tmp_path / "a.svg")
    axes = drawn[0].axes[0]
    assert axes.images[0].get_array().tolist() == [[0.5, 0.25, 0.25], [0, 1, 0], [0, 0, 0]]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["left", "right", "up"]
    with pytest.raises(ArgumentError, match="No such file"):
        confusion(tmp_path / "none", tmp_path / "a.png")
