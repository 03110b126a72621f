"""Weights: to disk and back bit for bit, into nothing that they do not fit, from images to video, and frozen ones."""

from __future__ import annotations

import copy
import json
import math
import os
import pickle
import re
import resource
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_models import by_formula, clips, formula_model, on_meta
from torch import nn

from vpngen.errors import ArgumentError, ConflictError, MissingError, VpngenError
from vpngen.models import (
    create_model,
    freeze,
    inflate,
    load_weights,
    read_weights,
    replace_head,
    save_reference,
    save_weights,
    weights,
)
from vpngen.models.alexnet3d import FLAT
from vpngen.models.base import find_head
from vpngen.models.initial import ModelInit
from vpngen.models.weights import recognize
from vpngen.sampling import NORMALIZATIONS

NETS: dict[str, dict[str, Any]] = {
    "r3d10": {"width": 0.125},
    "r3d18": {"width": 0.125, "shortcut": "A"},
    "r2p1d10": {"width": 0.125},
    "preact10": {"width": 0.125},
    "resnext50": {"width": 0.25},
    "densenet121": {"width": 0.125},
}
METADATA = {
    "format": 1,
    "model": {"name": "r3d10", "options": {"width": 0.125}, "num_classes": 5},
    "classes": ["é", "b"],
}


def fresh(name: str = "r3d10", num_classes: int = 5, **options: Any) -> nn.Module:
    return create_model(name, num_classes, **{**NETS[name], **options})


def same(a: Mapping[str, torch.Tensor], b: Mapping[str, torch.Tensor]) -> bool:
    return set(a) == set(b) and all(torch.equal(a[n], b[n]) and a[n].dtype == b[n].dtype for n in a)


def untouched(model: nn.Module) -> Callable[[], bool]:
    """Whether `model` is later as it was when this was called."""
    before = copy.deepcopy(model.state_dict())
    return lambda: same(before, model.state_dict())


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "weights.safetensors"
    save_weights(path, formula_model("r3d10", **NETS["r3d10"]), METADATA)
    return path


# --- there and back

WRAPS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "bare": lambda m: m,
    "parallel": nn.DataParallel,
    "compiled": lambda m: torch.compile(m, backend="eager"),
    "both": lambda m: nn.DataParallel(torch.compile(m, backend="eager")),
    "channels last": lambda m: m.to(memory_format=torch.channels_last_3d),
}


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize(
    ("name", "wrap"), [*(("r3d10", wrap) for wrap in WRAPS), *((name, "bare") for name in NETS if name != "r3d10")]
)
def test_what_is_saved_is_loaded(name: str, wrap: str, suffix: str, tmp_path: Path) -> None:
    model = formula_model(name, **NETS[name])
    expected = copy.deepcopy(model.state_dict())
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        save_reference(path, WRAPS[wrap](model), "resnet-10", 3)
    else:
        save_weights(path, WRAPS[wrap](model), METADATA)
    assert os.listdir(tmp_path) == [path.name]
    state, metadata = read_weights(path)
    assert same(state, expected) and all(v.is_contiguous() for v in state.values())
    assert metadata == ({"arch": "resnet-10", "epoch": 3} if suffix == ".pth" else METADATA)
    other = WRAPS[wrap](fresh(name))
    assert load_weights(other, path) == metadata
    again = other if wrap in ("bare", "channels last") else next(m for m in other.modules() if type(m) is type(model))
    assert same(again.state_dict(), expected)


tensors = st.builds(
    lambda shape, dtype, seed: torch.randint(-9, 9, shape, generator=torch.Generator().manual_seed(seed)).to(dtype),
    st.lists(st.integers(0, 4), max_size=5).map(tuple),
    st.sampled_from((torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.bool)),
    st.integers(0, 99),
)
layouts: st.SearchStrategy[Callable[[torch.Tensor], torch.Tensor]] = st.sampled_from(
    (
        lambda t: t,
        lambda t: t.mT if t.ndim > 1 else t,
        lambda t: t[:1] if t.ndim else t,
        lambda t: t.expand(2, *t.shape),
    )
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(tensors, layouts, st.booleans()), min_size=1, max_size=5), st.booleans())
def test_any_tensors_are_kept(
    tmp_path: Path, given_: list[tuple[torch.Tensor, Callable[[torch.Tensor], torch.Tensor], bool]], ours: bool
) -> None:
    """Of any type, shape and layout, and some of them the same."""
    model = nn.Module()
    for i, (tensor, layout, shared) in enumerate(given_):
        model.register_buffer(f"b{i}", layout(given_[0][0] if shared else tensor))
    path = tmp_path / "any"
    if ours:
        save_weights(path, model, {})
    else:
        save_reference(path, model, "", 0)
    assert same(read_weights(path)[0], model.state_dict())


@pytest.mark.parametrize("ours", [True, False])
def test_weights_that_are_shared(ours: bool, tmp_path: Path) -> None:
    tied = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    tied[1].weight = tied[0].weight
    large = torch.zeros(10**6)
    tied.register_buffer("part", large[5:8])
    if ours:
        save_weights(tmp_path / "tied", tied, {})
    else:
        save_reference(tmp_path / "tied", tied, "", 0)
    assert same(read_weights(tmp_path / "tied")[0], tied.state_dict())
    assert (tmp_path / "tied").stat().st_size < 10_000  # not what the part was taken from


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(st.dictionaries(st.text(), json_values, max_size=4), st.booleans())
def test_metadata_is_kept(tmp_path: Path, metadata: dict[str, Any], ours: bool) -> None:
    if ours:
        save_weights(tmp_path / "any", nn.BatchNorm3d(2), metadata)
    else:
        save_reference(tmp_path / "any", nn.BatchNorm3d(2), "a", 1, metadata=metadata)
    assert read_weights(tmp_path / "any")[1] == metadata


def test_the_same_weights_are_the_same_bytes(saved: Path) -> None:
    """Whoever was initialized from them, or evaluated them, knows them by their digest."""
    before = saved.read_bytes()
    for _ in range(8):
        save_weights(saved, formula_model("r3d10", **NETS["r3d10"]), METADATA)
        assert saved.read_bytes() == before


