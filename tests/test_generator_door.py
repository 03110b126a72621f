"""What a generator has to say of itself: one that is defined here, and put into the list, works everywhere."""

from __future__ import annotations

import dataclasses
import inspect
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pytest
from commands import Run

import vpngen
from vpngen import ArgumentError, MissingError, Spec, Window, checks, health, preview
from vpngen.fields import Field, field
from vpngen.floats import F32
from vpngen.generators import GENERATORS, Generator, Parameter, Params, Progress, Shape, kinds
from vpngen.generators.base import usual_counts


@dataclass(frozen=True)
class Toy(Generator):
    """Stripes of `colours` grey levels that move by `speed` pixels a frame; a category is the width of a stripe."""

    name: ClassVar[str] = "toy"
    short: ClassVar[str] = "ty"
    title: ClassVar[str] = "Toy Stripes"
    counts: ClassVar[tuple[Field, ...]] = usual_counts(3, "Widths of a stripe.", 4, (72, 80, 200))
    made_from: ClassVar[tuple[Field, ...]] = (
        Field("widths", "str | tuple[int, ...]", "odd", "odd, even, or the widths.", ("odd", "even"), "NAME|N,..."),
    )
    presets: ClassVar[dict[str, dict[str, Any]]] = {"toy-even": {"widths": "even", "about": "page 1"}}
    trial: ClassVar[dict[str, Any]] = {"categories": 5, "instances": 2}
    params_dtype: ClassVar[np.dtype[np.void]] = np.dtype(
        [("key", "<u4", (2,)), ("width", "<i4"), ("speed", "<i4"), ("colours", "<i4"), ("unused", "<i4")], align=True
    )

    widths: tuple[int, ...]
    speed: int = field(1, "Pixels a frame.")
    colours: int = field(2, "Grey levels.")
    round: bool = field(False, "A field that is true or false.")
    ends: str = field("open", "A field with choices.", choices=("open", "closed"))

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", checks.integers("widths", self.widths, 1, 999))
        checks.integer("speed", self.speed, 0, 99)
        checks.integer("colours", self.colours, 2, 256)
        checks.one_of("ends", self.ends, ("open", "closed"))

    @classmethod
    def from_counts(
        cls,
        categories: int | None,
        shape: Shape,
        progress: Progress | None = None,
        *,
        widths: Any = "odd",
        **fields: Any,
    ) -> Self:
        if isinstance(widths, str):
            first = ("odd", "even").index(checks.one_of("widths", widths, ("odd", "even"))) + 1
            widths = range(first, first + 2 * checks.integer("categories", categories, 1, 400), 2)
        return cls(tuple(widths), **fields)

    @property
    def n_categories(self) -> int:
        return len(self.widths)

    def category(self, category_id: int) -> tuple[int, ...]:
        return (self.widths[self.label(category_id)],)

    def category_id(self, category: tuple[int, ...]) -> int:
        return self.widths.index(category[0])

    def check(self, shape: Shape) -> None:
        if max(self.widths) > shape[2]:
            raise ArgumentError(f"must be at most the width, {shape[2]}", "widths", self.widths)

    def params(
        self, shape: Shape, keys: npt.NDArray[np.uint32], category_ids: npt.NDArray[np.int64], instances: Any
    ) -> Params:
        params = np.zeros(len(keys), self.params_dtype)
        params["key"], params["width"] = keys, np.array(self.widths)[category_ids]
        params["speed"], params["colours"] = self.speed, self.colours
        return params

    def parameters(self, shape: Shape, params: Params) -> dict[str, Parameter]:
        return {"width": Parameter(params["width"].copy(), (), "of a stripe, in pixels")}

    @classmethod
    def check_params(cls, params: Params) -> None:
        if (params["width"] < 1).any() or (params["colours"] < 2).any():
            raise ArgumentError("are not those of a toy", "params")

    @staticmethod
    def reference(params: np.void, t: npt.NDArray[np.int64], y: npt.NDArray[np.int64], x: npt.NDArray[np.int64]) -> F32:
        at = x[None, None, :] + int(params["speed"]) * t[:, None, None] + int(params["key"][0]) % 1000
        stripe = at // int(params["width"]) % int(params["colours"])
        grey = (stripe * 255 // (int(params["colours"]) - 1)).astype(np.float32)
        return np.broadcast_to(grey, (len(t), len(y), len(x)))


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Spec:
    """A small set of it, while it is in the list."""
    monkeypatch.setitem(GENERATORS, "toy", Toy)
    return Spec.make("toy", instances=5, val_instances=2, shape=(20, 24, 40))


def test_the_toy_renders_like_any_other(toy: Spec) -> None:
    whole = np.stack([vpngen.render(toy, i) for i in range(15)])
    assert len({video.tobytes() for video in whole}) > 6 and set(np.unique(whole)) == {0, 255}
    window = Window(t=(2, 19, 3), y=(1, 9), x=(5, 40), flip=True)
    for threads in (1, 2, 5):
        assert np.array_equal(vpngen.render(toy, range(15), threads=threads), whole)
        shown = vpngen.render(toy, [7, 3], window, backend="reference", threads=threads)
        assert np.array_equal(shown, [window.of(whole[7]), window.of(whole[3])])
    with pytest.raises(MissingError, match="toy"):
        vpngen.render(toy, 0, backend="numba")


def test_the_toy_as_a_spec(toy: Spec) -> None:
    assert Spec.from_json(toy.to_json()) == toy and toy.to_dict()["generator"]["name"] == "toy"
    assert toy.generator.to_dict()["widths"] == [1, 3, 5] and toy.category(1) == (3,)
    assert Spec.preset("toy-even", instances=5, shape=(20, 24, 40)).category(1) == (4,)
    with pytest.raises(ArgumentError, match="`pace` is no argument of the toy generator; it has categories, colours"):
        Spec.make("toy", pace=3)


def test_the_toy_in_a_mixture(toy: Spec) -> None:
    noise = vpngen.perlin(2, 5, val_instances=2, shape=(20, 24, 40), divisions=(1, 2), noise_terms=0)
    both = vpngen.mixed(noise, toy)
    assert Spec.from_json(both.to_json()) == both and set(both.params(range(7))["kind"]) == {0, kinds().index(Toy)}
    for label in range(3):
        keys = both.params(4 + label)
        alone = toy.generator.params(toy.shape, *(np.array(v) for v in (key_of(both, 4 + label), [label], [0])))
        assert vpngen.generators.mixed.unpack(keys, Toy).tobytes() == alone.tobytes()
    video = vpngen.render(both, range(14), backend="auto")
    assert np.array_equal(video, vpngen.render(both, range(14), backend="reference"))


def key_of(spec: Spec, index: int) -> Any:
    return vpngen.rng.video_keys(spec.seed, 0, np.array([index]), spec.format_version)


@pytest.mark.parametrize("codec", ["none", "zstd", "formula"])
def test_the_toy_in_a_store(toy: Spec, tmp_path: Path, codec: str) -> None:
    vpngen.write(toy, tmp_path / "toy.zarr", codec=codec, shard_videos=4)
    assert vpngen.verify(tmp_path / "toy.zarr", render=True).whole
    view = vpngen.open(tmp_path / "toy.zarr")
    assert view.spec == toy and np.array_equal(view.video[7], vpngen.render(toy, 7))
    assert np.array_equal(view.video[3:6, 2:9, :, 5:], vpngen.render(toy, [3, 4, 5], Window(t=(2, 9), x=(5, 40))))


def test_the_toy_in_a_stream(toy: Spec) -> None:
    stream = vpngen.ClipStream(toy, batch_size=5, clip=(8, 16, 16), device="cpu", augment="none")
    clips, labels = next(iter(stream))
    assert clips.shape == (5, 3, 8, 16, 16) and set(labels.tolist()) <= {0, 1, 2}


def test_the_toy_in_pictures(toy: Spec) -> None:
    source = vpngen.render
    made = preview.mosaic(toy, lambda i, w, split: source(toy, i, w, split=split), still=True)
    assert made.shape[0] == 1
    assert preview.caption(toy, 4) == ("train 4", "category 1:  (3,)")
    assert ("speed", "1") in toy.generator.facts(toy.shape)


def test_the_toy_on_the_command_line(toy: Spec, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = run("render", "--generator", "toy", "--help").out
    assert "With --generator toy:" in shown and "--speed INTEGER" in shown and "[default: 72x80x200]" in shown
    assert "--widths NAME|N,..." in shown and "--round / --no-round" in shown and "--ends [open|closed]" in shown
    assert "--fade" not in shown and "--speed" not in run("render", "--help").out
    small = ("--generator", "toy", "--shape", "20x24x40", "--instances", "5", "--val-instances", "2")
    written = run("render", "a.zarr", *small, "--format", "json")
    assert (written.code, written.json["rendered"], written.json["finished"]) == (0, 21, True)
    assert run("info", "a.zarr", "--format", "json").json["spec"] == toy.to_dict()
    other = run("info", "--format", "json", *small, "--widths", "2,9", "--speed", "4", "--round", "--ends", "closed")
    assert other.json["spec"]["generator"] == {
        "name": "toy", "widths": [2, 9], "speed": 4, "colours": 2, "round": True, "ends": "closed",
    }  # fmt: skip
    assert run("render", "--generator", "toy", "--dry-run", "--format", "json").json["path"] == "ty-3x4.zarr"
    assert run("info", "--preset", "toy-even", "--format", "json").json["spec"]["generator"]["widths"] == [2, 4, 6]
    wrong = run("info", *small, "--widths", "50")
    assert wrong.code == 2 and "`--widths` (=(50,)) must be at most the width, 40" in wrong.err
    assert "`--speed` is an option of the toy generator, and this set is of 'perlin'" in run("info", "--speed", "3").err
    assert run("verify", "a.zarr", "--render").code == 0
    for command in ("preview --indices 0,3-5", "mosaic"):
        for name, of in (("stored", ("a.zarr",)), ("made", small)):
            assert run(*command.split(), *of, "-o", f"{name}.png").code == 0
        assert Path("stored.png").read_bytes() == Path("made.png").read_bytes()


def test_the_doctor_tries_the_toy(toy: Spec, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    sets = {"toy": health.trials()["toy"]}
    monkeypatch.setattr(health, "trials", lambda: sets)
    found = run("doctor", "--format", "json").json
    assert found["generator toy"]["value"] == "Toy Stripes"
    assert found["backend reference"]["value"].endswith("of toy a second on one thread")


# --- every generator of the list


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.name)
def test_defaults_are_what_the_options_say(kind: type[Generator]) -> None:
    options = kind.options()
    given = {f.name: f.default for f in options if f.default is not dataclasses.MISSING and f.default is not None}
    assert Spec.make(kind.name, **given) == Spec.make(kind.name)
    assert all(f.help.endswith(".") for f in options) and len({f.name for f in options}) == len(options)
    assert kind.params_dtype.itemsize <= 256 and kind.title and kind.short
    t, y, x = Spec.make(kind.name, **kind.trial).shape
    assert t >= 64 and y >= 80 and x >= 200
    for fields in kind.presets.values():
        assert fields["about"] and set(fields) - {"about"} <= {f.name for f in options}


@pytest.mark.parametrize(("name", "categories"), [("perlin", 2), ("fractal", 2), ("drift", 64), ("leaves", 64)])
def test_functions_of_generators_show_their_options(name: str, categories: int) -> None:
    function = getattr(vpngen, name)
    shown = inspect.signature(function).parameters
    assert {f.name: f.default for f in GENERATORS[name].counts} == {
        n: shown[n].default for n in shown if n != "options"
    }
    assert all(f"{f.name}: {f.help}" in function.__doc__ for f in GENERATORS[name].options())
    assert function() == Spec.make(name) and function(categories, 3) == Spec.make(
        name, categories=categories, instances=3
    )


def test_no_room_names_a_generator(tmp_path: Path) -> None:
    """Nothing outside `generators/`, kernels and the help of commands asks which generator it has."""
    home = Path(vpngen.__file__).parent
    allowed = ("generators/", "backends/numba_", "backends/cuda_", "systems.py")
    for path in home.rglob("*.py"):
        if not str(path.relative_to(home)).startswith(allowed):
            code = path.read_text(encoding="utf-8")
            assert not [w for w in ("Perlin)", "Fractal)", '== "perlin"', '== "fractal"') if w in code], path


def test_the_list_is_append_only() -> None:
    """Its order is in the bytes of mixtures."""
    assert [kind.name for kind in kinds()][:2] == ["perlin", "fractal"]
    script = "import json; from vpngen.generators import GENERATORS; print(json.dumps(list(GENERATORS)))"
    listed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert json.loads(listed)[:3] == ["perlin", "fractal", "mixed"]
