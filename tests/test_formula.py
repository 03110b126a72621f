"""The formula codec and the store that is nowhere: what zarr reads is what is rendered, no more, and never from damage."""

from __future__ import annotations

import asyncio
import copy
import hashlib
import json
import os
import pickle
import subprocess
import sys
import textwrap
import threading
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dask.array as dask_array
import numpy as np
import numpy.typing as npt
import pytest
import stores
import xarray
import zarr
from hypothesis import given
from hypothesis import strategies as st
from stores import pixels, plan_of, small, tiny, tree, write
from strategies import brief, thorough
from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.core.buffer import default_buffer_prototype

import vpngen
from vpngen import ArgumentError, ConflictError, RunError, Spec
from vpngen.backends.cpu import Numba
from vpngen.backends.reference import Reference
from vpngen.generators import Fractal, Params, Perlin, kinds
from vpngen.store import formula
from vpngen.store.formula import FormulaCodec, cut, decode_params, encode_params
from vpngen.store.packing import MISSING, crc32c
from vpngen.store.virtual import SpecStore

SPEC = small(shape=(20, 48, 36), divisions_x=(2, 3), noise_terms=2)
HOME = Path(vpngen.__file__).parents[1]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A formula store of `SPEC`, not to be changed."""
    store = tmp_path_factory.mktemp("formula") / "set.zarr"
    write(SPEC, store, codec="formula")
    return store


@pytest.fixture
def own(path: Path, tmp_path: Path) -> Path:
    """The same, to be changed."""
    return stores.copy(path, tmp_path / "set.zarr")


@pytest.fixture(scope="module", params=["stored", "virtual"])
def video(request: pytest.FixtureRequest, path: Path) -> zarr.Array[Any]:
    return vpngen.open(path if request.param == "stored" else SPEC).video


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Grows by the shape of whatever numba renders."""
    found: list[tuple[int, ...]] = []
    real = Numba.render

    def render(self: Numba, generator: str, rows: Params, windows: Any, out: Any, threads: int | None) -> None:
        found.append(out.shape)
        real(self, generator, rows, windows, out, threads)

    monkeypatch.setattr(Numba, "render", render)
    return found


# --- every selection gives what numpy would give


def slices(size: int, steps: st.SearchStrategy[int]) -> st.SearchStrategy[slice]:
    bound = st.none() | st.integers(-size - 2, size + 2)
    return st.builds(slice, bound, bound, st.none() | steps)


def places(size: int) -> st.SearchStrategy[npt.NDArray[Any]]:
    """Integers from either end, in any order and more than once; or a mask."""
    integers = st.lists(st.integers(-size, size - 1), min_size=1, max_size=6).map(np.array)
    return integers | st.lists(st.booleans(), min_size=size, max_size=size).map(np.array)


@given(data=st.data())
def test_basic_selections(data: st.DataObject, video: zarr.Array[Any]) -> None:
    axes = [data.draw(st.integers(-n, n - 1) | slices(n, st.integers(1, 9))) for n in video.shape]
    kept = data.draw(st.integers(0, 4))
    selection = (*axes[:kept], ..., *axes[data.draw(st.integers(kept, 4)) :])
    np.testing.assert_array_equal(video[selection], pixels(SPEC)[selection])


@brief
@given(data=st.data())
def test_orthogonal_selections(data: st.DataObject, video: zarr.Array[Any]) -> None:
    axes = [data.draw(st.integers(0, n - 1) | slices(n, st.integers(1, 3)) | places(n)) for n in video.shape]
    grid = np.ix_(*([a] if isinstance(a, int) else np.arange(n)[a] for a, n in zip(axes, video.shape, strict=True)))
    dropped = tuple(axis for axis, a in enumerate(axes) if isinstance(a, int))
    np.testing.assert_array_equal(video.oindex[tuple(axes)], pixels(SPEC)[grid].squeeze(axis=dropped))


@brief
@given(data=st.data())
def test_points(data: st.DataObject, video: zarr.Array[Any]) -> None:
    n = data.draw(st.integers(1, 8))
    points = tuple(np.array(data.draw(st.lists(st.integers(0, m - 1), min_size=n, max_size=n))) for m in video.shape)
    np.testing.assert_array_equal(video.vindex[points], pixels(SPEC)[points])