@pytest.mark.parametrize("ours", [True, False])
def test_a_full_disk_leaves_the_weights_of_before(ours: bool, tmp_path: Path) -> None:
    """A limit on the size of files fails as a full disk does."""
    path, model = tmp_path / "weights", nn.Linear(300, 300)

    def save() -> None:
        if ours:
            save_weights(path, model, {})
        else:
            save_reference(path, model, "a", 1)

    save()
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
    try:
        with pytest.raises(MissingError, match=r"no space is left to write '.*weights'"):
            save()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["weights"]


def test_files_of_ours_are_plain_safetensors(saved: Path) -> None:
    from safetensors import safe_open
    from safetensors.torch import load_file

    assert same(load_file(saved), formula_model("r3d10", **NETS["r3d10"]).state_dict())
    with safe_open(saved, "pt") as file:
        assert json.loads(file.metadata()["vpngen"]) == METADATA and file.metadata()["format"] == "pt"
    mask = os.umask(0)
    os.umask(mask)
    assert saved.stat().st_mode & 0o777 == 0o666 & ~mask


def test_metadata_that_is_not_json_leaves_the_file(saved: Path) -> None:
    before = saved.read_bytes()
    for save in (
        lambda metadata: save_weights(saved, fresh(), metadata),
        lambda metadata: save_reference(saved, fresh(), "resnet-10", 1, metadata=metadata),
    ):
        with pytest.raises(ArgumentError, match="`metadata` must be what JSON can hold"):
            save({"path": Path("x")})
        assert saved.read_bytes() == before


def test_the_checkpoint_of_the_reference(tmp_path: Path) -> None:
    """What its resume_model and resume_train_utils do with it, in main.py."""
    path = tmp_path / "save_7.pth"
    model = fresh()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, "min", patience=10)
    model(clips(2, 3, 8, 32, 32)).square().sum().backward()
    optimizer.step()
    scheduler.step(3.5)
    save_reference(path, nn.DataParallel(model), "resnet-10", 7, optimizer, scheduler)
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    assert set(checkpoint) == {"arch", "epoch", "state_dict", "optimizer", "scheduler"}
    assert checkpoint["arch"] == "resnet-10" and checkpoint["epoch"] + 1 == 8
    other = fresh()
    other.load_state_dict(checkpoint["state_dict"])
    assert list(checkpoint["state_dict"]) == list(model.state_dict()) and same(other.state_dict(), model.state_dict())
    again = torch.optim.SGD(other.parameters(), lr=0.1)
    again.load_state_dict(checkpoint["optimizer"])
    assert again.param_groups[0]["lr"] == 0.3 and len(again.state) == len(optimizer.state)
    torch.optim.lr_scheduler.ReduceLROnPlateau(again).load_state_dict(checkpoint["scheduler"])
    assert read_weights(path)[1] == {"arch": "resnet-10", "epoch": 7}

    save_reference(path, model, "resnet-10", 7, optimizer, scheduler, METADATA)
    with_more = torch.load(path, map_location="cpu", weights_only=True)
    assert with_more.pop("vpngen") == METADATA and read_weights(path)[1] == METADATA
    assert with_more.keys() == checkpoint.keys() and same(with_more["state_dict"], checkpoint["state_dict"])
    torch.save({**checkpoint, "vpngen": "of another kind"}, path)
    assert read_weights(path)[1] == {"arch": "resnet-10", "epoch": 7}


# --- other forms


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "form", ["bare", "state_dict", "model_state", "module.", "_orig_mod.", "module._orig_mod.", "no counts"]
)
def test_forms_of_checkpoints(form: str, zipped: bool, tmp_path: Path) -> None:
    model = formula_model("r3d10", **NETS["r3d10"])
    state = expected = model.state_dict()
    if form.endswith("."):
        state = OrderedDict((form + n, v) for n, v in state.items())
    if form == "no counts":
        state = OrderedDict((n, v) for n, v in state.items() if not n.endswith("num_batches_tracked"))
        expected = {n: torch.tensor(0) if n.endswith("num_batches_tracked") else v for n, v in expected.items()}
    content = state if form == "bare" else {form if form.endswith("e") else "state_dict": state}
    torch.save(content, tmp_path / "old.pth", _use_new_zipfile_serialization=zipped)
    other = fresh()
    load_weights(other, tmp_path / "old.pth")
    assert same(other.state_dict(), expected)


@pytest.mark.parametrize("name", ["densenet121", "densenet3d121"])
def test_older_names_of_dense_nets(name: str, tmp_path: Path) -> None:
    """Those of the CVPR 2018 branch of the reference, and those of the authors of DenseNet3D, are the same; the stem is not."""
    model = formula_model(name, width=0.125)
    old = {}
    for key, value in model.state_dict().items():
        parts = key.split(".")
        if parts[1] in ("conv1", "norm1"):
            parts[1] = parts[1][:4] + "0"
        if len(parts) == 5:  # features.denseblock1.denselayer1.norm1.weight
            parts[3] = f"{parts[3][:4]}.{parts[3][4:]}"
        if parts[-1] != "num_batches_tracked":
            old["module." + ".".join(parts)] = value
    assert "module.features.conv0.weight" in old
    assert "module.features.denseblock2.denselayer12.norm.2.running_var" in old
    torch.save({"arch": "densenet-121", "state_dict": old}, tmp_path / "old.pth")
    other = create_model(name, 5, width=0.125)
    assert load_weights(other, tmp_path / "old.pth") == {"arch": "densenet-121"}
    made = recognize(*read_weights(tmp_path / "old.pth"))
    assert made == {"name": name, "options": {"width": 0.125}, "num_classes": 5}
    with torch.no_grad():
        assert torch.equal(other.eval()(clips(1, 3, 16, 32, 32)), model(clips(1, 3, 16, 32, 32)))


def test_options_that_are_lists_are_kept(tmp_path: Path) -> None:
    """In metadata as in shapes."""
    options = {"width": 0.125, "ttl_depths": [[1, 3], [2, 5], [1, 4]], "ttl_channels": [0, 64]}
    model, about = create_model("t3d121", 5, **options), {"name": "t3d121", "options": options, "num_classes": 5}
    save_weights(tmp_path / "weights.safetensors", model, {"model": about})
    state, metadata = read_weights(tmp_path / "weights.safetensors")
    assert recognize(state, metadata) == recognize(state, {}) == about
    load_weights(create_model("t3d121", 5, **options), tmp_path / "weights.safetensors")


