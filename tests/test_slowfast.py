"""SlowFast and its paths: the logits of pytorchvideo, the names of PySlowFast, the frames each path sees, and what does not fit."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import shallow
from test_models import by_formula, clips, digest_of, formula_model, on_meta
from test_weights import flat_features, flat_state

from vpngen.errors import ArgumentError, ConflictError
from vpngen.models import create_model, inflate, load_weights, replace_head, save_reference
from vpngen.models.base import find
from vpngen.models.slowfast import Head, sampled
from vpngen.models.weights import recognize

TABLE_7 = {
    "alpha": 8, "beta": 4, "width": 0.125, "in_channels": 2, "lateral_frames": 5, "stem_frames": 3, "stem_size": 3,
}  # fmt: skip
SMALL: list[tuple[str, dict[str, Any]]] = [
    ("slowfast50", {"width": 0.125}), ("slow50", {"width": 0.0625}), ("fast50", {"width": 0.25}),
]  # fmt: skip


@pytest.fixture
def _shallow() -> Iterator[None]:
    with shallow():
        yield


# --- pytorchvideo and PySlowFast


@pytest.mark.parametrize(
    ("name", "options", "digest"),
    [
        ("slowfast50", {"lateral_frames": 5, "alpha": 8}, "1bb316cfccd3147f"),
        (
            "slowfast50",
            {"beta": 4, "width": 0.5, "in_channels": 2, "stem_frames": 3, "stem_size": 3},
            "953fd939a8d59485",
        ),
        ("slowfast101", {"temporal_blocks": 6}, "405b1d9ca57ce36c"),
    ],
)
def test_names_and_shapes_with_options(name: str, options: dict[str, Any], digest: str) -> None:
    """Those of pytorchvideo's create_slowfast: the first is SLOWFAST_4x16_R50.pyth, the last SLOWFAST_16x8_R101_50_50.pyth."""
    model = on_meta(name, **options)
    assert digest_of(model) == digest
    assert recognize(model.state_dict(), {}) == {"name": name, "options": options, "num_classes": 400}


@pytest.mark.parametrize(
    ("name", "options", "clip", "logits"),
    [
        ("slowfast50", {}, (20, 48, 48), [205.489034292, 12.1313290128, -350.746824073, -2.32472579092, -172.468548961]),
        ("slowfast50", TABLE_7, (16, 48, 48), [-5.81538347962, -27.7902759405, -80.5721644473, 51.3526276567, -10.0513430628]),
        ("slowfast101", {"width": 0.125, "temporal_blocks": 6}, (16, 48, 48), [-18664.6363072, -144536.37632, -355510.431895, 194012.574921, 259331.611113]),
        ("slowfast50", {"width": 0.125}, (4, 256, 288), [-490.318568861, -480.821140143, 284.175656728, 1002.67693009, 386.938131959]),
        ("slow50", {}, (20, 48, 48), [-339.039534626, -240.813073703, 172.929490243, -81.0863729927, -41.4807289482]),
        ("slow50", {"width": 0.125, "stem_size": 3}, (2, 256, 256), [-819.385042876, -79.407593104, -2354.05779073, -331.662568668, -1535.65276891]),
        ("fast50", {}, (20, 48, 48), [-878.797716963, -1440.67197519, -1688.73919851, 1037.48240738, -545.110921461]),
    ],
)  # fmt: skip
def test_logits_are_those_of_pytorchvideo(
    name: str, options: dict[str, Any], clip: tuple[int, int, int], logits: list[float]
) -> None:
    """In float64, of its create_slowfast and create_resnet with the weights of `by_formula`, in evaluation.

    The frames of the slow path are PySlowFast's. The pooling kernel is 7 x 7, or all of a smaller clip.
    """
    with torch.no_grad():
        found = formula_model(name, **options)(clips(1, options.get("in_channels", 3), *clip))[0].double()
    expected = torch.tensor(logits, dtype=torch.float64)
    assert (found - expected).abs().max() < 3e-5 * expected.abs().max()


def pyslowfast(name: str) -> str:
    """What PySlowFast calls weights that pytorchvideo calls `name`."""
    name = re.sub(r"multipathway_blocks\.(\d)\.", r"pathway\1_", name)
    name = re.sub(r"^(blocks\.\d\.)(?!pathway|multi)", r"\1pathway0_", name)
    name = re.sub(r"blocks\.(\d)\.multipathway_fusion", lambda m: f"s{int(m[1]) + 1}_fuse", name)
    name = re.sub(r"^blocks\.\d\.(pathway0_)?proj", "head.projection", name)
    name = re.sub(r"^blocks\.(\d)", lambda m: f"s{int(m[1]) + 1}", name)
    name = re.sub(r"(pathway\d_)(conv|norm)\.", r"\1stem.\2.", name)
    name = name.replace("res_blocks.", "res").replace("branch1_conv", "branch1").replace("branch1_norm", "branch1_bn")
    name = re.sub(r"norm_([abc])", r"\1_bn", name)
    return re.sub(r"conv_([abc])\b", r"\1", name).replace("norm", "bn").replace("conv_fast_to_slow", "conv_f2s")


