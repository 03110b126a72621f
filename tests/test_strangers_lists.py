"""Lists, tables, specs, videos, numbers and states of strangers; machines with too little; forked children."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import struct
import tempfile
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import stores
import torch
from commands import Run
from filming import film, jpegs, plate, scene
from PIL import Image

import vpngen
from vpngen import Spec, VpngenError, errors, systems
from vpngen.cli import base, cli
from vpngen.datasets import KINDS, Video, VideoLoader, VideoSet, WindowLoader, decoding, read_videos
from vpngen.errors import ArgumentError, ConflictError

MOST_BYTES = 2**31
DEEP = "[" * 100_000


@pytest.fixture(autouse=True)
def bounds() -> Iterator[None]:
    """Ten seconds, and two gigabytes beyond what is taken already."""

    def too_long(*_: object) -> None:
        raise TimeoutError("over ten seconds")

    before, handler = resource.getrlimit(resource.RLIMIT_AS), signal.signal(signal.SIGALRM, too_long)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MOST_BYTES, before[1]))
    signal.alarm(10)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, handler)
    resource.setrlimit(resource.RLIMIT_AS, before)


# --- what is no file


def fifo(path: Path) -> None:
    os.mkfifo(path)


def endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def folder(path: Path) -> None:
    path.mkdir()


NO_FILES = (fifo, endless, folder)
FILM = "YoYo/v_YoYo_g01_c01.avi"


def put(path: Path, text: str | bytes = b"\0") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def database(name: str = "abc", label: str = "YoYo", **entry: Any) -> dict[str, Any]:
    """An annotation file of one video, for both kinds of JSON."""
    nodes = [{"nodeId": 1, "nodeName": label, "parentId": 0}]
    one = {"label": label, "segment": [0, 9]}
    return {"taxonomy": nodes, "database": {name: {"subset": "training", "fps": 25, "annotations": [one], **entry}}}


LISTS = {
    "ucf101": "trainlist01.txt", "hmdb51": "YoYo_test_split1.txt", "kinetics": "train.csv",
    "activitynet": "activity_net.json", "json": "list.json",
}  # fmt: skip
"""Kind -> the list that names videos."""
HEAD = "label,youtube_id,time_start,time_end,split\n"


def listed(kind: str, top: Path, text: str | bytes | None, place: Callable[[Path], None] | None = None) -> VideoSet:
    """The set of a kind with that list, or with something else in its place."""
    root, lists = top / "root", top / "lists"
    put(root / FILM)
    put(lists / "classInd.txt", "1 YoYo\n") if kind == "ucf101" else lists.mkdir()
    path = lists / LISTS[kind]
    place(path) if place is not None else put(path, text or "")
    return read_videos(kind, root, lists)


@pytest.mark.parametrize("place", NO_FILES)
@pytest.mark.parametrize("kind", LISTS)
def test_what_is_no_file_is_no_list(kind: str, place: Callable[[Path], None], tmp_path: Path) -> None:
    with pytest.raises(VpngenError) as caught:
        listed(kind, tmp_path, None, place)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 2000


def test_every_kind_of_list_is_tried() -> None:
    assert {*LISTS, "folder"} == set(KINDS)


BAD_NAMES = ("../x", "/etc/passwd", "a/../../x", "x\0y", "x" * 5000, "a/" * 3000)


def of_name(kind: str, name: str) -> str:
    """A list that names a video."""
    return {
        "ucf101": f"YoYo/{name}.avi 1\n", "hmdb51": f"{name}.avi 1\n", "kinetics": f"{HEAD}YoYo,{name},1,2,train\n",
        "activitynet": json.dumps(database(name)), "json": json.dumps(database(name)),
    }[kind]  # fmt: skip


@pytest.mark.parametrize("name", BAD_NAMES, ids=lambda name: name[:9].replace("\0", "0"))
@pytest.mark.parametrize("kind", LISTS)
def test_names_stay_below_the_root(kind: str, name: str, tmp_path: Path) -> None:
    where = {"activitynet": ", video ", "json": ", video ", "kinetics": ":2: "}.get(kind, ":1: ")
    with pytest.raises(ConflictError) as caught:
        listed(kind, tmp_path, of_name(kind, name))
    assert f"{LISTS[kind]}{where}" in str(caught.value) and "below a folder" in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("kinetics", f"{HEAD}../x,abc,1,2,train\n"), ("json", json.dumps(database(label="../x"))),
        ("json", json.dumps(database(video_path="/etc"))), ("json", json.dumps(database("\ud800"))),
    ],
)  # fmt: skip
def test_classes_and_paths_stay_below_the_root(kind: str, text: str, tmp_path: Path) -> None:
    with pytest.raises(ConflictError, match="below a folder"):
        listed(kind, tmp_path, text)


def test_a_class_of_ucf101_stays_below_the_root(tmp_path: Path) -> None:
    put(tmp_path / "root" / FILM)
    put(tmp_path / "lists/classInd.txt", "1 YoYo\n2 ../YoYo\n")
    with pytest.raises(ConflictError, match=r"classInd.txt:2: .* below a folder"):
        read_videos("ucf101", tmp_path / "root", tmp_path / "lists")


def test_folders_of_another_disk_are_the_users_own(tmp_path: Path) -> None:
    put(tmp_path / "disk/v_YoYo_g01_c01.avi")
    (tmp_path / "root").mkdir()
    (tmp_path / "root/YoYo").symlink_to(tmp_path / "disk")
    put(tmp_path / "lists/classInd.txt", "1 YoYo\n")
    put(tmp_path / "lists/trainlist01.txt", f"{FILM} 1\n")
    assert len(read_videos("ucf101", tmp_path / "root", tmp_path / "lists").videos) == 1


LONG_LINE = b"x" * 100_000_000
BAD_LISTS: list[tuple[str, Callable[[], str | bytes]]] = [
    *((kind, lambda: LONG_LINE) for kind in ("ucf101", "hmdb51", "kinetics")),
    *((kind, lambda: b" " * 140_000_000) for kind in ("activitynet", "json")),
    ("kinetics", lambda: HEAD + "x" * 200_000 + ",a,1,2,train\n"),
    ("kinetics", lambda: f"{HEAD}YoYo,abc,1e300,2,train\n"),
    ("kinetics", lambda: f"{HEAD}YoYo,abc,inf,2,train\n"),
    ("kinetics", lambda: HEAD + "".join(f"class {k},abc,1,2,train\n" for k in range(30_000)) + "YoYo\n"),
    ("ucf101", lambda: "YoYo/a.avi 1\n" * 50_000 + "x" * 1_000_000),
    ("hmdb51", lambda: "a.avi 0\n" * 50_000 + "b.avi 3\n"),
    *((kind, lambda: '{"database": ' + DEEP) for kind in ("activitynet", "json")),
    *((kind, lambda: '{"database": {"a": ' + "9" * 100_000 + "}}") for kind in ("activitynet", "json")),
    *((kind, lambda: "[" + "{}," * 10_000_000 + "{}]") for kind in ("json",)),
    *((kind, lambda: json.dumps(database(annotations=5))) for kind in ("activitynet", "json")),
    *((kind, lambda: json.dumps(database(annotations=[{"label": []}]))) for kind in ("activitynet", "json")),
    ("activitynet", lambda: '{"taxonomy": [{"nodeId": [], "nodeName": {}, "parentId": []}], "database": {}}'),
    ("json", lambda: '{"labels": ["a"], "database": {"v": {"annotations": {"label": {}}}}}'),
]


@pytest.mark.parametrize(("kind", "text"), BAD_LISTS)
def test_lists_out_of_proportion(kind: str, text: Callable[[], str | bytes], tmp_path: Path) -> None:
    with pytest.raises(VpngenError) as caught:
        listed(kind, tmp_path, text())
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 3000


# --- videos


def mp4_of(path: Path, samples: int) -> None:
    """An MP4 whose tables speak of so many frames of a byte each."""
    data = bytearray(film(path, scene(9), "-c:v", "libx264", "-pix_fmt", "yuv420p").read_bytes())
    sizes, chunks = data.index(b"stsz"), data.index(b"stsc")
    data[sizes + 8 : sizes + 16] = struct.pack(">II", 1, samples)
    data[chunks + 12 : chunks + 24] = struct.pack(">III", 1, samples, 1)
    path.write_bytes(data)


def wide(path: Path) -> None:
    """A GIF of 60,000 x 60,000 pixels, it says."""
    data = bytearray(film(path.with_name("a.gif"), scene(3), "-loop", "0").read_bytes())
    data[6:10] = struct.pack("<HH", 60000, 60000)
    path.write_bytes(data)


def playlist(text: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        film(path.with_name("secret.mp4"), scene(9), "-c:v", "libx264", "-pix_fmt", "yuv420p")
        put(path, text)

    return write


BAD_VIDEOS: list[Callable[[Path], Any]] = [
    fifo, endless, lambda path: mp4_of(path, 40_000_000), wide,
    playlist("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nsecret.mp4\n#EXT-X-ENDLIST\n"),
    playlist("ffconcat version 1.0\nfile secret.mp4\n"),
    playlist("v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"),
    playlist("<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011'><BaseURL>secret.mp4</BaseURL></MPD>"),
]  # fmt: skip


@pytest.mark.parametrize("make", BAD_VIDEOS)
def test_videos_that_reach_elsewhere_or_claim_too_much_cannot_be_read(
    make: Callable[[Path], Any], tmp_path: Path
) -> None:
    make(path := tmp_path / "a.mp4")
    one = Video("a", path, 0, "a")
    with pytest.raises(decoding.UnreadableError, match=r"a\.mp4"):
        decoding.probe(one)
    with pytest.raises(decoding.UnreadableError, match=r"a\.mp4"):
        next(decoding.stream(one, []))


def test_names_that_ffmpeg_takes_for_addresses_are_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    film(Path("a.mkv"), scene(9)).rename("concat:a|b.mkv")
    assert decoding.probe(Video("a", Path("concat:a|b.mkv"), 0, "a")).frames == 9


@pytest.mark.parametrize("place", [fifo, endless, lambda path: Image.new("L", (9000, 9000)).save(path)])
def test_images_that_are_no_files_or_too_large(place: Callable[[Path], None], tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        place(tmp_path / "image_00001.jpg")
    with pytest.raises(decoding.UnreadableError, match="none of the images 1 to 1 can"):
        decoding.probe(Video("a", tmp_path, 0, "a"))


@pytest.mark.parametrize("last", [10**6, 10**9, 10**200])
def test_segments_of_more_images_than_there_are(last: int, tmp_path: Path) -> None:
    with pytest.raises(decoding.UnreadableError, match="images"):
        decoding.probe(Video("a", jpegs(tmp_path, scene(2)), 0, "a", frames=(5, last)))
    with pytest.raises(decoding.UnreadableError, match="none of the images"):
        decoding.probe(Video("a", tmp_path, 0, "a", frames=(5, 200_000)))


# --- tables and specs


@pytest.mark.parametrize(
    "text", [b"0," * 100_000_000, b"0,0,0,0,0,0,1\n" * 1_000_000, b"9" * 60_000, b"1e999,0,0,0,0,0,1\n", b"\0" * 100]
)
def test_tables_out_of_proportion(text: bytes, tmp_path: Path) -> None:
    put(tmp_path / "a.csv", text)
    with pytest.raises(ArgumentError) as caught:
        systems.read_folder(tmp_path)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("place", NO_FILES)
def test_what_is_no_file_is_no_table(place: Callable[[Path], None], tmp_path: Path) -> None:
    place(tmp_path / "a.csv")
    with pytest.raises(ArgumentError, match=r"a\.csv"):
        systems.read_folder(tmp_path)


def small() -> Spec:
    return vpngen.perlin(4, 4, shape=(16, 240, 240))


def spec_with(**fields: Any) -> str:
    return json.dumps({**small().to_dict(), **fields})


def generator_with(**fields: Any) -> str:
    return spec_with(generator={**small().to_dict()["generator"], **fields})


def nested(levels: int) -> Any:
    made: Any = small().to_dict()["generator"]
    for _ in range(levels):
        made = {"name": "mixed", "parts": [made]}
    return made


PART = small().to_dict()["generator"]
BAD_SPECS: list[Callable[[], str]] = [
    lambda: DEEP, lambda: '{"generator": ' + DEEP, lambda: '{"a":' * 100_000, lambda: "[],[" * 100_000,
    lambda: spec_with(generator=nested(1)).replace('"parts": [', '"parts": [' + DEEP),
    lambda: spec_with(generator=nested(2)), lambda: spec_with(generator=nested(100)),
    lambda: spec_with(generator={"name": "mixed", "parts": [{"name": "perlin"}] * 100_000}),
    lambda: spec_with(generator={"name": "mixed", "parts": [PART] * 1025}),
    lambda: spec_with(seed=1).replace('"seed": 1', '"seed": ' + "9" * 100_000),
    lambda: spec_with(seed=10**4000), lambda: spec_with(seed="x" * 1_000_000), lambda: spec_with(**{"x" * 10**6: 1}),
    lambda: spec_with(instances=1).replace('"instances": 1', '"instances": 1e999'),
    lambda: spec_with(instances=float("nan")), lambda: spec_with(seed=float("inf")), lambda: spec_with(shape=[1] * 10**6),
    lambda: generator_with(name="x" * 10**6), lambda: generator_with(**{"y" * 10**6: 1}),
    lambda: generator_with(noise_amplitudes=[float("nan")]), lambda: generator_with(divisions_x=list(range(10**6))),
    lambda: generator_with(temporal=[1] * 10**6), lambda: generator_with(noise_frequencies=[{}] * 10**5),
    lambda: spec_with(generator={"name": "fractal", "variants": [1] * 100_001, "attempts": [1] * 100_001}),
]  # fmt: skip


@pytest.mark.parametrize("text", BAD_SPECS)
def test_specs_out_of_proportion(text: Callable[[], str], tmp_path: Path, run: Run) -> None:
    with pytest.raises(ArgumentError) as caught:
        Spec.from_json(made := text())
    assert len(str(caught.value)) < 3000
    put(tmp_path / "spec.json", made)
    result = run("info", "--spec", "spec.json")
    assert result.code == 2 and len(result.err) < 4000 and result.err.startswith("Error: `--spec` (='spec.json')")


@pytest.mark.parametrize("place", NO_FILES)
def test_what_is_no_file_is_no_spec(place: Callable[[Path], None], tmp_path: Path, run: Run) -> None:
    place(tmp_path / "spec.json")
    result = run("info", "--spec", "spec.json")
    assert result.code == 2 and "`--spec` (='spec.json') cannot be read: " in result.err


def test_the_largest_integers_have_a_message() -> None:
    assert str(ArgumentError("is wrong", "seed", 10**10_000)) == "`seed` (=a long int) is wrong"
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert errors.shown(deep) == "a long list"


# --- numbers of the command line


def commands(of: click.Command, name: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if isinstance(of, click.Group):
        for word, inner in of.commands.items():
            yield from commands(inner, (*name, word))
    else:
        yield name, of


@pytest.mark.parametrize("number", ["٣", "１２", "1_000", "²"])  # noqa: RUF001
def test_numbers_are_in_the_digits_of_keyboards(number: str, run: Run) -> None:
    tried = 0
    for name, command in commands(cli):
        with click.Context(command, info_name=name[-1]) as context:
            for option in command.get_params(context):
                if isinstance(option.type, (click.types.IntParamType, click.types.FloatParamType)):
                    tried += 1
                    with pytest.raises(click.BadParameter):
                        option.process_value(context, number)
    assert tried > 40
    for line in (
        f"render --slice 1/{number}", f"render --shape 1x1x{number}", f"render --divisions-x {number},2",
        f"render --noise-amplitudes 0.{number}", f"render --temporal {number}", f"preview --indices 0-{number}",
        f"preview --frames 0:{number}", f"render --backend cuda:{number}", f"finetune --seeds {number}",
        f"evaluate w --splits {number}", f"train --mean 0,0,{number}", f"evaluate w --clip {number}x9x9",
    ):  # fmt: skip
        assert run(*line.split()).code == 2, line


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("train --samples-per-epoch 0", "'--samples-per-epoch': 0 is not in the range 1<=x"),
        ("verify nothing.zarr --backend nonsense", "`--backend` (='nonsense') must be auto or one of"),
        ("preview nothing.zarr --backend nonsense", "`--backend` (='nonsense') must be auto or one of"),
        ("preview --categories 4 -o p.png/", "`--out` (='p.png/') names a folder"),
        ("render --instances " + "9" * 100_000, "is not a valid integer"),
        ("train --model-option a=" + DEEP, "Error"),
    ],
    ids=lambda text: text[:30],
)
def test_small_things_are_said(line: str, says: str, run: Run) -> None:
    result = run(*line.split(" "))
    assert result.code == 2 and says in result.err and len(result.err) < 1000


# --- machines with too little


SCARCE: list[tuple[Callable[[], BaseException], str]] = [
    (lambda: MemoryError(), "not enough memory"),
    (lambda: RuntimeError("can't start new thread"), "no more threads"),
    (lambda: RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 12 bytes"), "not enough memory"),
    (lambda: OSError(errno.EMFILE, "Too many open files", "a"), "too many open files"),
    (lambda: OSError(errno.ENFILE, "Too many open files in system"), "too many open files"),
    (lambda: OSError(errno.ENOMEM, "Cannot allocate memory"), "not enough memory"),
    (lambda: BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), "no more threads"),
]


@pytest.mark.parametrize(("error", "says"), SCARCE)
@pytest.mark.parametrize("inner", [False, True])
def test_what_is_scarce_is_said(
    error: Callable[[], BaseException], says: str, inner: bool, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        if not inner:
            raise error()
        raise ValueError("what a library says of it") from error()

    monkeypatch.setattr("vpngen.spec.presets", fails)
    result = run("info", "--presets")
    assert result.code == 4 and says in result.err and result.err.count("\n") == 1


def test_a_bug_shows_where_it_is(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vpngen.spec.presets", lambda: [].x)  # type: ignore[attr-defined]
    with pytest.raises(AttributeError):
        base.cli.main(["info", "--presets"], standalone_mode=False)
    assert base.scarce(AttributeError("list has no x")) is None


@pytest.mark.parametrize("started", [0, 1, 3])
@pytest.mark.parametrize(
    "command",
    ["render new.zarr --spec spec.json --shard-videos 2 --threads 3", "verify a.zarr", "preview a.zarr", "info a.zarr"],
)
def test_no_thread_can_be_started(
    command: str, started: int, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No line of a library, nothing waits, and what was there stays."""
    vpngen.write(spec := vpngen.perlin(4, 2, shape=(4, 240, 240)), tmp_path / "a.zarr", shard_videos=2, threads=1)
    put(tmp_path / "spec.json", spec.to_json())
    before, start, left = stores.tree(tmp_path), threading.Thread.start, started

    def few(self: threading.Thread) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(threading.Thread, "start", few)
    result = run(*command.split())
    monkeypatch.undo()
    assert result.code in (0, 4) and "Traceback" not in result.err
    assert result.code == 0 or "Error: no more threads or processes can be started" in result.err
    assert {
        name: it for name, it in stores.tree(tmp_path).items() if "new" not in str(name) and "preview" not in str(name)
    } == before