def test_a_model_may_have_these_names_itself(tmp_path: Path) -> None:
    class Around(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.module = inner

    model = Around(formula_model("r3d10", **NETS["r3d10"]))
    torch.save(model.state_dict(), tmp_path / "around.pth")
    other = Around(fresh())
    load_weights(other, tmp_path / "around.pth")
    assert same(other.state_dict(), model.state_dict())
    load_weights(other.module, tmp_path / "around.pth")

    dense = nn.Module()
    dense.features = nn.Sequential(OrderedDict(conv0=nn.Conv2d(1, 1, 1), norm0=nn.BatchNorm2d(1)))
    torch.save(dense.state_dict(), tmp_path / "2d.pth")
    load_weights(dense, tmp_path / "2d.pth")


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        *(("r3d10", prefix) for prefix in ("model.", "net.module.", "backbone.", "a.b.c.", "but for the head")),
        ("densenet121", "features."),
    ],
)
def test_what_stands_before_all_names_is_left_out(name: str, prefix: str, tmp_path: Path) -> None:
    model = formula_model(name, **NETS[name])
    state, (top, _) = model.state_dict(), find_head(model)
    before = (
        {n: "" if n.startswith(top) else "encoder." for n in state} if " " in prefix else dict.fromkeys(state, prefix)
    )
    torch.save({before[n] + n: v for n, v in state.items()}, tmp_path / "part.pth")
    other = fresh(name)
    load_weights(other, tmp_path / "part.pth")
    assert same(other.state_dict(), state)
    found = recognize(*read_weights(tmp_path / "part.pth"))
    assert found is not None and (found["name"], found["num_classes"]) == (name, 5)
    if name == "r3d10":
        flat = create_model(name, 5, **NETS[name])
        inflate(flat, {before[n] + n: v[:, :, 0] if v.ndim == 5 else v for n, v in state.items()})
        assert torch.equal(flat.conv1.weight[:, :, 3], state["conv1.weight"][:, :, 0] / 7)


def test_a_model_whose_own_names_begin_alike_keeps_them(tmp_path: Path) -> None:
    inner = formula_model("r3d10", **NETS["r3d10"])
    around = nn.Module()
    around.model = inner
    other = nn.Module()
    other.model = fresh()
    torch.save(around.state_dict(), tmp_path / "around.pth")
    load_weights(other, tmp_path / "around.pth")
    assert same(other.state_dict(), around.state_dict())
    both = {**around.state_dict(), **{n: v + 1 for n, v in inner.state_dict().items() if n.startswith("fc.")}}
    torch.save(both, tmp_path / "two.pth")  # two classifiers: neither is taken in silence
    with pytest.raises(ConflictError, match="does not fit this model"):
        load_weights(fresh(), tmp_path / "two.pth")


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e40])
def test_weights_that_are_not_finite_are_said(value: float, tmp_path: Path) -> None:
    state = dict(formula_model("r3d10", **NETS["r3d10"]).state_dict())
    state["fc.weight"] = torch.full_like(state["fc.weight"], math.nan)
    state["layer1.0.conv1.weight"] = state["layer1.0.conv1.weight"].double().index_fill_(0, torch.tensor(2), value)
    torch.save(state, path := tmp_path / "bad.pth")
    model = fresh()
    as_before = untouched(model)
    text = "holds weights that are not finite .*, in `layer1.0.conv1.weight`"
    with pytest.raises(ConflictError, match=f"bad.pth' {text} and 1 more tensor: their"):
        load_weights(model, path)
    with pytest.raises(ConflictError, match=f"bad.pth' {text}: their"):
        load_weights(model, path, head="replace")  # NaN in what is left out does no harm
    flat = {n: v[:, :, 0] if v.ndim == 5 else v for n, v in state.items() if not n.startswith("fc.")}
    torch.save(flat, path := tmp_path / "flat.pth")
    begin = ModelInit("r3d10", {"width": 0.125}, inflate=path)
    with pytest.raises(ArgumentError, match=rf"`inflate` \(=.*flat.pth'?\) {text}"):
        begin.build(5, 0, 0, (16, 32, 32), torch.device("cpu"))
    assert as_before()


# --- what does not fit


def test_a_partial_checkpoint_is_refused(tmp_path: Path) -> None:
    state = formula_model("r3d10", **NETS["r3d10"]).state_dict()
    for drop in [*state][::9]:
        torch.save({n: v for n, v in state.items() if n != drop}, tmp_path / "partial.pth")
        model = fresh()
        as_before = untouched(model)
        with pytest.raises(ConflictError, match=f"(?s)does not fit this model:.*`{drop}` is not in the file"):
            load_weights(model, tmp_path / "partial.pth")
        assert as_before()
    torch.save({**state, "extra.weight": torch.zeros(1)}, tmp_path / "more.pth")
    with pytest.raises(ConflictError, match=r"`extra\.weight` is .* in the file, not in the model"):
        load_weights(fresh(), tmp_path / "more.pth")


@pytest.mark.parametrize("name", ["r3d10", "densenet121"])
def test_another_class_count_is_said(name: str, tmp_path: Path) -> None:
    path = tmp_path / "five.pth"
    source = formula_model(name, **NETS[name])
    save_reference(path, source, "x-1", 1)
    model = fresh(name, 7)
    as_before = untouched(model)
    with pytest.raises(
        ConflictError, match=r"is for 5 classes, and this model for 7; give head='replace'.*num_classes=5"
    ):
        load_weights(model, path)
    assert as_before()
    head = {n: v.clone() for n, v in model.state_dict().items() if n.split(".")[0] in ("fc", "classifier")}
    assert len(head) == 2
    load_weights(model, path, head="replace")
    assert same(model.state_dict(), {**source.state_dict(), **head})
    body = {n: v for n, v in source.state_dict().items() if n not in head}
    torch.save(body, tmp_path / "body.pth")  # one that has no classifier at all
    load_weights(fresh(name, 3), tmp_path / "body.pth", head="replace")
    del body[next(iter(body))]
    torch.save(body, tmp_path / "body.pth")
    with pytest.raises(
        ConflictError, match=r"apart from the classifier:\n  `(features\.)?conv1.weight` is not in the file"
    ):
        load_weights(fresh(name, 3), tmp_path / "body.pth", head="replace")
    with pytest.raises(ArgumentError, match=r"`head` \(='drop'\) must be one of keep, replace"):
        load_weights(model, path, head="drop")