@thorough
@given(data=st.data())
def test_a_cut_holds_the_selection_and_no_more(data: st.DataObject) -> None:
    """Whatever numpy takes as a selection of a chunk, with negative steps, masks and grids among it."""
    shape = (1, *(data.draw(st.integers(1, 7)) for _ in range(3)))
    chunk = np.arange(np.prod(shape), dtype=np.int64).reshape(shape)
    one = st.integers(0, 0) | slices(1, st.sampled_from((-2, -1, 1, 2))) | st.just(np.zeros(3, np.int64))
    axes: list[Any] = [data.draw(one)]
    for n in shape[1:]:
        inside = places(n).filter(lambda a: a.dtype == bool or (a >= 0).all())
        axes.append(data.draw(st.integers(0, n - 1) | slices(n, st.integers(-4, 4).filter(bool)) | inside))
    arrays = [a for a in axes if isinstance(a, np.ndarray)]
    if len(arrays) > 1:  # as zarr hands them over
        grid = (np.arange(n)[a].reshape(-1) for a, n in zip(axes, shape, strict=True))
        axes = list(np.ix_(*grid))
    selection = tuple(axes[: data.draw(st.integers(1, 4))]) if not arrays else tuple(axes)
    ((t0, step, y0, x0, flip),), (n, t, y, x), rest = cut(selection, shape)
    window = chunk[:n, t0 : t0 + t * step : step, y0 : y0 + y, x0 : x0 + x]
    assert window.shape == (n, t, y, x) and not flip
    np.testing.assert_array_equal(window[rest], chunk[selection])
    wanted = chunk[selection]
    if wanted.size:
        corners = [np.unique(axis) for axis in np.unravel_index(wanted.ravel(), shape)]
        assert all(size == c[-1] - c[0] + 1 for size, c in zip((y, x), corners[2:], strict=True))
        assert t <= corners[1][-1] - corners[1][0] + 1
        if all(isinstance(a, slice) and (a.step or 1) > 0 for a in axes[1:2]):
            assert t == len(corners[1])


@pytest.mark.parametrize("selection", [(0, 7), (0, slice(None), -1), (0, np.array([0, 5]), 0, 0)])
def test_a_place_outside_is_an_error(selection: tuple[Any, ...]) -> None:
    with pytest.raises(IndexError, match="outside an axis of 5"):
        cut(selection, (1, 5, 5, 5))


# --- nothing is rendered that is not asked for


def test_only_the_selection_is_rendered(video: zarr.Array[Any], rendered: list[tuple[int, ...]]) -> None:
    asked: list[tuple[Any, list[tuple[int, ...]]]] = [
        ((5, slice(3, 7), slice(10, 30), slice(4, 20)), [(1, 4, 20, 16)]),
        ((5, 19, 47, 35), [(1, 1, 1, 1)]),
        ((-1, slice(None, None, 5), 3), [(1, 4, 1, 36)]),
        ((slice(2, 5), 0, 0, slice(0, 3)), [(1, 1, 1, 3)] * 3),
        ((slice(0, 0),), []),
        ((0, slice(4, 4)), []),
        ((7, slice(0, 2), slice(0, 10, 3), slice(5, 6)), [(1, 2, 10, 1)]),
    ]
    for selection, shapes in asked:
        rendered.clear()
        np.testing.assert_array_equal(video[selection], pixels(SPEC)[selection])
        assert rendered == shapes
    rendered.clear()
    video.oindex[[1, 17], [4, 6], 5, :]
    assert rendered == [(1, 3, 1, 36)] * 2


def test_opening_renders_nothing(path: Path, rendered: list[tuple[int, ...]]) -> None:
    for source in (path, SPEC):
        view = vpngen.open(source)
        assert view.video.shape == (18, 20, 48, 36) and int(view.label[17]) == 5 and view.finished()
        assert view.parameters["key"][3].shape == (2,)
    assert rendered == []


def test_a_large_selection_is_rendered_beside_zarrs_own_thread(
    path: Path, monkeypatch: pytest.MonkeyPatch, rendered: list[tuple[int, ...]]
) -> None:
    threads: list[str] = []
    real = Numba.render

    def render(*args: Any) -> None:
        threads.append(threading.current_thread().name)
        real(*args)

    monkeypatch.setattr(Numba, "render", render)
    array = vpngen.open(path).video
    for most, expected in ((10**9, 1), (0, 2)):
        monkeypatch.setattr(formula, "AT_ONCE", most)
        np.testing.assert_array_equal(array[4], pixels(SPEC)[4])
        assert len(set(threads)) == expected
    assert rendered == [(1, 20, 48, 36)] * 2


# --- real readers


def test_xarray_and_dask(path: Path, rendered: list[tuple[int, ...]]) -> None:
    for source in (path, SpecStore(SPEC)):
        with xarray.open_zarr(source, group="train", chunks={}) as data:
            assert data["video"].data.chunksize == (1, 20, 48, 36)
            assert rendered == []
            part = data["video"][3:5, ::4, 8:40, 1:30]
            np.testing.assert_array_equal(part.values, pixels(SPEC)[3:5, ::4, 8:40, 1:30])
            np.testing.assert_array_equal(data["label"].values, SPEC.labels(np.arange(18)))
            mean = data["video"].mean(("t", "y", "x")).compute(scheduler="threads")
            np.testing.assert_allclose(mean.values, pixels(SPEC).mean((1, 2, 3)))
        rendered.clear()
    lazy = dask_array.from_zarr(str(path), component="train/video")
    assert lazy.chunksize == (1, 20, 48, 36)
    np.testing.assert_array_equal(lazy.compute(scheduler="threads"), pixels(SPEC))
    np.testing.assert_array_equal(dask_array.from_zarr(vpngen.open(SPEC).video)[2:4].compute(), pixels(SPEC)[2:4])