@pytest.mark.parametrize(
    ("name", "digest"), [("slowfast50", "b6d2ea067a358421"), ("slow50", "0ead40cdb38322ae")]
)  # fmt: skip
def test_names_of_pyslowfast(name: str, digest: str) -> None:
    """Digests of its SlowFast and ResNet, as its own configurations make them."""
    model = on_meta(name)
    state = {pyslowfast(n): v for n, v in model.state_dict().items()}
    lines = "".join(f"{key} {tuple(value.shape)}\n" for key, value in state.items())
    assert hashlib.sha256(lines.encode()).hexdigest()[:16] == digest
    assert recognize(state, {}) == {"name": name, "options": {}, "num_classes": 400}
    own_name = find(name)[0].own_name
    assert [own_name(n) for n in state] == [own_name(f"model.{n}") for n in model.state_dict()] == [*model.state_dict()]


@pytest.mark.usefixtures("_shallow")
@pytest.mark.parametrize(("name", "options"), SMALL)
def test_a_checkpoint_of_pyslowfast_is_loaded(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    model, other = formula_model(name, **options), create_model(name, 5, **options)
    state = {pyslowfast(n): v for n, v in model.state_dict().items()}
    torch.save({"epoch": 196, "model_state": state, "optimizer_state": {}, "cfg": "TRAIN:\n"}, tmp_path / "x.pyth")
    load_weights(other, tmp_path / "x.pyth")
    assert all(torch.equal(v, model.state_dict()[n]) for n, v in other.state_dict().items())


# --- which frames, which places


@pytest.mark.parametrize(
    ("frames", "alpha", "taken"),
    [
        (32, 4, [0, 4, 8, 13, 17, 22, 26, 31]),
        (32, 8, [0, 10, 20, 31]),
        (16, 4, [0, 5, 10, 15]),
        (18, 4, [0, 4, 8, 12, 17]),
        (5, 4, [0, 4]),
        (4, 4, [0]),
        (1, 4, [0]),
        (3, 1, [0, 1, 2]),
        (7, 100, [0]),
    ],
)
def test_frames_of_the_slow_path(frames: int, alpha: int, taken: list[int]) -> None:
    numbers = torch.arange(frames).float()[None, None, :, None, None].expand(2, 3, frames, 2, 1)
    found = sampled(numbers, alpha)
    assert found.shape == (2, 3, len(taken), 2, 1) and found[0, 0, :, 0, 0].tolist() == taken
    if frames % alpha == 0:
        assert torch.linspace(0, frames - 1, frames // alpha).long().tolist() == taken


@pytest.mark.usefixtures("_shallow")
def test_clips_of_any_number_of_frames() -> None:
    for name, options in [*SMALL, ("slow50", {"width": 0.0625, "alpha": 4})]:
        model = formula_model(name, **options)
        for frames in (1, 2, 3, 4, 5, 7, 18):
            with torch.no_grad():
                assert model(clips(2, 3, frames, 17, 40)).isfinite().all(), (name, frames)


@pytest.mark.usefixtures("_shallow")
def test_the_slow_path_alone_may_sample_as_it_does_in_both() -> None:
    """And sees the whole clip otherwise."""
    x = clips(1, 3, 16, 32, 32)
    few, all_ = (formula_model("slow50", width=0.0625, **option) for option in ({"alpha": 4}, {}))
    with torch.no_grad():
        assert torch.equal(few(x), all_(x[:, :, [0, 5, 10, 15]])) and not torch.equal(few(x), all_(x))


@pytest.mark.parametrize(
    ("side", "values"), [(7, {0, 2}), (4, {0, 2}), (8, {0, 0.5, 1, 1.5, 2}), (1, {0, 2})]
)  # fmt: skip
def test_dropout_is_of_each_place(side: int, values: set[float]) -> None:
    torch.manual_seed(0)
    head = Head(3000, 5, 0.5)
    found = head.train()(torch.ones(1, 2000, 2, side, side), torch.ones(1, 1000, 8, side, side))
    assert found.shape == (1, 3000) and set(found.unique().tolist()) == values
    assert float(found.mean()) == pytest.approx(1, abs=0.1)
    assert (head.eval()(torch.ones(1, 3000, 2, side, side)) == 1).all()


# --- initialization and inflation


@pytest.mark.usefixtures("_shallow")
@pytest.mark.parametrize(("name", "options"), SMALL)
def test_fresh_weights(name: str, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = create_model(name, 400, **options)
    replaced = create_model(name, 5, **options)
    replace_head(replaced, 400)
    for each in (model, replaced):
        for key, value in each.state_dict().items():
            if key.endswith("norm_c.weight"):
                assert (value == 0).all()
            elif "norm" in key and key.endswith("weight"):
                assert (value == 1).all(), key
            elif key.endswith("proj.weight"):
                assert float(value.std()) == pytest.approx(0.01, rel=0.05)
            elif key.endswith("bias"):
                assert (value == 0).all(), key


def test_the_slow_path_is_inflated() -> None:
    """A video that does not move gives what its image gives, nine frames from its ends: nine kernels span three."""
    flat = flat_state("r3d50", width=0.0625)
    state = {n: v.double() if v.is_floating_point() else v for n, v in flat.items()}
    model = create_model("slow50", 5, width=0.0625).double().eval()
    inflate(model, state)
    image, found = clips(1, 3, 32, 32).double(), []
    model.get_submodule("blocks.4").register_forward_hook(lambda *args: found.append(args[2]))
    with torch.no_grad():
        model(image.unsqueeze(2).expand(-1, -1, 24, -1, -1))
        expected = flat_features(state, image)
    error = (found[0] - expected.unsqueeze(2)).abs().amax((0, 1, 3, 4)) / expected.abs().max()
    assert (error[9:15] < 1e-12).all() and error[0] > 1e-3 and error[-1] > 1e-3
    assert torch.equal(model.get_parameter("blocks.5.proj.weight"), state["fc.weight"])
    with pytest.raises(ArgumentError, match=r"`model` \(SlowFast\) takes no weights of images"):
        inflate(on_meta("slowfast50"), state)


# --- what does not fit


@pytest.mark.parametrize(
    ("name", "options", "into", "said"),
    [
        ("slowfast101", {"width": 0.125}, "slowfast50", "slowfast101, as made by create_model(name='slowfast101', num_classes=5, width=0.125)"),
        ("slowfast50", {"width": 0.125}, "slowfast101", "slowfast50, as made by create_model(name='slowfast50', num_classes=5, width=0.125)"),
        ("slow101", {"width": 0.125}, "slow50", "slow101, as made by create_model(name='slow101', "),
        ("fast101", {"width": 0.5}, "fast50", "fast101, as made by create_model(name='fast101', "),
        ("fast50", {"width": 0.5, "stem_frames": 1}, "slow50", "fast50, as made by create_model(name='fast50', num_classes=5, width=0.5, stem_frames=1)"),
        ("slow50", {"width": 0.125, "stem_size": 3}, "fast50", "slow50, as made by create_model(name='slow50', num_classes=5, width=0.125, stem_size=3)"),
        ("slow50", {"width": 0.125}, "slowfast50", "slow50, as made by "),
        ("slowfast50", {"width": 0.125, "lateral_frames": 5}, "slowfast50", "slowfast50, as made by create_model(name='slowfast50', num_classes=5, width=0.125, alpha=8, lateral_frames=5)"),
        ("r3d50", {"width": 0.125}, "slow50", "r3d50, as made by create_model(name='r3d50', num_classes=5, width=0.125)"),
    ],
)  # fmt: skip
def test_weights_of_another(name: str, options: dict[str, Any], into: str, said: str, tmp_path: Path) -> None:
    state = by_formula(on_meta(name, 5, **options).state_dict())
    torch.save({"model_state": state}, tmp_path / "other.pyth")
    with pytest.raises(ConflictError, match=re.escape(f"holds weights of {said}") + ".*which does not fit this model"):
        load_weights(create_model(into, 5, width=0.125), tmp_path / "other.pyth")


def test_a_path_of_a_whole_is_not_it(tmp_path: Path) -> None:
    """What PySlowFast calls pathway0 is the slow path of a SlowFast too."""
    model = formula_model("slowfast50", width=0.125)
    save_reference(tmp_path / "ours.pth", model, "slowfast", 1)
    state = {pyslowfast(n): v for n, v in model.state_dict().items()}
    torch.save(state, tmp_path / "theirs.pth")
    for file in ("ours.pth", "theirs.pth"):
        with pytest.raises(ConflictError, match=r"(?s)weights of slowfast50, .*does not fit this model:"):
            load_weights(create_model("slow50", 5, width=0.125), tmp_path / file)


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("slowfast50", {"lateral_frames": 4}, r"`lateral_frames` \(=4\) must be odd"),
        ("slowfast50", {"stem_size": 2}, r"`stem_size` \(=2\) must be odd"),
        ("slowfast50", {"alpha": 0}, r"`alpha` \(=0\) must be an integer from 1"),
        ("slowfast50", {"beta": 2.0}, "`beta`"),
        ("slowfast50", {"beta": 65}, "`width` .* must be at least 1.01562 for this model"),
        ("slowfast50", {"width": 0.1}, "`width` .* must be at least 0.125"),
        ("slowfast50", {"temporal_blocks": 0}, "`temporal_blocks`"),
        ("slow50", {"dropout": 1}, r"`dropout` \(=1\) must be a number in \[0, 1\)"),
        ("slow50", {"alpha": True}, "`alpha`"),
        ("slow50", {"beta": 8}, "`beta` is no option of slow50; it has alpha, dropout, in_channels, stem_size, width"),
        ("fast50", {"alpha": 4}, "`alpha` is no option of fast50; it has beta, dropout, in_channels, stem_frames, width"),
        ("fast50", {"stem_frames": 6}, r"`stem_frames` \(=6\) must be odd"),
        ("slowfast50", {"shortcut": "A"}, "`shortcut` is no option of slowfast50"),
    ],
)  # fmt: skip
def test_bad_options(name: str, options: dict[str, Any], match: str) -> None:
    with pytest.raises(ArgumentError, match=match):
        create_model(name, 5, **options)