@pytest.mark.parametrize(
    ("name", "arguments", "call"),
    [
        ("r3d18", {"shortcut": "A"}, "create_model(name='r3d18', num_classes=5, shortcut='A')"),
        ("r3d18", {}, "create_model(name='r3d18', num_classes=5)"),
        ("r3d34", {"width": 0.25}, "create_model(name='r3d34', num_classes=5, width=0.25)"),
        ("r3d50", {"in_channels": 2}, "create_model(name='r3d50', num_classes=5, in_channels=2)"),
        ("r2p1d18", {"stem_frames": 3}, "create_model(name='r2p1d18', num_classes=5, stem_frames=3)"),
        ("preact18", {}, "create_model(name='preact18', num_classes=5)"),
        ("wide50", {}, "create_model(name='wide50', num_classes=5)"),
        ("resnext50", {}, "create_model(name='resnext50', num_classes=5)"),
        ("densenet169", {}, "create_model(name='densenet169', num_classes=5)"),
        ("densenet121", {"transition": "ttl"}, "create_model(name='densenet121', num_classes=5, transition='ttl')"),
        ("densenet3d169", {"stem_frames": 5}, "create_model(name='densenet3d169', num_classes=5, stem_frames=5)"),
        ("t3d121", {"width": 0.5}, "create_model(name='t3d121', num_classes=5, width=0.5)"),
        (
            "t3d169",
            {"ttl_depths": [[1, 3, 4]], "ttl_channels": [0, 0, 0]},
            "create_model(name='t3d169', num_classes=5, ttl_depths=[[1, 3, 4]], ttl_channels=[0, 0, 0])",
        ),
        (
            "t3d121",
            {"transition": "ttl+conv", "ttl_channels": [128, 128, 128]},
            "create_model(name='t3d121', num_classes=5, transition='ttl+conv', ttl_channels=[128, 128, 128])",
        ),
    ],
)
def test_another_model_is_recognized(
    name: str, arguments: dict[str, Any], call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By names and shapes alone. The weights take no space: one number stands for all of a tensor."""
    state = {n: torch.zeros(()).expand(v.shape) for n, v in on_meta(name, 5, **arguments).state_dict().items()}
    monkeypatch.setattr(weights, "read_weights", lambda path: (state, {}))  # from a file they would be refused
    random = torch.get_rng_state()
    with pytest.raises(ConflictError) as caught:
        load_weights(on_meta("r3d10", 5), "other.pth")
    assert f"holds weights of {name}, as made by {call}, which does not fit this model:\n  " in str(caught.value)
    known = {"name": name, "options": arguments, "num_classes": 5}
    assert recognize(state, {"arch": "resnet-10"}) == known
    assert recognize(state, {"model": {**METADATA["model"]}}) == METADATA["model"]
    assert torch.equal(torch.get_rng_state(), random)


def test_a_network_without_classifier_is_recognized() -> None:
    """By the rest of its names and shapes; else by its arch."""
    state = {n: v for n, v in fresh("resnext50").state_dict().items() if not n.startswith("fc.")}
    for metadata in ({}, {"arch": "resnext-50"}, {"arch": 7}):
        assert recognize(state, metadata) == {"name": "resnext50", "options": {"width": 0.25}, "num_classes": None}
    for other in ({"fc.bias": torch.zeros(5)}, {"layer5.weight": torch.zeros(1)}):
        changed = {**state, **other}
        assert recognize(changed, {"arch": "resnext-50"}) == {"name": "resnext50", "options": {}, "num_classes": None}
        for unknown in ({}, {"arch": "i3d-50"}, {"arch": 7}):
            assert recognize(changed, unknown) is None


def test_another_model_is_named(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(ConflictError) as caught:
        load_weights(fresh("r2p1d10"), saved)
    text = str(caught.value)
    assert "holds weights of r3d10, as made by create_model(name='r3d10', num_classes=5, width=0.125)" in text
    assert "`conv1_s.weight` is not in the file" in text and "`bn1.bias` is (8,) in the file, not in the model" in text
    assert text.endswith(" more") and text.count("\n") == 10
    with pytest.raises(
        ConflictError, match=r"`layer1.0.conv1.weight` is \(8, 8, 3, 3, 3\) in the file, \(16, 16, 3, 3, 3\) in"
    ):
        load_weights(fresh(width=0.25), saved)
    torch.save({"arch": "i3d-50", "state_dict": {"a": torch.zeros(2)}}, tmp_path / "other.pth")
    with pytest.raises(ConflictError, match="holds weights of i3d-50, which does not fit"):
        load_weights(fresh(), tmp_path / "other.pth")
    torch.save({"a": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(ConflictError, match="holds weights of another model, which does not fit"):
        load_weights(fresh(), tmp_path / "other.pth")


# --- files that are none


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """The same small weights in each form."""
    folder, model = tmp_path_factory.mktemp("forms"), nn.Linear(3, 2)
    save_weights(folder / "ours.safetensors", model, {"a": 1})
    save_reference(folder / "zip.pth", model, "a", 1)
    torch.save({"state_dict": model.state_dict()}, folder / "legacy.pth", _use_new_zipfile_serialization=False)
    return [path.read_bytes() for path in sorted(folder.iterdir())]


@pytest.mark.parametrize("form", [0, 1, 2])
def test_a_file_cut_short_is_said(form: int, forms: list[bytes], tmp_path: Path) -> None:
    path, whole = tmp_path / "file", forms[form]
    path.write_bytes(whole)
    assert read_weights(path)[0]
    for stop in [*range(200), *range(200, len(whole), 7), len(whole) - 1]:
        path.write_bytes(whole[: min(stop, len(whole) - 1)])
        with pytest.raises(ConflictError, match=r"damaged"):
            read_weights(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(st.integers(0, 2), st.data())
def test_a_damaged_file_is_read_or_said(forms: list[bytes], tmp_path: Path, form: int, data: st.DataObject) -> None:
    """Never another error than ours, whatever happened to it."""
    content = bytearray(forms[form])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "damaged").write_bytes(content)
    try:
        state, _ = read_weights(tmp_path / "damaged")
    except VpngenError:
        return
    assert all(isinstance(v, torch.Tensor) for v in state.values())


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("how", ["zip", "legacy", "pickle"])
def test_code_in_a_file_is_not_run(how: str, tmp_path: Path) -> None:
    path, bomb = tmp_path / "bomb.pth", {"state_dict": {"a": torch.zeros(1)}, "opt": Bomb(tmp_path / "ran")}
    if how == "pickle":
        path.write_bytes(pickle.dumps(bomb))
    else:
        torch.save(bomb, path, _use_new_zipfile_serialization=how == "zip")
    with pytest.raises(
        ConflictError, match="damaged, or not" if how == "pickle" else r"it names posix.mkdir, .*weights_only=False"
    ):
        read_weights(path)
    assert not (tmp_path / "ran").exists()


def test_files_that_are_no_weights(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"`path` .* cannot be read: No such file"):
        read_weights(tmp_path / "absent.pth")
    with pytest.raises(ArgumentError, match="cannot be read: Is a directory"):
        read_weights(tmp_path)
    (tmp_path / "text").write_text("some text, long enough")
    with pytest.raises(ConflictError, match=r"is damaged, or is neither \.safetensors nor"):
        read_weights(tmp_path / "text")
    import zipfile

    with zipfile.ZipFile(tmp_path / "zip", "w") as file:
        file.writestr("a.txt", "a")
    with pytest.raises(ConflictError, match="damaged, or not of weights"):
        read_weights(tmp_path / "zip")
    for number, content in enumerate(
        ([1, 2], {"epoch": 1}, {}, {"state_dict": {"a": 1}}, {1: torch.zeros(1)}, torch.zeros(1))
    ):
        torch.save(content, tmp_path / f"{number}")
        with pytest.raises(ConflictError, match="holds no state dict"):
            read_weights(tmp_path / f"{number}")


# --- heads


class Foreign(nn.Module):
    """A network with stages of other names."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv3d(3, 4, 3, bias=False), nn.BatchNorm3d(4))
        self.res_2 = nn.Sequential(nn.Conv3d(4, 4, 1), nn.BatchNorm3d(4), nn.Dropout(0.5))
        self.res_3a = nn.Sequential(nn.Conv3d(4, 4, 1), nn.BatchNorm3d(4))
        self.res_4 = nn.Sequential(nn.Conv3d(4, 4, 1), nn.BatchNorm3d(4))
        self.pool1, self.pool2, self.pool3, self.pool4 = (nn.Identity() for _ in range(4))
        self.heads = nn.ModuleDict({"top": nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 5, bias=False))})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.res_4(self.res_3a(self.res_2(self.stem(x))))
        return self.heads["top"](x.mean((2, 3, 4)))