# --- forked children, and states


def in_child(work: Callable[[], None]) -> str:
    """The error of `work` in a forked child, empty where there is none; the child may take ten seconds."""
    here, path = tempfile.mkstemp()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads and forks
        child = os.fork()
    if not child:
        signal.alarm(10)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        try:
            work()
        except BaseException:
            os.write(here, traceback.format_exc(limit=0).encode())
        finally:
            os._exit(0)
    ended = os.waitpid(child, 0)[1]
    said = Path(path).read_text()
    os.close(here)
    os.unlink(path)
    assert ended == 0
    return said


def clips(workers: int) -> Any:
    return vpngen.loader(small(), 2, clip=(4, 24, 24), device="cpu", threads=2, num_workers=workers)


def real(tmp_path: Path, cls: Any, workers: int) -> Any:
    one = film(tmp_path / "a.mkv", plate(0))
    videos = tuple(Video(str(k), one, 0, str(k)) for k in range(8))
    return cls(VideoSet("folder", "train", 1, ("a",), videos), 2, clip=(4, 24, 24), num_workers=workers)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("make", ["clips", VideoLoader, WindowLoader])
def test_a_forked_child_does_not_take_from_its_parent(make: Any, workers: int, tmp_path: Path) -> None:
    loader = clips(workers) if make == "clips" else real(tmp_path, make, workers)
    whole = [batch[0].clone() for batch in (clips(0) if make == "clips" else real(tmp_path, make, workers))]
    live = iter(loader)
    first = next(live)[0].clone()

    def goes_on() -> None:
        next(live)

    def anew() -> None:
        if hasattr(loader, "set_epoch"):
            loader.set_epoch(0)
        found = [batch[0].clone() for batch in loader]
        assert len(found) == len(whole) and all(map(torch.equal, found, whole))

    assert "ConflictError: this iteration began in process" in in_child(goes_on)
    assert in_child(anew) == ""
    rest = [first, *(batch[0].clone() for batch in live)]
    assert len(rest) == len(whole) and all(map(torch.equal, rest, whole))


