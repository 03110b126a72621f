"""The networks: the counts, names, shapes and logits of 3D-ResNets-PyTorch, gradients everywhere, and clips of any size."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vpngen.errors import ArgumentError, MissingError
from vpngen.models import MODELS, create_model
from vpngen.models.base import find, reference_arch
from vpngen.models.densenet import TemporalTransition
from vpngen.models.resnet import Zeros


def noise(n: int) -> np.ndarray:
    """Numbers in [-1, 1): the generator splitmix64, so that no library's random numbers are needed to make them again."""
    x = np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((x ^ (x >> np.uint64(31))) >> np.uint64(40)).astype(np.float32) / np.float32(2**23) - 1


NOISE = noise(65521)


def by_formula(shapes: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights and statistics that are a function of the names, order and shapes alone."""
    state = {}
    for i, (name, value) in enumerate(shapes.items()):
        n = torch.from_numpy(np.resize(np.roll(NOISE, 1009 * i), tuple(value.shape) or 1))
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(7)
        elif name.endswith("running_var") or (value.ndim == 1 and name.endswith("weight")):
            state[name] = 1 + n / 2
        elif value.ndim == 1:
            state[name] = n / 5
        else:
            state[name] = n * (3 / value[0].numel()) ** 0.5 * (2**0.5 if value.ndim > 2 else 1)
    return state


def clips(*shape: int) -> torch.Tensor:
    """(N, C, T, Y, X)."""
    return torch.from_numpy(np.resize(NOISE, shape))


def on_meta(name: str, num_classes: int = 400, **options: Any) -> nn.Module:
    with torch.device("meta"):
        return create_model(name, num_classes, **options)


def formula_model(name: str, num_classes: int = 5, **options: Any) -> nn.Module:
    model = on_meta(name, num_classes, **options)
    model.load_state_dict(by_formula(model.state_dict()), assign=True)
    return model.eval().requires_grad_()


WITHDRAWN: dict[str, Any] = {
    "transition": "ttl+conv", "ttl_channels": [128, 128, 128], "ttl_depths": [[1, 3, 4]], "pool_stride": 2,
}  # fmt: skip
"""The options of T3D that give the file that its authors withdrew."""
SMALL = [
    ("r3d10", {"width": 0.125}),
    ("r3d18", {"width": 0.125, "shortcut": "A"}),
    ("r3d50", {"width": 0.125, "max_pool": False}),
    ("r3d50", {"width": 0.125, "shortcut": "A"}),
    ("r2p1d10", {"width": 0.125}),
    ("r2p1d50", {"width": 0.125}),
    ("preact10", {"width": 0.125}),
    ("preact50", {"width": 0.125, "shortcut": "A"}),
    ("wide50", {"width": 0.125}),
    ("resnext50", {"width": 0.25}),
    ("densenet121", {"width": 0.125}),
    ("t3d121", {"width": 0.125, "transition": "ttl+conv"}),
]
"""One of every kind of block, narrow."""


# --- the reference

SHAPES = [
    ("r3d10", "B", 14_604_624, 74, "bfb650866a768218"),
    ("r3d10", "A", 14_430_800, 56, "70a3f8249c410941"),
    ("r3d18", "B", 33_409_104, 122, "8200db73d1565cc4"),
    ("r3d18", "A", 33_235_280, 104, "68c98dba1fb6c055"),
    ("r3d34", "B", 63_718_736, 218, "7530c453a012366a"),
    ("r3d34", "A", 63_544_912, 200, "ae330e9b0380f7e1"),
    ("r3d50", "B", 47_018_576, 320, "fe5056ec3854b9c1"),
    ("r3d50", "A", 44_242_000, 296, "bef8e0bc5cd5a8c3"),
    ("r3d101", "B", 86_064_720, 626, "7182be8bc63ead0c"),
    ("r3d152", "B", 118_223_440, 932, "d08b8c53627c73c7"),
    ("r3d200", "B", 127_423_056, 1220, "e1d6e10b00f2fbe9"),
    ("r2p1d10", "B", 14_608_044, 128, "c8efc5ed7179840a"),
    ("r2p1d18", "B", 33_421_164, 224, "85f4a74f2dfcac96"),
    ("r2p1d18", "A", 33_247_340, 206, "4f79d9ebb1969931"),
    ("r2p1d34", "B", 63_747_500, 416, "7b2707377b9da562"),
    ("r2p1d50", "B", 47_035_382, 422, "2c0642fbe9712a06"),
    ("r2p1d101", "B", 86_101_110, 830, "8831f390ada0aef4"),
    ("r2p1d152", "B", 118_277_110, 1238, "21e835a7f3d59230"),
    ("r2p1d200", "B", 127_485_942, 1622, "4b1509dccaaa5920"),
    ("preact10", "B", 14_603_728, 74, "49236dd9f3bfcab7"),
    ("preact18", "B", 33_408_208, 122, "55bff0b6cd2f3b2b"),
    ("preact18", "A", 33_234_384, 104, "6c5e4a332c562cc7"),
    ("preact34", "B", 63_717_840, 218, "41e993c0c80ef719"),
    ("preact50", "B", 47_014_608, 320, "7a117ec920279f53"),
    ("preact101", "B", 86_060_752, 626, "5b0232b10e83e059"),
    ("preact152", "B", 118_219_472, 932, "b6e04ee0985634f8"),
    ("preact200", "B", 127_419_088, 1220, "6625ce5f5cb914a7"),
    ("wide50", "B", 158_248_272, 320, "e116ddf3e6eb1112"),
    ("resnext50", "B", 26_685_264, 320, "1a02dcd69c256bcf"),
    ("resnext101", "B", 48_340_816, 626, "8e1bdc40616f5793"),
    ("resnext152", "B", 66_178_896, 932, "c157acee039c6ece"),
    ("densenet121", "B", 11_696_528, 727, "c2afc3774cf309c2"),
    ("densenet169", "B", 19_252_624, 1015, "4b1e313a4930b3a4"),
    ("densenet201", "B", 26_143_120, 1207, "f3400bf8d5025f27"),
    ("densenet264", "B", 41_365_392, 1591, "33153cefe394ba09"),
    ("densenet3d121", "B", 11_658_896, 727, "5a4a1f7887d4544f"),
    ("densenet3d169", "B", 19_214_992, 1015, "56a5265d3a0222f3"),
    ("t3d121", "B", 15_311_504, 763, "2bb9789c4866b215"),
    ("t3d169", "B", 23_368_336, 1051, "25b3117eeb612695"),
    ("slowfast50", "", 34_566_488, 662, "43e9bbf549124f5f"),
    ("slowfast101", "", 62_826_968, 1274, "05f3138d017144e0"),
    ("slow50", "", 32_454_096, 320, "be90e04c162b0f25"),
    ("slow101", "", 60_359_120, 626, "37c5de2b4c0971fb"),
    ("fast50", "", 616_952, 320, "90e950e1e45f4bb9"),
    ("fast101", "", 1_058_680, 626, "0c34aeaf1c2b4164"),
    ("i3d", "", 12_697_264, 344, "087815e828517c6c"),
    ("inception3d", "", 14_643_696, 464, "c2ef0c1d591ee877"),
    ("c3d", "", 79_634_576, 22, "d21358ce2194299b"),
    ("c3d_bn", "", 27_866_640, 58, "9ff15bacca92d756"),
    ("alexnet3d", "", 63_652_816, 26, "1f5fbe2ce6237736"),
]
"""Model, shortcut, parameters, entries of the state dict, and the start of the sha256 of its lines "name shape", in order.

Computed from the classes of kenshohara/3D-ResNets-PyTorch, 400 classes: `r3d`, `r2p1d` and `densenet` from its master branch, the
others from its CVPR 2018 branch. `densenet3d` from the class of MohsenFayyaz89/T3D, by the names that `own_name` gives; `t3d` from the
same class with the transitions of table 1 of the paper written into it; `slowfast`, `slow` and `fast` from facebookresearch/pytorchvideo.
Of piergiaj/pytorch-i3d (whose classifier comes first in its state dict), of the common port of C3D, and of
xudejing/video-clip-order-prediction. Those of MohsenFayyaz89/T3D's Inception3D by our names; `alexnet3d` has no reference.
"""


def digest_of(model: nn.Module) -> str:
    lines = "".join(f"{key} {tuple(value.shape)}\n" for key, value in model.state_dict().items())
    return hashlib.sha256(lines.encode()).hexdigest()[:16]


@pytest.mark.parametrize(("name", "shortcut", "parameters", "entries", "digest"), SHAPES)
def test_names_and_shapes_are_those_of_the_reference(
    name: str, shortcut: str, parameters: int, entries: int, digest: str
) -> None:
    model = on_meta(name, **({"shortcut": shortcut} if shortcut == "A" else {}))
    state = model.state_dict()
    assert (sum(p.numel() for p in model.parameters()), len(state)) == (parameters, entries)
    assert digest_of(model) == digest


@pytest.mark.parametrize(
    ("name", "options", "digest"),
    [
        ("r3d18", {"in_channels": 2, "stem_frames": 4, "width": 0.3}, "523053517dfed78d"),
        ("r3d50", {"width": 1.3, "shortcut": "A"}, "3aa47cea26e7da05"),
        ("r2p1d18", {"in_channels": 2}, "ceac721faf252c7b"),
        ("r2p1d50", {"stem_frames": 3, "width": 0.3, "shortcut": "A"}, "13f80e8edbb714f9"),
        ("densenet121", {"in_channels": 2, "stem_frames": 3}, "f0fe6831a7e72d93"),
        ("t3d121", WITHDRAWN, "646fbc7663e19bae"),
        ("t3d169", WITHDRAWN, "3e1e8eabf9ea4536"),
    ],
)
def test_and_so_they_are_with_options(name: str, options: dict[str, Any], digest: str) -> None:
    """Digests of the master branch, as above; of `t3d` those of the file that its authors withdrew, with its syntax and padding mended."""
    assert digest_of(on_meta(name, **options)) == digest


def test_every_model_is_among_them() -> None:
    assert {name for name, *_ in SHAPES} == set(MODELS) and len(set(MODELS)) == len(MODELS)


LOGITS = {
    ("r3d10", "B"): [-0.0323356826577, -2.78074303152, -1.92207565684, -0.997228358577, -4.2731528129],
    ("r3d18", "A"): [1.79279826098, 0.37804705021, 0.181106952604, -1.09591333764, -3.58427635885],
    ("r3d50", "B"): [-191.639056799, 97.5217093583, 67.1547551602, -4.47085677235, -63.9414491924],
    ("r2p1d10", "B"): [6.12413846006, 4.10832992411, -1.83376678442, 4.56824489815, 2.5213115414],
    ("r2p1d50", "B"): [-255.368413222, 402.651179009, 299.987907499, 110.449875441, 317.910498802],
    ("preact10", "B"): [-0.523910359541, 4.79316599133, -6.40744133278, 0.527721257939, -4.17371519653],
    ("preact50", "B"): [-132.803450818, 14.097062704, 404.373178502, 378.512258492, 63.3692526488],
    ("wide50", "B"): [-38.4130624637, -42.3433996913, 174.162225621, 94.5600956722, -74.2122921884],
    ("resnext50", "B"): [-139.230433432, 40.7824963521, 679.207982606, 328.761898749, -203.91870562],
    ("densenet121", "B"): [-0.5710154576, 1.26525663053, -0.45901142704, 0.248637202597, -0.595454497944],
    ("densenet3d121", "B"): [-0.559223250414, 1.21825401417, -0.491059166841, 0.236052398355, -0.601333701146],
    ("t3d121", "B"): [0.540605665831, -1.12235118113, 0.713661122503, 0.327252682914, -0.729911175462],
}
"""What the reference's classes give in float64 for `clips(1, 3, 20, 48, 48)` with the weights of `by_formula`, in evaluation."""


@pytest.mark.parametrize(("name", "shortcut"), LOGITS)
def test_logits_are_those_of_the_reference(name: str, shortcut: str) -> None:
    model = formula_model(name, **({"shortcut": "A"} if shortcut == "A" else {}))
    with torch.no_grad():
        found = model(clips(1, 3, 20, 48, 48))[0].double()
    expected = torch.tensor(LOGITS[name, shortcut], dtype=torch.float64)
    assert (found - expected).abs().max() < 3e-5 * expected.abs().max()


OTHERS: list[tuple[str, dict[str, Any], tuple[int, int, int], list[float]]] = [
    ("i3d", {}, (20, 48, 48), [5.14369422505, 10.6688722347, 4.88325516505, 6.88934457823, -2.94610050518]),
    ("inception3d", {}, (20, 48, 48), [4.34964244032, 2.6639059335, -0.307677514159, -5.55490541841, 7.4307479108]),
    ("c3d", {"width": 0.0625}, (16, 112, 112), [0.274846776387, -0.025650821387, 0.317285759135, 0.422557121933, 0.53437761628]),
    ("c3d_bn", {}, (20, 48, 48), [-0.137259466043, -0.379996817242, 0.418083154195, -0.9684733298, 0.662095505355]),
    (
        "alexnet3d", {"width": 0.125, "conv2_stride": 2, "pooled": 2}, (20, 127, 127),
        [-0.30475544444, -1.4550015558, -0.514283844397, 0.476985127785, -0.50834787975],
    ),
]  # fmt: skip
"""The same of the networks that others publish.

`i3d`, with a pooling that spans the map, and `c3d_bn` are what their reference's classes give. Whole, `c3d` and `inception3d` (padded
as I3D is) gave what theirs give to a part in 10^12. Of `alexnet3d` see `test_it_is_alexnet_where_a_video_does_not_move`.
"""


@pytest.mark.parametrize(("name", "options", "shape", "logits"), OTHERS, ids=[name for name, *_ in OTHERS])
def test_logits_of_the_networks_of_others(
    name: str, options: dict[str, Any], shape: tuple[int, int, int], logits: list[float]
) -> None:
    model = formula_model(name, **options)
    with torch.no_grad():
        found = model(clips(1, 3, *shape))[0].double()
    expected = torch.tensor(logits, dtype=torch.float64)
    assert (found - expected).abs().max() < 3e-5 * expected.abs().max()


@pytest.mark.parametrize(
    ("name", "options", "side", "left"),
    [
        ("i3d", {}, 224, (2, 7, 7)),
        ("i3d", {}, 112, (2, 4, 4)),
        ("inception3d", {}, 224, (2, 7, 7)),
        ("alexnet3d", {}, 224, (1, 6, 6)),
        ("alexnet3d", {"conv2_stride": 2, "pooled": 2}, 224, (1, 2, 2)),
        ("alexnet3d", {"pooled": 2}, 112, (1, 2, 2)),
        ("alexnet3d", {"conv2_stride": 2, "pooled": 1}, 112, (1, 1, 1)),
    ],
)
def test_what_is_left_to_average(name: str, options: dict[str, Any], side: int, left: tuple[int, int, int]) -> None:
    """Of the 9 frames that I3D needs and the 8 of Suzuki et al., 2018, whose table 1 prints 9,216 features: 256 x 6 x 6."""
    model, sizes = on_meta(name, **options), []
    last = model.get_submodule("pool3" if name == "alexnet3d" else "Mixed_5c")
    last.register_forward_hook(lambda *args: sizes.append(tuple(args[2].shape[2:])))
    model.eval()(torch.empty(1, 3, 8 if name == "alexnet3d" else 9, side, side, device="meta"))
    assert sizes == [left]


@pytest.mark.parametrize(
    ("name", "parameters"), [("c3d", 78_409_573), ("c3d_bn", 27_713_253), ("alexnet3d", 62_427_813)]
)
def test_parameters_at_the_classes_of_ucf101(name: str, parameters: int) -> None:
    assert sum(p.numel() for p in on_meta(name, 101).parameters()) == parameters


@pytest.mark.parametrize(
    ("name", "arch"),
    [
        ("r3d50", "resnet-50"),
        ("r2p1d18", "resnet2p1d-18"),
        ("preact200", "preresnet-200"),
        ("wide50", "wideresnet-50"),
        ("resnext101", "resnext-101"),
        ("densenet121", "densenet-121"),
        ("package.module:net", "package.module:net"),
        ("unknown", "unknown"),
    ],
)
def test_archs_of_the_reference(name: str, arch: str) -> None:
    assert reference_arch(name) == arch


# --- options


@pytest.mark.parametrize("family", ["r3d", "r2p1d", "densenet1"])
def test_options_do_what_they_say(family: str) -> None:
    name = next(n for n in MODELS if n.startswith(family))
    usual, changed = (
        on_meta(name),
        on_meta(name, 7, in_channels=2, stem_frames=3, stem_stride=2, max_pool=False, width=0.5),
    )
    first, second = (next(m for m in net.modules() if isinstance(m, nn.Conv3d)) for net in (usual, changed))
    assert (first.in_channels, second.in_channels) == (3, 2)
    sizes = {}
    for key, net in (("usual", usual), ("changed", changed)):
        stages = [m for n, m in net.named_modules() if n in ("layer1", "features.denseblock1")]
        stages[0].register_forward_pre_hook(lambda _, x, key=key: sizes.update({key: tuple(x[0].shape)}))
        assert net(torch.empty(1, 2 if net is changed else 3, 16, 112, 112, device="meta")).shape[1:] == (
            7 if net is changed else 400,
        )
    assert sizes == {"usual": (1, 64, 8, 28, 28), "changed": (1, 32, 8, 56, 56)}
    kernels = [m.kernel_size[0] for net in (usual, changed) for m in net.modules() if isinstance(m, nn.Conv3d)][:2]
    if family != "r2p1d":
        assert kernels[0] == 7 and second.kernel_size == (3, 7, 7)
    else:
        assert (usual.conv1_t.kernel_size, changed.conv1_t.kernel_size) == ((7, 1, 1), (3, 1, 1))


def test_splitting_takes_about_as_many_parameters() -> None:
    whole, split = (on_meta(name) for name in ("r3d18", "r2p1d18"))
    for stage in ("layer1", "layer2", "layer3", "layer4"):
        a, b = (sum(p.numel() for p in getattr(net, stage).parameters() if p.ndim == 5) for net in (whole, split))
        assert 0.99 * a < b <= a


@pytest.mark.parametrize(("stride", "frames"), [(1, [16, 8, 4, 2]), (2, [8, 4, 2, 1])])
def test_dense_nets_3d_have_the_sizes_of_the_table(stride: int, frames: list[int]) -> None:
    """Table 1 of Diba et al.; with a stride of 2 those of the code of its authors."""
    model, sizes = on_meta("t3d121", pool_stride=stride), []
    for stage in model.stages():
        model.get_submodule(stage).register_forward_hook(lambda *args: sizes.append(tuple(args[2].shape[2:])))
    model(torch.empty(1, 3, 32, 224, 224, device="meta"))
    assert sizes == [(t, side, side) for t, side in zip(frames, (56, 28, 14, 7), strict=True)]


def test_a_temporal_transition_layer_as_it_is_written() -> None:
    """Section 3.1 and table 1 of Diba et al.: side by side, each behind normalization and ReLU; an even depth is padded as Keras does."""
    layer = TemporalTransition(6, [(1, 2), (3, 3), (6, 4), (4, 1)]).eval()
    layer.load_state_dict(by_formula(layer.state_dict()))
    x, parts = clips(2, 6, 5, 4, 4), []
    for number, (front, back) in enumerate([(0, 0), (1, 1), (2, 3), (1, 2)], 1):
        part = layer.get_submodule(f"b{number}")
        padded = F.pad(F.relu(part.norm(x)), [int(number > 1)] * 4 + [front, back])
        parts.append(F.conv3d(padded, part.conv.weight))
    with torch.no_grad():
        assert (layer(x) - torch.cat(parts, 1)).abs().max() < 1e-5


@pytest.mark.parametrize("name", ["densenet121", "densenet3d121"])
def test_the_transitions_of_any_dense_net_can_be_temporal(name: str) -> None:
    """Nothing else of it changes."""
    usual, temporal = (
        {n: v.shape for n, v in on_meta(name, transition=kind).state_dict().items()} for kind in ("conv", "ttl")
    )
    assert {n for n in temporal if ".ttl" not in n} == {n for n in usual if ".transition" not in n}
    assert all(shape == temporal.get(n, shape) for n, shape in usual.items())


def test_depths_and_split_of_temporal_transition_layers_are_chosen() -> None:
    """A zero is a share of what is left of half the channels: here thirds."""
    model = on_meta("t3d121", ttl_channels=[0, 0, 0], ttl_depths=[[1, 3, 6], [5, 2, 1], [7, 1, 4]])
    kernels = [v.shape for n, v in model.state_dict().items() if ".ttl" in n and v.ndim == 5]
    assert [k[2] for k in kernels] == [1, 3, 6, 5, 2, 1, 7, 1, 4] and [k[0] for k in kernels[:3]] == [43, 43, 42]
    assert all(k[3:] == ((1, 1) if k[2] == 1 else (3, 3)) for k in kernels)


# --- gradients


@pytest.mark.parametrize("shortcut", ["A", "B"])
def test_gradients_are_those_of_the_function(shortcut: str) -> None:
    """Against differences, in float64: where a shortcut cuts the gradient, the two are far apart."""
    model = formula_model("r3d10", width=0.125, shortcut=shortcut).double()
    x = clips(1, 3, 8, 32, 32).double()
    model(x)[0, 0].backward()
    weight = model.conv1.weight
    slope = weight.grad
    step = 1e-6 * torch.sign(slope)
    with torch.no_grad():
        weight += step
        above = model(x)[0, 0]
        weight -= 2 * step
        below = model(x)[0, 0]
    assert float(above - below) == pytest.approx(2 * float((slope * step).sum()), rel=1e-3)


@given(st.tuples(*[st.integers(1, 7)] * 3), st.integers(1, 3), st.integers(0, 4), st.integers(1, 2))
def test_shortcut_a_is_pooling_and_zeros(size: tuple[int, ...], planes: int, new: int, stride: int) -> None:
    x = clips(2, planes, *size).requires_grad_()
    out = Zeros(planes, planes + new, stride)(x)
    pooled = F.avg_pool3d(x, 1, stride)
    assert torch.equal(out, torch.cat([pooled, torch.zeros_like(pooled[:, :1]).repeat(1, new, 1, 1, 1)], 1))
    out.sum().backward()
    assert x.grad is not None and x.grad.sum() == pooled.numel()


# --- clips, layouts, compilers


def test_the_table_of_the_docs_says_what_networks_are() -> None:
    """Parameters, and multiply-adds of a clip, by torch's own counter."""
    text = (Path(__file__).parents[1] / "docs/training.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| ([\d,]+) \| ([\d.]+) \| (\d+) x (\d+) x (\d+) \|", text, re.MULTILINE)
    assert len(rows) > 25 and {find(name)[0] for name, *_ in rows} == {find(name)[0] for name in MODELS}
    counted_entries = {name: entries for name, _, _, entries, _ in SHAPES}
    counted = {name: count for name, shortcut, count, *_ in SHAPES if shortcut != "A"}
    assert {name: int(count.replace(",", "")) for name, count, *_ in rows} == {name: counted[name] for name, *_ in rows}
    kinds = {
        find(row[0])[0]: row for row in reversed(rows)
    }  # the least of each; those of few layers are quick to count
    for name, _, macs, *clip in kinds.values():
        if counted_entries[name] > 350:
            continue
        with torch.no_grad(), torch.device("meta"), FlopCounterMode(display=False) as counter:
            on_meta(name).eval()(torch.zeros(1, 3, *map(int, clip)))
        assert f"{counter.get_total_flops() / 2e9:.1f}" == macs, name


@pytest.mark.parametrize(
    ("name", "shape"), [("r3d10", (16, 112, 112)), ("r3d10", (64, 224, 224)), ("densenet121", (16, 112, 112))]
)
def test_the_clips_of_the_papers(name: str, shape: tuple[int, int, int]) -> None:
    with torch.no_grad():
        assert formula_model(name, width=1 / 16)(clips(1, 3, *shape)).isfinite().all()


@settings(max_examples=10)
@given(st.sampled_from(SMALL), st.tuples(*[st.integers(1, 40)] * 3), st.integers(1, 2))
def test_clips_of_any_size(small: tuple[str, dict[str, Any]], shape: tuple[int, int, int], n: int) -> None:
    name, options = small
    with torch.no_grad():
        logits = formula_model(name, **options)(clips(n, 3, *shape))
    assert logits.shape == (n, 5) and logits.isfinite().all()


@pytest.mark.parametrize("name", ["r3d10", "r2p1d10", "preact10", "densenet121"])
def test_fresh_weights_follow_he(name: str) -> None:
    torch.manual_seed(0)
    model = create_model(name, 5, width=0.5)
    for key, module in model.named_modules():
        if isinstance(module, nn.Conv3d) and module.weight.numel() > 20_000:
            fan_out = module.out_channels * np.prod(module.kernel_size)
            assert float(module.weight.detach().std()) == pytest.approx((2 / fan_out) ** 0.5, rel=0.03), key
        elif isinstance(module, nn.BatchNorm3d):
            assert (module.weight == 1).all() and (module.bias == 0).all()
        elif isinstance(module, nn.Linear):
            assert name != "densenet121" or (module.bias == 0).all()


# --- bad input


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("r3d20", {}, r"`name` \(='r3d20'\) must be one of r3d10, r3d18, .*densenet264.*, or of the form package.module:call"),
        ("i3d", {"dropout": 1}, r"`dropout` \(=1\) must be a number from 0 to below 1"),
        ("i3d", {"width": 0.02}, "`width` .* must be at least 0.0625"),
        ("c3d_bn", {"dropout": 0.5}, "`dropout` is no option of c3d_bn; it has in_channels, width"),
        ("c3d", {"stem_frames": 3}, "`stem_frames` is no option of c3d; it has dropout, in_channels, width"),
        ("alexnet3d", {"pooled": 0}, r"`pooled` \(=0\) must be an integer from 1"),
        ("alexnet3d", {"conv2_stride": 9}, r"`conv2_stride` \(=9\) must be an integer from 1 to 4"),
        ("R3D18", {}, "must be one of"),
        ("", {}, "must be one of"),
        (18, {}, "must be one of"),
        (None, {}, "must be one of"),
        ("wide101", {}, "must be one of"),
        ("r3d10", {"num_classes": 0}, r"`num_classes` \(=0\) must be an integer from 1"),
        ("r3d10", {"num_classes": True}, "`num_classes`"),
        ("r3d10", {"num_classes": 2.0}, "`num_classes`"),
        ("r3d10", {"num_classes": "10"}, "`num_classes`"),
        ("r3d10", {"shortcuts": "A"}, "`shortcuts` is no option of r3d10; it has in_channels, max_pool, shortcut, stem_f"),
        ("densenet121", {"shortcut": "A"}, "`shortcut` is no option of densenet121; it has in_channels, max_pool, pool_s"),
        ("densenet121", {"transition": "TTL"}, r"`transition` \(='TTL'\) must be one of conv, ttl, ttl\+conv"),
        ("densenet121", {"ttl_depths": [[1, 3, 4]]}, "`ttl_depths` .* is of temporal transition layers; give transition=ttl with it"),
        ("t3d121", {"transition": "conv", "ttl_channels": [0, 1, 1]}, "`ttl_channels` .* give transition=ttl with it"),
        ("t3d121", {"ttl_depths": [1, 3, 4]}, r"`ttl_depths` .* must be one to 3 lists of 3 depths each.*: \[\[1, 3, 6\], "),
        ("t3d121", {"ttl_depths": [[1, 3, 4]] * 4}, "must be one to 3 lists of 3 depths"),
        ("t3d121", {"ttl_depths": 3}, "must be one to 3 lists of 3 depths"),
        ("t3d121", {"ttl_depths": [[1, 3]]}, "must be one to 3 lists of 3 depths"),
        ("t3d121", {"ttl_depths": [[1, 3, 0]]}, "`ttl_depths` .* must be a list of integers from 1"),
        ("t3d121", {"ttl_channels": [-1, 3, 0]}, "`ttl_channels` .* must be a list of integers from 0"),
        ("t3d121", {"ttl_channels": [0] * 9}, "`ttl_channels` .* must be one to 8 numbers"),
        ("t3d121", {"ttl_channels": []}, "`ttl_channels` .* must be one to 8 numbers"),
        ("t3d121", {"ttl_channels": [0, 96, 32]}, "`ttl_channels` .* leaves no channels for the zeros in it: 128 are shared in the trans"),
        ("t3d121", {"pool_stride": 0}, "`pool_stride`"),
        ("r3d10", {"transition": "ttl"}, "`transition` is no option of r3d10"),
        ("r3d10", {"shortcut": "C"}, r"`shortcut` \(='C'\) must be one of A, B"),
        ("r3d10", {"in_channels": 0}, "`in_channels`"),
        ("r3d10", {"stem_frames": -1}, "`stem_frames`"),
        ("r3d10", {"stem_stride": 1.5}, "`stem_stride`"),
        ("r3d10", {"max_pool": 1}, r"`max_pool` \(=1\) must be true or false"),
        ("r3d10", {"width": 0}, r"`width` \(=0\) must be a number above 0"),
        ("r3d10", {"width": float("nan")}, "`width`"),
        ("r3d10", {"width": True}, "`width`"),
        ("r3d10", {"width": 0.001}, "`width` .* must be at least 0.015625"),
        ("resnext50", {"width": 0.2}, "`width` .* must be at least 0.25"),
        ("densenet121", {"width": 0.02}, "`width` .* must be at least 0.03125"),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(name: Any, options: dict[str, Any], match: str) -> None:
    with pytest.raises(ArgumentError, match=match):
        on_meta(name, **{"num_classes": 5, **options})


# --- models of other packages

NETS = """
import torch

class Net(torch.nn.Module):
    def __init__(self, num_classes, hidden=4):
        super().__init__()
        self.fc = torch.nn.Linear(hidden, num_classes)

def first(num_classes=400, hidden=4): return Net(num_classes, hidden)
def second(hidden=4, *, n_classes): return Net(n_classes, hidden)
def third(model_num_class=400, **kwargs): return Net(model_num_class, **kwargs)
def fourth(class_count, hidden=4): return Net(class_count, hidden)
def open_ended(**kwargs): return Net(**kwargs)
def passed_on(**kwargs): return third(**kwargs) if "num_classes" not in kwargs else second(**kwargs)
def both(hidden=4, n_classes=3, num_classes=400): return Net(num_classes, hidden)

class Home:
    @staticmethod
    def make(num_classes): return Net(num_classes)

def without(classes): return Net(classes)
def nothing(num_classes): return None
def a_class(num_classes): return Net
number = 3
"""


@pytest.fixture
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package `othernets` that can be imported."""
    package = tmp_path / "othernets"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "video.py").write_text(NETS)
    (package / "broken.py").write_text("raise RuntimeError('operator does not exist')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "othernets", raising=False)
    monkeypatch.delitem(sys.modules, "othernets.video", raising=False)


@pytest.mark.usefixtures("nets")
@pytest.mark.parametrize(
    "maker", ["first", "second", "third", "fourth", "open_ended", "passed_on", "both", "Net", "Home.make"]
)
def test_models_of_other_packages(maker: str) -> None:
    assert create_model(f"othernets.video:{maker}", 11).fc.weight.shape == (11, 4)
    if maker != "Home.make":
        assert create_model(f"othernets.video:{maker}", 11, hidden=6).fc.weight.shape == (11, 6)


@pytest.mark.usefixtures("nets")
@pytest.mark.parametrize(
    ("name", "options", "error", "match"),
    [
        ("othernets.video:without", {}, ArgumentError, "takes no class count; .* num_classes or n_classes .* has classes"),
        ("othernets.video:nothing", {}, ArgumentError, "must make a torch.nn.Module, and made a NoneType"),
        ("othernets.video:a_class", {}, ArgumentError, "made a type"),
        ("othernets.video:number", {}, ArgumentError, "must name a function or class"),
        ("othernets.video:missing", {}, ArgumentError, "othernets.video has no missing"),
        ("othernets.video:Home.missing", {}, ArgumentError, "has no Home.missing"),
        ("othernets.video:first", {"depth": 3}, ArgumentError, "options depth: .*'depth'"),
        ("othernets.video:third", {"depth": 3}, ArgumentError, "options depth: .*'depth'"),
        ("othernets.video:passed_on", {"depth": 3}, ArgumentError, "options depth: .*'depth'"),
        ("othernets.video:second", {"n_classes": 3}, ArgumentError, "give it as `num_classes`"),
        ("othernets.broken:first", {}, MissingError, "cannot be imported .RuntimeError: operator does not exist"),
        ("othernets.absent:first", {}, MissingError, "othernets.absent cannot be imported .ModuleNotFoundError.*PYTHONPATH"),
        ("no_such_package_:first", {}, MissingError, "^'no_such_package_:first': no_such_package_ cannot be imported"),
        ("othernets.video:", {}, ArgumentError, "form package.module:callable"),
        (":first", {}, ArgumentError, "form package.module:callable"),
        ("othernets/video.py:first", {}, ArgumentError, "form package.module:callable"),
    ],
)  # fmt: skip
def test_bad_models_of_other_packages(name: str, options: dict[str, Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        create_model(name, 11, **options)