class Convolutional(nn.Module):
    """A network that averages over space and time what a convolution gives, as S3D does."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv3d(3, 4, 1), nn.Conv3d(4, 4, 3, bias=False), nn.Conv3d(4, 4, 1, groups=4))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Conv3d(4, 5, 1), nn.Conv3d(5, 5, 1, groups=5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier[:2](self.features(x)).mean((2, 3, 4))


def test_heads() -> None:
    models = (fresh(), "fc"), (fresh("densenet121"), "classifier"), (Foreign(), "heads.top.2")
    for model, name in (*models, (Convolutional(), "classifier.1")):
        assert find_head(model) == (name, model.get_submodule(name)) == find_head(nn.DataParallel(model))
        model.eval()
        names, old = list(model.state_dict()), find_head(model)[1]
        model.to(torch.float64)
        replace_head(nn.DataParallel(model), 9)
        new = find_head(model)[1]
        assert new is not old and len(new.weight) == 9 and not new.training and new.weight.dtype == torch.float64
        assert list(model.state_dict()) == names and (new.bias is None) == (old.bias is None)
        with torch.no_grad():
            assert model(clips(1, 3, 16, 32, 32).double()).shape == (1, 9)
    for name in ("r3d10", "densenet121"):
        model = fresh(name)
        replace_head(model, 9)
        torch.manual_seed(1)
        replace_head(model, 5)
        torch.manual_seed(1)
        layer = nn.Linear(find_head(model)[1].in_features, 5)
        assert torch.equal(find_head(model)[1].weight, layer.weight)
        bias = torch.zeros(5) if name == "densenet121" else layer.bias
        assert torch.equal(find_head(model)[1].bias, bias)
    with pytest.raises(ArgumentError, match="has neither a torch"):
        find_head(nn.Sequential(nn.Conv3d(1, 1, 3)))
    with pytest.raises(ArgumentError, match="`num_classes`"):
        replace_head(fresh(), 0)


# --- frozen

STEMS = {
    "r3d10": ["conv1", "bn1"], "r2p1d10": ["conv1_s", "bn1_s", "conv1_t", "bn1_t"], "preact10": ["conv1", "bn1"],
    "densenet121": ["features.conv1", "features.norm1"], "foreign": ["stem"],
}  # fmt: skip
"""Model -> what comes before its first stage."""


def parts_of(name: str) -> list[list[str]]:
    """Modules of the stem and of each stage, without the classifier."""
    if name == "densenet121":
        stages = [[f"features.denseblock{k}", f"features.transition{k}"] for k in (1, 2, 3)]
        return [STEMS[name], *stages, ["features.denseblock4", "features.norm5"]]
    return [STEMS[name], *([f"res_{k}"] for k in ("2", "3a", "4"))] if name == "foreign" else [
        STEMS[name], *([f"layer{k}"] for k in (1, 2, 3, 4))
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "stages", "copied"),
    [
        *((name, k, False) for name in ("r3d10", "foreign") for k in range(4)),
        *((name, 2, name != "densenet121") for name in STEMS),
        *((name, 4, name == "preact10") for name in STEMS if name != "foreign"),
    ],
)
def test_frozen_stages_stay_bit_for_bit(name: str, stages: int, copied: bool) -> None:
    torch.manual_seed(0)
    model = Foreign() if name == "foreign" else fresh(name)
    freeze(nn.DataParallel(model), stages)
    if copied:
        model = pickle.loads(pickle.dumps(copy.deepcopy(model)))
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD(
        [p for p in model.parameters() if p.requires_grad], lr=0.1, momentum=0.9, weight_decay=0.1
    )
    for _ in range(2):
        model.eval()
        model.train()
        for part in model.children():
            part.train()
        optimizer.zero_grad()
        F.cross_entropy(model(clips(2, 3, 8, 32, 32)), torch.tensor([0, 3])).backward()
        optimizer.step()
    frozen = [part for parts in parts_of(name)[: stages + 1] for part in parts] if stages else []
    after = model.state_dict()
    for key in before:
        if any(key.startswith(f"{part}.") for part in frozen):
            assert torch.equal(after[key], before[key]), key
        else:
            assert not torch.equal(after[key], before[key]), key
    head = find_head(model)[1]
    assert head.training and head.weight.requires_grad
    assert any(True for part in frozen) == bool(stages)


def test_stages_that_there_are_not() -> None:
    with pytest.raises(ArgumentError, match=r"`stages` \(=5\) .* ResNet .*; it has 4: layer1, layer2, layer3, layer4"):
        freeze(fresh(), 5)
    with pytest.raises(ArgumentError, match=r"it has 4: features\.denseblock1, features\.denseblock2"):
        freeze(fresh("densenet121"), 9)
    with pytest.raises(ArgumentError, match="it has 3: res_2, res_3a, res_4"):
        freeze(Foreign(), 4)
    with pytest.raises(ArgumentError, match="has no numbered stages"):
        freeze(nn.Sequential(OrderedDict(body=nn.Conv3d(1, 1, 1), head=nn.Linear(1, 1))), 1)
    for bad in (-1, True, 1.0, "2"):
        with pytest.raises(ArgumentError, match="`stages`"):
            freeze(fresh(), bad)


def test_a_frozen_network_is_one_graph() -> None:
    model = fresh()
    freeze(model, 2)
    torch._dynamo.reset()
    whole = torch.compile(model.train(), backend="eager", fullgraph=True)
    F.cross_entropy(whole(clips(2, 3, 8, 32, 32)), torch.tensor([0, 1])).backward()
    assert model.layer2[0].conv1.weight.grad is None and model.layer3[0].conv1.weight.grad is not None


# --- inflation


def flat_state(name: str, num_classes: int = 5, **options: Any) -> dict[str, torch.Tensor]:
    """Weights of the 2D network of the same blocks, by the names of torchvision."""
    shapes = on_meta(name, num_classes, **options).state_dict()
    flat = {n: v[:, :, 0] if v.ndim == 5 else v for n, v in shapes.items()}
    return by_formula(flat)


def flat_features(state: Mapping[str, torch.Tensor], x: torch.Tensor, groups: int = 1) -> torch.Tensor:
    """A 2D ResNet written out: images (N, C, Y, X) to what leaves its last stage."""

    def norm(name: str, x: torch.Tensor) -> torch.Tensor:
        mean, var, weight, bias = (state[f"{name}.{k}"] for k in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, mean, var, weight, bias)

    x = F.conv2d(x, state["conv1.weight"], stride=2, padding=3)
    x = F.max_pool2d(F.relu(norm("bn1", x)), 3, 2, 1)
    for stage in (1, 2, 3, 4):
        block = 0
        while f"layer{stage}.{block}.conv1.weight" in state:
            at = f"layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            bottleneck = f"{at}.conv3.weight" in state
            y = F.conv2d(
                x, state[f"{at}.conv1.weight"], stride=1 if bottleneck else stride, padding=0 if bottleneck else 1
            )
            y = F.relu(norm(f"{at}.bn1", y))
            y = F.conv2d(
                y,
                state[f"{at}.conv2.weight"],
                stride=stride if bottleneck else 1,
                padding=1,
                groups=groups if bottleneck else 1,
            )
            y = norm(f"{at}.bn2", y)
            if bottleneck:
                y = norm(f"{at}.bn3", F.conv2d(F.relu(y), state[f"{at}.conv3.weight"]))
            if f"{at}.downsample.0.weight" in state:
                x = norm(f"{at}.downsample.1", F.conv2d(x, state[f"{at}.downsample.0.weight"], stride=stride))
            x = F.relu(x + y)
            block += 1
    return x


@pytest.mark.parametrize(
    ("name", "options", "frames", "inner"),
    [
        ("r3d10", {"width": 0.125}, 160, slice(4, 7)),
        ("r3d50", {"width": 0.0625}, 256, slice(7, 10)),
        ("wide50", {"width": 0.0625}, 256, slice(7, 10)),
        ("resnext50", {"width": 0.25}, 256, slice(7, 10)),
    ],
)
def test_a_video_that_does_not_move_gives_what_its_image_gives(
    name: str, options: dict[str, Any], frames: int, inner: slice
) -> None:
    """Where the zeros before and after the clip are out of sight; in float64, for they are many layers."""
    state = {n: v.double() if v.is_floating_point() else v for n, v in flat_state(name, **options).items()}
    model = create_model(name, 5, **options).double().eval()
    inflate(model, state)
    image = clips(1, 3, 32, 32).double()
    expected = flat_features(state, image, groups=32 if name == "resnext50" else 1)
    found: list[torch.Tensor] = []
    model.layer4.register_forward_hook(lambda *args: found.append(args[2]))
    with torch.no_grad():
        model(image.unsqueeze(2).expand(-1, -1, frames, -1, -1))
    error = (found[0] - expected.unsqueeze(2)).abs().amax((0, 1, 3, 4)) / expected.abs().max()
    assert len(error) == frames // 16
    assert (error[inner] < 1e-12).all() and error[0] > 1e-3 and error[-1] > 1e-3


def flat_dense_features(state: Mapping[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """A 2D DenseNet written out by the names of torchvision, up to the end of its first transition."""

    def composite(norm: str, conv: str, x: torch.Tensor, **options: int) -> torch.Tensor:
        mean, var, weight, bias = (state[f"{norm}.{k}"] for k in ("running_mean", "running_var", "weight", "bias"))
        return F.conv2d(F.relu(F.batch_norm(x, mean, var, weight, bias)), state[f"{conv}.weight"], **options)

    x = F.conv2d(x, state["features.conv0.weight"], stride=2, padding=3)
    mean, var, weight, bias = (state[f"features.norm0.{k}"] for k in ("running_mean", "running_var", "weight", "bias"))
    x = F.max_pool2d(F.relu(F.batch_norm(x, mean, var, weight, bias)), 3, 2, 1)
    for layer in (f"features.denseblock1.denselayer{number}" for number in range(1, 7)):
        new = composite(f"{layer}.norm1", f"{layer}.conv1", x)
        x = torch.cat([x, composite(f"{layer}.norm2", f"{layer}.conv2", new, padding=1)], 1)
    return F.avg_pool2d(composite("features.transition1.norm", "features.transition1.conv", x), 2)


@pytest.mark.parametrize("name", ["densenet121", "densenet3d121"])
def test_dense_nets_of_torchvision_are_inflated(name: str) -> None:
    """By either of the names that its layers have in its files, and exact where the ends of the clip are out of sight."""
    state = {
        n.replace("features.conv1", "features.conv0").replace("features.norm1", "features.norm0"): v.double()
        for n, v in flat_state(name, width=0.125).items()
    }
    model = create_model(name, 5, width=0.125).double().eval()
    inflate(model, {re.sub(r"(norm|conv)([12])\.", r"\1.\2.", n): v for n, v in state.items()})
    again = create_model(name, 5, width=0.125).double()
    inflate(again, state)
    assert same(model.state_dict(), again.state_dict())
    assert torch.equal(model.classifier.weight, state["classifier.weight"])
    image, found = clips(1, 3, 32, 32).double(), list[torch.Tensor]()
    model.features.average1.register_forward_hook(lambda *args: found.append(args[2]))
    with torch.no_grad():
        model(image.unsqueeze(2).expand(-1, -1, 64, -1, -1))
    expected = flat_dense_features(state, image)
    error = (found[0] - expected.unsqueeze(2)).abs().amax((0, 1, 3, 4)) / expected.abs().max()
    assert (error[6:10] < 1e-12).all() and error[0] > 1e-3 and error[-1] > 1e-3
    with pytest.raises(ArgumentError, match=r"it would fit densenet3d121, width=0.125. (?s:.*)`features.ttl1.b1.norm"):
        inflate(create_model("t3d121", 5, width=0.125), state)
    with pytest.raises(ArgumentError, match=rf"it would fit {name}, width=0.125\."):
        inflate(on_meta(name.replace("121", "169"), 5, width=0.125), state)


def test_what_is_inflated() -> None:
    options = NETS["r3d10"]
    state = flat_state("r3d10", 1000, **options)
    model = create_model("r3d10", 5, **options)
    head = model.fc.weight.detach().clone()
    inflate(model, {f"module.{n}": v for n, v in state.items()})
    for n, v in model.state_dict().items():
        if v.ndim == 5:
            assert torch.equal(v, (state[n] / v.shape[2]).unsqueeze(2).expand(v.shape)) and v.shape[2] in (1, 3, 7)
        elif not n.startswith("fc."):
            assert torch.equal(v, state[n]), n
    assert torch.equal(model.fc.weight, head)
    same_size = create_model("r3d10", 1000, **options)
    inflate(nn.DataParallel(same_size), state)
    assert torch.equal(same_size.fc.weight, state["fc.weight"]) and torch.equal(same_size.fc.bias, state["fc.bias"])
    inflate(model, {n: v for n, v in state.items() if not n.startswith("fc.") and "num_batches" not in n})
    assert int(model.bn1.num_batches_tracked) == 0


@pytest.mark.parametrize(
    ("name", "options", "change", "match"),
    [
        (
            "r3d18",
            {},
            {},
            r"`state` does not fit `model`; it would fit r3d10, width=0.125. Time aside:\n  `layer1.1.conv1.weight` is not in",
        ),
        (
            "r3d10",
            {"shortcut": "A"},
            {},
            "it would fit r3d10, width=0.125. (?s:.*)`layer2.0.downsample.0.weight` is .* in the file, not in the model",
        ),
        ("r2p1d10", {}, {}, r"`model` \(R2Plus1D\) takes no weights of images; it would fit r3d10, width=0.125$"),
        ("preact10", {}, {}, r"`layer2.0.bn1.weight` is \(16,\) in the file, \(8,\) in the model"),
        ("r3d10", {"in_channels": 1}, {}, r"`conv1.weight` is \(8, 3, 7, 7\) in the file, \(8, 1, 7, 7\) in the"),
        ("r3d10", {"width": 0.25}, {}, r"`conv1.weight` is \(8, 3, 7, 7\) in the file"),
        (
            "r3d10",
            {},
            {"bn1.weight": None},
            "^`state` does not fit `model`. Time aside:\n  `bn1.weight` is not in the file, .*$",
        ),
        ("r3d10", {}, {"layer1.0.se.weight": torch.zeros(1)}, "`layer1.0.se.weight` is .* in the file, not in the"),
        (
            "r3d10",
            {},
            {"layer1.0.conv1.weight": torch.zeros(8, 8, 1, 1)},
            r"\(8, 8, 1, 1\) in the file, \(8, 8, 3, 3\) in the model",
        ),
        ("r3d10", {}, {"conv1.weight": torch.zeros(8, 3, 7, 7, 7)}, "kernels in time already; give it as `init_from`"),
    ],
)
def test_what_cannot_be_inflated(name: str, options: dict[str, Any], change: dict[str, Any], match: str) -> None:
    model = create_model(name, 5, **{"width": 0.125, **options})
    as_before = untouched(model)
    state = {**flat_state("r3d10", width=0.125), **change}
    with pytest.raises(ArgumentError, match=match):
        inflate(model, {n: v for n, v in state.items() if v is not None})
    assert as_before()


def alexnet(x: torch.Tensor, state: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """torchvision's AlexNet written out: images (N, C, Y, X) to logits."""
    for layer, stride, padding in ((0, 4, 2), (3, 1, 2), (6, 1, 1), (8, 1, 1), (10, 1, 1)):
        x = F.relu(F.conv2d(x, state[f"features.{layer}.weight"], state[f"features.{layer}.bias"], stride, padding))
        x = F.max_pool2d(x, 3, 2) if layer in (0, 3, 10) else x
    x = F.adaptive_avg_pool2d(x, 6).flatten(1)
    for layer in (1, 4):
        x = F.relu(F.linear(x, state[f"classifier.{layer}.weight"], state[f"classifier.{layer}.bias"]))
    return F.linear(x, state["classifier.6.weight"], state["classifier.6.bias"])