def test_threads(path: Path) -> None:
    for source in (path, SPEC):
        array = vpngen.open(source).video
        with ThreadPoolExecutor(8) as pool:
            for i, found in enumerate(pool.map(lambda i, a=array: a[i % 18, i % 7 :], range(60))):
                np.testing.assert_array_equal(found, pixels(SPEC)[i % 18, i % 7 :])


def python(code: str, *args: str | Path, folders: tuple[str | Path, ...]) -> str:
    """What a fresh Python prints that has just these folders beside its packages."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, args)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders))}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder with the entry points of pyproject.toml, as an installation makes it."""
    with open(HOME / "pyproject.toml", "rb") as file:
        groups = tomllib.load(file)["project"]["entry-points"]
    info = tmp_path / "site" / "vpngen_of_the_test-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: vpngen-of-the-test\nVersion: 1\n")
    lines = [
        line for group, found in groups.items() for line in (f"[{group}]", *(f"{k} = {v}" for k, v in found.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))
    return info.parent


def test_an_installed_vpngen_is_found_by_its_entry_point(path: Path, installed: Path) -> None:
    """By zarr alone, without a warning; in the processes of dask; and in a forked child of one that has read."""
    code = """
        import os, sys, warnings
        warnings.simplefilter("error")
        import zarr
        if __name__ == "__main__":
            video = zarr.open_group(sys.argv[1], mode="r")["train/video"]
            print(video[7, 3:5, 10:12, 20:24].tobytes().hex())
            import vpngen.store
            assert type(video.metadata.codecs[0].codecs[0]) is vpngen.store.formula.FormulaCodec
            print(zarr.open_group(sys.argv[1], mode="r")["train/video"][7, 3:5, 10:12, 20:24].tobytes().hex())
            import dask, dask.array
            warnings.simplefilter("default")
            with dask.config.set(scheduler="processes", num_workers=1):
                lazy = dask.array.from_zarr(sys.argv[1], component="train/video")
                print(lazy[7, 3:5, 10:12, 20:24].compute().tobytes().hex(), flush=True)
            child = os.fork() if hasattr(os, "fork") else None
            if child:
                assert os.waitpid(child, 0)[1] == 0
            else:
                print(video[7, 3:5, 10:12, 20:24].tobytes().hex(), flush=True)
                os._exit(0)
    """
    expected = pixels(SPEC)[7, 3:5, 10:12, 20:24].tobytes().hex()
    assert python(code, path, folders=(installed, HOME)).split() == [expected] * 4


def test_a_reader_without_vpngen_gets_an_error_that_names_the_codec(path: Path) -> None:
    code = """
        import importlib.metadata, sys
        class Absent:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] == "vpngen":
                    raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        sys.meta_path.insert(0, Absent())
        real = importlib.metadata.distributions
        importlib.metadata.distributions = lambda **given: (d for d in real(**given) if d.metadata["Name"] != "vpngen")
        import zarr
        for opened in (lambda: zarr.open_group(sys.argv[1], mode="r"), lambda: zarr.open_array(sys.argv[1] + "/train/video")):
            try:
                opened()
            except ValueError as error:
                print(type(error).__name__, "vpngen.formula" in str(error))
        print(zarr.open_array(sys.argv[1] + "/train/label", mode="r")[...].tolist())
    """
    told = "UnknownCodecError True"
    labels = str(SPEC.labels(np.arange(18)).tolist())
    assert python(code, path, folders=()).splitlines() == [told, told, labels]


# --- the codec is a value


def test_json_both_ways_and_copies() -> None:
    codec = FormulaCodec("perlin")
    fields = {"name": "vpngen.formula", "configuration": {"generator": "perlin", "format_version": 1}}
    assert json.loads(json.dumps(codec.to_dict())) == fields
    for twin in (FormulaCodec.from_dict(fields), pickle.loads(pickle.dumps(codec)), copy.deepcopy(codec)):
        assert twin == codec and hash(twin) == hash(codec)
    array = pickle.loads(pickle.dumps(vpngen.open(SPEC).video))
    np.testing.assert_array_equal(array[3, :2], pixels(SPEC)[3, :2])


@pytest.mark.parametrize(
    ("configuration", "says"),
    [
        ({"generator": "perlin", "format_version": 2}, r"`format_version` \(=2\) is newer.*pip install --upgrade vpngen"),
        ({"format_version": 3, "colour": True}, r"`format_version` \(=3\) is newer.*pip install --upgrade vpngen"),
        ({"generator": "plasma", "format_version": 1}, r"`generator` \(='plasma'\).*perlin.*pip install --upgrade vpngen"),
        ({"generator": ["perlin"], "format_version": 1}, r"`generator` \(=\['perlin'\]\)"),
        ({"generator": "perlin", "format_version": "1"}, "`format_version` .*must be an integer"),
        ({"generator": "perlin", "format_version": 0}, "`format_version` .*must be an integer from 1"),
        ({"generator": "perlin"}, "has `generator` and `format_version`"),
        ({"generator": "perlin", "format_version": 1, "more": 1}, "has `generator` and `format_version`"),
        ("perlin", "has `generator` and `format_version`"),
        (None, "has `generator` and `format_version`"),
    ],
)  # fmt: skip
def test_a_configuration_that_is_not_ours_is_refused(configuration: Any, says: str, own: Path) -> None:
    with pytest.raises(ArgumentError, match=says):
        FormulaCodec.from_dict({"name": "vpngen.formula", "configuration": configuration})
    if not isinstance(configuration, dict):  # zarr refuses those itself
        return
    file = own / "train" / "video" / "zarr.json"
    fields = json.loads(file.read_text())
    fields["codecs"][0]["configuration"]["codecs"][0]["configuration"] = configuration
    file.write_text(json.dumps(fields))
    with pytest.raises(ValueError, match=says):
        zarr.open_array(own / "train" / "video", mode="r")


@pytest.mark.parametrize(
    ("shape", "dtype"), [((2, 4, 4, 4), "u1"), ((1, 4, 4, 4), "u2"), ((1, 4, 4), "u1"), ((1, 65537, 4, 4), "u1")]
)
def test_chunks_that_are_no_videos_are_refused(shape: tuple[int, ...], dtype: str) -> None:
    memory = zarr.storage.MemoryStore()
    array = zarr.create_array(
        memory, shape=shape, chunks=shape, dtype=dtype, serializer=FormulaCodec("perlin"), compressors=[], fill_value=0
    )
    key = "c/" + "/".join("0" * len(shape))
    chunk = b"".join(encode_params(SPEC.params([0]), 1))
    asyncio.run(memory.set(key, default_buffer_prototype().buffer.from_bytes(chunk)))
    with pytest.raises(ArgumentError, match="is one video"):
        array[...]


# --- the bytes of a chunk


def test_golden_chunk() -> None:
    """If this moves, stores that were written do not read as they did: a new format version."""
    payload, checksum = encode_params(Spec.preset("vpn-256x512").params([1000]), 1)
    assert payload[:8] == b"vpng\x01\x00\x60\x00"
    assert (len(payload), len(checksum)) == (104, 4)
    assert checksum == crc32c(payload)
    assert (
        hashlib.sha256(payload + checksum).hexdigest()
        == "28349f3c90fb2c01538f9fdcb61e40039a5f5364980dcf162da492c6ebc5da6e"
    )


CHUNK = b"".join(encode_params(SPEC.params([5]), 1))


def resealed(payload: bytes) -> bytes:
    return payload + crc32c(payload)


def test_a_chunk_is_read_back() -> None:
    row = decode_params(CHUNK, "perlin", 1)
    assert row.tobytes() == SPEC.params([5]).tobytes()
    assert row.dtype == Perlin.params_dtype and row.shape == (1,) and row.flags.aligned and row.flags.writeable


def test_no_flipped_bit_is_read() -> None:
    for bit in range(8 * len(CHUNK)):
        damaged = bytearray(CHUNK)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(formula.DamageError, match=r"checksum does not match.*vpngen verify STORE --repair"):
            decode_params(bytes(damaged), "perlin", 1)


def test_no_other_length_is_read() -> None:
    for size in range(len(CHUNK)):
        with pytest.raises(formula.DamageError, match="damaged"):
            decode_params(CHUNK[:size], "perlin", 1)
        if size >= 4:
            with pytest.raises(formula.DamageError, match="damaged"):
                decode_params(resealed(CHUNK[: size - 4]), "perlin", 1)
    with pytest.raises(formula.DamageError, match="damaged"):
        decode_params(resealed(CHUNK[:-4] + bytes(4)), "perlin", 1)


def test_headers_that_are_not_ours() -> None:
    body = CHUNK[8:-4]
    with pytest.raises(ArgumentError, match=r"`format_version` \(=2\) is newer.*pip install --upgrade vpngen"):
        decode_params(resealed(b"vpng\x02\x00\x60\x00" + body), "perlin", 1)
    with pytest.raises(ArgumentError, match=r"`format_version` \(=0\)"):
        decode_params(resealed(b"vpng\x00\x00\x60\x00" + body), "perlin", 1)
    for header in (b"xpng\x01\x00\x60\x00", b"vpng\x01\x00\x61\x00"):
        with pytest.raises(formula.DamageError, match=r"begins with|have 97 bytes in place of 96"):
            decode_params(resealed(header + body), "perlin", 1)
    assert issubclass(formula.DamageError, ValueError) and issubclass(formula.DamageError, RunError)


# --- rows from outside: right checksums over numbers that no parameters have


WRONG: dict[str, list[Any]] = {
    "terms": [0, 4, -1, 2**31 - 1],
    "cell": [0, -1, 65537, -(2**31)],
    "wrap": [-1],
    "gradients": [-1, 2],
    "fade": [-1, 2],
    "phase": [-0.5, 1.0, np.nan],
    "gain": [np.inf, np.nan],
    "bias": [np.nan, -np.inf],
    "amplitude": [np.nan, np.inf],
}


@pytest.mark.parametrize("field", WRONG)
def test_no_kernel_sees_parameters_that_could_not_be(field: str, rendered: list[tuple[int, ...]]) -> None:
    for value in WRONG[field]:
        row = SPEC.params([5])
        row[field].reshape(-1)[-1 if field in ("cell", "wrap", "amplitude") else 0] = value
        with pytest.raises(formula.DamageError, match=field):
            decode_params(resealed(CHUNK[:8] + row.tobytes()), "perlin", 1)
    assert rendered == []
    unused = tiny(noise_terms=0).params([0])
    assert not unused["cell"][0, 1:].any()
    Perlin.check_params(unused)


@st.composite
def odd_rows(draw: st.DrawFn) -> Params:
    """Whatever passes the check: cells that divide no side, periods beyond the video, any key."""
    row = np.zeros(1, Perlin.params_dtype)
    row["key"] = draw(st.tuples(*[st.integers(0, 2**32 - 1)] * 2))
    row["terms"] = terms = draw(st.integers(1, 3))
    size = st.integers(1, 40) | st.integers(1, 65536)
    for k in range(terms):
        row["cell"][0, k] = draw(st.tuples(size, size, size))
        row["wrap"][0, k] = draw(st.integers(0, 3) | st.integers(0, 2**31 - 1))
        row["amplitude"][0, k] = draw(st.floats(0, 0.25, width=32))
    row["gain"], row["bias"] = 127.5, 128
    row["gradients"], row["fade"] = draw(st.integers(0, 1)), draw(st.integers(0, 1))
    row["phase"] = draw(st.sampled_from((0, 0.5)))
    return row


@given(row=odd_rows(), start=st.tuples(*[st.integers(0, 65000)] * 3), size=st.tuples(*[st.integers(1, 70)] * 3))
def test_what_passes_the_check_can_be_rendered(row: Params, start: tuple[int, ...], size: tuple[int, ...]) -> None:
    Perlin.check_params(row)
    found, expected = (
        np.empty((1, min(size[0], 9), *size[1:]), np.uint8),
        np.empty((1, min(size[0], 9), *size[1:]), np.uint8),
    )
    window = np.array([[start[0], 1, start[1], start[2], 0]], np.int32)
    Numba().render("perlin", row, window, found, 1)
    Reference().render("perlin", row, window, expected, 1)
    np.testing.assert_array_equal(found, expected)


FRACTAL = vpngen.fractal(2, 3, shape=(20, 48, 36), points_per_frame=100)
WRONG_FRACTAL: dict[str, list[Any]] = {
    "maps": [np.nan, np.inf, -np.inf, 33.0],
    "thresholds": [0],
    "count": [0, 8, -1, 2**31 - 1],
    "frames": [0, -1, 65537, 2**31 - 1, 2**18],
    "height": [0, -1, 65537, 12],
    "width": [0, -(2**31), 65537, 12],
    "points_per_frame": [0, -1, 2**24 // 20 + 1, 2**31 - 1],
    "trail": [-1, 255, 2**31 - 1],
    "pad": [-1, 18, 24, 2**30, 2**31 - 1],
    "patch": [-1, 2, 256],
    "level": [0, -1, 256],
    "flips": [-1, 4],
}


@pytest.mark.parametrize("field", WRONG_FRACTAL)
def test_no_kernel_sees_a_fractal_that_could_not_be(field: str, rendered: list[tuple[int, ...]]) -> None:
    rows = FRACTAL.params([5])
    chunk = b"".join(encode_params(rows, 1))
    assert decode_params(chunk, "fractal", 1).tobytes() == rows.tobytes()
    both = vpngen.mixed(FRACTAL).params([5])
    for value in WRONG_FRACTAL[field]:
        row = rows.copy()
        row[field].reshape(-1)[-1] = value
        with pytest.raises(formula.DamageError, match="values that they never have"):
            decode_params(resealed(chunk[:8] + row.tobytes()), "fractal", 1)
        both["row"] = row.tobytes()
        head = b"".join(encode_params(both, 1))[:8]
        with pytest.raises(formula.DamageError, match="values that they never have"):
            decode_params(resealed(head + both.tobytes()), "mixed", 1)
    for kind in (-1, len(kinds()), 2**31 - 1):
        both["kind"] = kind
        with pytest.raises(formula.DamageError, match=f"of kind .*{kind}"):
            decode_params(resealed(head + both.tobytes()), "mixed", 1)
    assert rendered == []


@st.composite
def odd_fractal_rows(draw: st.DrawFn) -> Params:
    """Whatever passes the check: any limits and maps, narrow and wide canvases, and variants that no set has."""
    row = np.zeros(1, Fractal.params_dtype)
    side = st.integers(1, 60) | st.integers(1, 65536)
    height = draw(side)
    width = draw(side) if height <= 60 else draw(st.integers(1, 20))
    frames = draw(st.integers(1, 30) | st.integers(1, 3000))
    row["frames"], row["height"], row["width"] = frames, height, width
    row["points_per_frame"] = draw(st.integers(1, max(1, 6000 // frames)))
    row["key"] = draw(st.tuples(*[st.integers(0, 2**32 - 1)] * 2))
    row["thresholds"] = sorted(draw(st.tuples(*[st.integers(0, 2**32 - 1)] * 6)))
    row["maps"][0] = np.array(
        draw(st.tuples(*[st.floats(-32, 32, width=32) | st.floats(-1, 1, width=32)] * 42))
    ).reshape(7, 6)
    row["count"], row["flips"], row["patch"] = draw(st.integers(1, 7)), draw(st.integers(0, 3)), draw(st.integers(0, 1))
    row["pad"], row["level"] = draw(st.integers(0, (min(height, width) - 1) // 2)), draw(st.integers(1, 255))
    row["trail"] = draw(st.integers(0, 254))
    row["variant"], row["reserved"] = draw(st.integers(-(2**31), 2**31 - 1)), -1
    return row


@brief
@given(row=odd_fractal_rows(), data=st.data())
def test_what_passes_the_check_of_fractals_can_be_rendered(row: Params, data: st.DataObject) -> None:
    Fractal.check_params(row)
    start, size = [], []
    for name, most in (("frames", 40), ("height", 70), ("width", 70)):
        start.append(data.draw(st.integers(0, int(row[name][0]) - 1)))
        size.append(data.draw(st.integers(1, min(most, int(row[name][0]) - start[-1]))))
    window = np.array([[start[0], 1, start[1], start[2], data.draw(st.integers(0, 1))]], np.int32)
    found, expected = (np.full((1, *size), 99, np.uint8) for _ in range(2))
    Numba().render("fractal", row, window, found, 1)
    Reference().render("fractal", row, window, expected, 1)
    np.testing.assert_array_equal(found, expected)


# --- what is damaged or missing in a store


def place_of(store: Path, video: int) -> tuple[Path, int, int]:
    """File, offset and size of the parameters of a video."""
    plan = plan_of(SPEC, "formula")
    shard = next(s for s in plan.shards if s.split == "train" and video in s.videos)
    offset, size = stores.index_of(store, plan, shard)[0][video - shard.first, 0].tolist()
    return store / shard.key, offset, size


def test_a_damaged_chunk_hits_its_video_alone(own: Path) -> None:
    file, offset, size = place_of(own, 6)
    data = bytearray(file.read_bytes())
    data[offset + size // 2] ^= 8
    file.write_bytes(data)
    array = zarr.open_array(own / "train" / "video", mode="r")
    with pytest.raises(ValueError, match="checksum does not match"):
        array[6, 0, 0, 0]
    np.testing.assert_array_equal(array[5, 3], pixels(SPEC)[5, 3])


def test_a_chunk_that_is_missing_from_its_shard_is_an_error(own: Path) -> None:
    plan = plan_of(SPEC, "formula")
    file, *_ = place_of(own, 6)
    index, data = stores.index_of(own, plan, plan.shards[1])
    index = index.copy()
    index[2] = MISSING
    file.write_bytes(file.read_bytes()[: -len(data)] + resealed(index.tobytes()))
    array = zarr.open_array(own / "train" / "video", mode="r")
    with pytest.raises(ValueError, match=r"missing.*vpngen verify STORE --repair"):
        array[6, 0, 0, 0]
    np.testing.assert_array_equal(array[7, 0], pixels(SPEC)[7, 0])


def test_a_chunk_of_a_newer_format_is_refused(own: Path) -> None:
    file, offset, size = place_of(own, 0)
    data = bytearray(file.read_bytes())
    data[offset : offset + size] = b"".join(encode_params(SPEC.params([0]), 2))
    file.write_bytes(data)
    with pytest.raises(ValueError, match=r"newer.*pip install --upgrade vpngen"):
        vpngen.open(own).video[0, 0, 0, 0]


def test_pixels_cannot_be_written(own: Path) -> None:
    """Zeros neither, which zarr would take for the fill value and remove the parameters."""
    before = tree(own)
    array = zarr.open_array(own / "train" / "video", mode="r+")
    for selection, value in (((0,), 0), ((0,), 7), ((slice(0, 4),), 0), ((..., 0), 1), ((0, 0, 0, 0), 0), ((...,), 0)):
        with pytest.raises(
            ArgumentError, match=r"cannot be written.*drop_encoding\(\)\.to_zarr.*any other codec.*codec='formula'"
        ):
            array[selection] = value
    with pytest.raises(ValueError, match="cannot be written"):
        vpngen.open(SPEC).video[0] = 0
    with pytest.raises(ValueError, match="cannot be changed"):
        vpngen.open(SPEC).label[0] = 0
    assert tree(own) == before


@pytest.mark.filterwarnings("ignore::zarr.errors.ZarrUserWarning", "ignore:Consolidated metadata")
def test_a_crop_that_xarray_stores_needs_another_codec(path: Path, tmp_path: Path) -> None:
    """Its encoding carries the codec of what it was cut from; the error names the way out, which works as it says."""
    for source in (path, SpecStore(SPEC)):
        crop = xarray.open_zarr(source, group="train", chunks=None).isel(sample=slice(1, 3), t=slice(0, 8))
        with pytest.raises(ArgumentError, match="drop_encoding") as told:
            crop.to_zarr(tmp_path / "refused.zarr", mode="w")
        assert "\n" not in str(told.value)
        crop.drop_encoding().to_zarr(tmp_path / "crop.zarr", mode="w")
        stored = xarray.open_zarr(tmp_path / "crop.zarr", chunks=None)
        np.testing.assert_array_equal(stored.video, pixels(SPEC)[1:3, :8])


# --- the store as a whole


def test_a_formula_is_small(tmp_path: Path) -> None:
    """Bytes a video: its chunk, its place in the index, its share of labels and parameters; 22 MB would be 131,072 times 168."""
    spec = Spec.preset("vpn-256x512", instances=16)
    vpngen.write(spec, tmp_path / "set.zarr", codec="formula", backend="reference")
    files = [p for p in (tmp_path / "set.zarr").rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) < 168 * spec.n_videos()
    assert len(files) == 2 * spec.n_videos() // 1024 + 4 + 7


def test_stretched_greys_are_in_the_parameters(tmp_path: Path) -> None:
    spec = tiny(grey="stretch")
    write(spec, tmp_path / "set.zarr", codec="formula")
    write(spec, tmp_path / "again.zarr", codec="formula", backend="numba", threads=2)
    assert tree(tmp_path / "set.zarr") == tree(tmp_path / "again.zarr")
    assert pixels(spec).min() == 0 and pixels(spec).max() == 255
    for source in (tmp_path / "set.zarr", spec):
        np.testing.assert_array_equal(vpngen.open(source).video[1:4, 2:9, 1:, 3:], pixels(spec)[1:4, 2:9, 1:, 3:])
    assert vpngen.verify(tmp_path / "set.zarr", render=True, backend="reference").problems == ()


def test_a_store_of_pixels_is_no_store_of_parameters(own: Path) -> None:
    with pytest.raises(ConflictError) as told:
        write(SPEC, own, codec="zstd")
    for line in ("codec: formula there, zstd asked for", "chunk_frames: 65536 there, 16 asked for"):
        assert line in str(told.value)


# --- a spec without a store


def test_the_virtual_store_is_the_stored_one(path: Path) -> None:
    for split in SPEC.splits:
        stored, virtual = vpngen.open(path, split), vpngen.open(SPEC, split)
        assert (virtual.spec, virtual.split, virtual.path) == (SPEC, split, None)
        assert virtual.finished()
        assert set(virtual.parameters) == set(stored.parameters)
        pairs = [(virtual.video, stored.video), (virtual.label, stored.label)]
        pairs += [(virtual.parameters[name], stored.parameters[name]) for name in stored.parameters]
        for ours, theirs in pairs:
            assert (ours.shape, ours.dtype, ours.attrs.asdict()) == (theirs.shape, theirs.dtype, theirs.attrs.asdict())
            assert ours.metadata.dimension_names == theirs.metadata.dimension_names
            np.testing.assert_array_equal(ours[...], theirs[...])
    ours, theirs = (zarr.open_group(s, mode="r").attrs.asdict() for s in (SpecStore(SPEC), path))
    assert ours["licence"] == theirs["licence"] and ours["vpngen"]["fingerprint"] == theirs["vpngen"]["fingerprint"]


def test_a_split_that_is_empty() -> None:
    with pytest.raises(ArgumentError, match=r"`split` \(='val'\) is empty in the spec; it has train"):
        vpngen.open(tiny(val_instances=0), "val")
    with pytest.raises(ArgumentError, match="`split`"):
        vpngen.open(SPEC, "test")


def keys_of(store: SpecStore, prefix: str | None = None) -> list[str]:
    async def collect() -> list[str]:
        return [k async for k in (store.list() if prefix is None else store.list_prefix(prefix))]

    return asyncio.run(collect())


def test_the_keys_of_a_virtual_store() -> None:
    store, buffers = SpecStore(SPEC), default_buffer_prototype()

    def get(key: str, part: Any = None) -> bytes | None:
        found = asyncio.run(store.get(key, buffers, part))
        return None if found is None else found.to_bytes()

    keys = keys_of(store)
    assert len(keys) == len(set(keys)) == 3 + 2 * 5 + (18 + 6) + 2 * 4
    for key in keys:
        assert asyncio.run(store.exists(key))
        data = get(key)
        assert data
        assert get(key, RangeByteRequest(2, 9)) == data[2:9]
        assert get(key, OffsetByteRequest(5)) == data[5:]
        assert get(key, SuffixByteRequest(7)) == data[-7:]
        assert get(key, SuffixByteRequest(10**9)) == data
    for prefix in ("", "train", "train/", "train/video/c.1", "val/label/", "zarr", "none"):
        assert keys_of(store, prefix) == [k for k in keys if k.startswith(prefix)]
    for key in ("train/video/c.18.0.0.0", "train/video/c.01.0.0.0", "train/video/c.0.1.0.0", "train/video/c.0.0.0",
                "train/video/c.-1.0.0.0", "train/video/c.x.0.0.0", "train/label/c.1", "train/label/c", "test/label/c.0",
                "train/video", "train", "", "train/video/d.0.0.0.0", "zarr.json/x"):  # fmt: skip
        assert not asyncio.run(store.exists(key)) and get(key) is None
    assert list(zarr.open_group(store, mode="r", use_consolidated=False)["train"].array_keys())
    found = asyncio.run(store.get_partial_values(buffers, [("zarr.json", RangeByteRequest(0, 1)), ("none", None)]))
    assert found[0] is not None and found[0].to_bytes() == b"{" and found[1] is None


def test_a_virtual_store_is_a_value_that_cannot_be_changed() -> None:
    store = SpecStore(SPEC)
    for twin in (SpecStore(SPEC), pickle.loads(pickle.dumps(store)), copy.deepcopy(store), store.with_read_only(True)):
        assert twin == store and hash(twin) == hash(store) and str(twin) == str(store)
    assert store != SpecStore(small(seed=1))
    assert SPEC.fingerprint in str(store) and repr(SPEC) in repr(store)
    assert store.read_only and not store.supports_writes and not store.supports_deletes
    data = default_buffer_prototype().buffer.from_bytes(b"x")
    for change in (lambda: asyncio.run(store.set("zarr.json", data)), lambda: asyncio.run(store.delete("zarr.json")),
                   lambda: store.with_read_only(False)):  # fmt: skip
        with pytest.raises(ArgumentError, match=r"cannot be changed.*vpngen\.write"):
            change()
    with pytest.raises(ValueError, match=r"read-only|read only"):
        zarr.open_group(store, mode="r+")


def test_a_set_that_fits_no_disk(rendered: list[tuple[int, ...]]) -> None:
    spec = vpngen.perlin(categories=256, instances=2**32, val_instances=2**32)
    for split in spec.splits:
        view = vpngen.open(spec, split)
        assert view.video.shape == (2**40, 240, 240, 240) and view.finished()
        for i in (0, 2**39 + 12345, 2**40 - 1):
            window = vpngen.Window((3, 5), (100, 140), (7, 70))
            np.testing.assert_array_equal(
                view.video[i, 3:5, 100:140, 7:70], vpngen.render(spec, i, window, split=split, backend="numba")
            )
            assert int(view.label[i]) == spec.label(i) == i % 256
            for name, parameter in spec.parameters([i], split).items():
                np.testing.assert_array_equal(view.parameters[name][i], parameter.values[0])
    assert set(rendered) == {(1, 2, 40, 63)}


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vpngen.store.virtual.KEPT", 2)
    spec = tiny(instances=200)
    store = SpecStore(spec)
    array = zarr.open_group(store, mode="r")["train/video"]
    for i in (0, 399, 130, 64, 1, 399):
        np.testing.assert_array_equal(array[i, 0], vpngen.render(spec, i, backend="reference")[0])
    assert store._batch.cache_info()[2:] == (2, 2)