def deep() -> dict[str, Any]:
    made: dict[str, Any] = {}
    for _ in range(100_000):
        made = {"a": made}
    return made


BAD_VALUES: list[Any] = [
    None, -1, 1.5, True, "0", "9" * 10**6, 10**5000, 2**63, float("nan"), [], {}, [[[]]], b"0", torch.zeros(3), torch.zeros(()),
    deep(), {1: 2}, object(),
]  # fmt: skip


@pytest.mark.parametrize("value", BAD_VALUES, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("make", ["clips", VideoLoader])
def test_states_of_strangers(make: Any, value: Any, tmp_path: Path) -> None:
    loader = clips(0) if make == "clips" else real(tmp_path, make, 0)
    good = loader.state_dict()
    bad = [value, *({**good, key: value} for key in good)]
    bad += [
        {**good, "settings": {**good["settings"], key: value}}
        for key in good["settings"]
        if good["settings"][key] is not value
    ]
    if make == "clips":
        bad += [
            {**good, "worker": value},
            {**good, "worker": {"id": value, "of": value, "ranks": value, "batches": value}},
        ]
    for state in bad:
        with pytest.raises((ArgumentError, ConflictError)) as caught:
            loader.load_state_dict(state)
        assert len(str(caught.value)) < 3000
    loader.load_state_dict(good)