def alexnet_state(width: float) -> dict[str, torch.Tensor]:
    """Weights of the 2-D network, by the names of torchvision."""
    names = {v: k for k, v in FLAT.items()}
    own = on_meta("alexnet3d", 1000, width=width).state_dict()
    shapes = {n: v[:, :, 0] if v.ndim == 5 else v for n, v in own.items() if not n.startswith("bn")}
    return by_formula({f"{names[n.split('.')[0]]}.{n.split('.')[1]}": v for n, v in shapes.items()})


def test_it_is_alexnet_where_a_video_does_not_move() -> None:
    """Where zeros around the clip are out of sight; biases, linear layers and classifier too."""
    state = {n: v.double() for n, v in alexnet_state(0.125).items()}
    model = create_model("alexnet3d", 1000, width=0.125).double().eval()
    inflate(model, state)
    image = clips(1, 3, 127, 131).double()
    found: list[torch.Tensor] = []
    model.pool3.register_forward_hook(lambda *args: found.append(args[2]) or args[2][:, :, 2:-2])
    with torch.no_grad():
        logits, expected = model(image.unsqueeze(2).expand(-1, -1, 48, -1, -1)), alexnet(image, state)
    # What normalizes in place of dropout has seen nothing yet: it divides by the root of 1 + 1e-5.
    assert found[0].shape[2] == 6 and (logits - expected).abs().max() < 2e-5 * expected.abs().max()
    with pytest.raises(
        ArgumentError, match=r"it would fit alexnet3d, width=0.125\. (?s:.*)`fc1.weight` is \(512, 1152\) in the file"
    ):
        inflate(create_model("alexnet3d", 5, width=0.125, pooled=2), state)


def googlenet_state(num_classes: int) -> dict[str, torch.Tensor]:
    """Weights of the 2-D Inception, by the names of torchvision; with the classifiers that its training has."""

    def theirs(name: str) -> str:
        for ours, his in (
            ("Conv3d_1a_7x7", "conv1"),
            ("Conv3d_2b_1x1", "conv2"),
            ("Conv3d_2c_3x3", "conv3"),
            ("logits.conv3d", "fc"),
        ):
            name = name.replace(ours, his)
        for ours, his in (("b0", "1"), ("b1a", "2.0"), ("b1b", "2.1"), ("b2a", "3.0"), ("b2b", "3.1"), ("b3b", "4.1")):
            name = name.replace(f".{ours}.", f".branch{his}.")
        for block, letters in (("3", "bc"), ("4", "bcdef"), ("5", "bc")):
            for before, letter in zip("abcde", letters, strict=False):
                name = name.replace(f"Mixed_{block}{letter}.", f"inception{block}{before}.")
        return name.replace(".conv3d.", ".conv.")

    own = on_meta("i3d", num_classes, width=0.0625).state_dict()
    flat = {n: v if v.ndim < 5 else v.flatten(1) if n.startswith("logits") else v[:, :, 0] for n, v in own.items()}
    flat = {theirs(n): v for n, v in flat.items()}
    return by_formula(
        {**flat, "aux1.conv.conv.weight": torch.zeros(8, 32, 1, 1), "aux2.fc2.bias": torch.zeros(num_classes)}
    )


@pytest.mark.parametrize("num_classes", [5, 1000])
def test_an_inception_of_images_is_inflated_branch_by_branch(num_classes: int) -> None:
    state = googlenet_state(1000)
    model = create_model("i3d", num_classes, width=0.0625)
    fresh_head = model.logits["conv3d"].weight.detach().clone()
    inflate(model, state)
    for ours, theirs, frames in (
        ("Conv3d_1a_7x7", "conv1", 7), ("Conv3d_2c_3x3", "conv3", 3), ("Mixed_3b.b0", "inception3a.branch1", 1),
        ("Mixed_4f.b1b", "inception4e.branch2.1", 3), ("Mixed_5c.b2a", "inception5b.branch3.0", 1),
        ("Mixed_5b.b2b", "inception5a.branch3.1", 3), ("Mixed_4b.b3b", "inception4a.branch4.1", 1),
    ):  # fmt: skip
        unit = model.get_submodule(ours)
        flat = (state[f"{theirs}.conv.weight"] / frames).unsqueeze(2).expand(-1, -1, frames, -1, -1)
        assert torch.equal(unit.conv3d.weight, flat) and torch.equal(
            unit.bn.running_var, state[f"{theirs}.bn.running_var"]
        )
    head = state["fc.weight"] if num_classes == 1000 else fresh_head.flatten(1)
    assert torch.equal(model.logits["conv3d"].weight.flatten(1), head)
    assert ModelInit(model="i3d", inflate=Path("googlenet.pth")).normalization == NORMALIZATIONS["half"]
    assert ModelInit(model="alexnet3d", inflate=Path("alexnet.pth")).normalization == NORMALIZATIONS["imagenet"]
    with pytest.raises(ArgumentError, match=r"does not fit `model`; it would fit i3d, width=0\.0625"):
        inflate(create_model("inception3d", 5, width=0.0625), state)


def test_c3d_by_the_names_of_its_file(tmp_path: Path) -> None:
    """That of jfzhang95/pytorch-video-recognition, whole and without a classifier."""
    model = formula_model("c3d", 7, width=0.0625)
    layers = {"conv1": 0, "conv2": 3, "conv3a": 6, "conv3b": 8, "conv4a": 11, "conv4b": 13, "conv5a": 16, "conv5b": 18}
    names = {
        **{n: f"features.{i}" for n, i in layers.items()},
        "fc6": "classifier.0",
        "fc7": "classifier.3",
        "fc8": "classifier.6",
    }
    state = {f"{names[n.split('.')[0]]}.{n.split('.')[1]}": v for n, v in model.state_dict().items()}
    known = {"name": "c3d", "options": {"width": 0.0625}, "num_classes": 7}
    for each, classes in ((state, 7), ({n: v for n, v in state.items() if "classifier.6" not in n}, None)):
        torch.save(each, tmp_path / "c3d.pickle")
        read, metadata = read_weights(tmp_path / "c3d.pickle")
        assert recognize(read, metadata) == {**known, "num_classes": classes}
        other = create_model("c3d", 3, width=0.0625)
        load_weights(other, tmp_path / "c3d.pickle", head="replace")
        assert torch.equal(other.fc7.weight, model.fc7.weight)
    with pytest.raises(ConflictError, match=r"of c3d, as made by create_model\(name='c3d', width=0.0625\)"):
        load_weights(create_model("c3d_bn", 7, width=0.0625), tmp_path / "c3d.pickle")


@pytest.mark.parametrize("name", ["r3d18", "r3d50", "wide50", "resnext50"])
def test_what_it_could_be_inflated_into_is_said(name: str) -> None:
    state = on_meta(name, 1000).state_dict()
    flat = {n: v[:, :, 0] if v.ndim == 5 else v for n, v in state.items()}
    with pytest.raises(ArgumentError, match=f"`state` does not fit `model`; it would fit {name}. Time aside:\n"):
        inflate(fresh(), flat)
