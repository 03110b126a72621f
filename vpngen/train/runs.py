"""Whole runs: what `vpngen train`, `finetune` and `evaluate` do, from files to files."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vpngen import __version__, store
from vpngen.datasets import VideoSet, hold_out, read_videos
from vpngen.datasets.clips import VideoLoader, WindowLoader
from vpngen.errors import ArgumentError, ConflictError
from vpngen.files import write_json
from vpngen.models import MODELS, create_model, freeze, inflate, load_weights, read_weights
from vpngen.models.weights import recognize
from vpngen.sampling import AUGMENTATIONS, Augment
from vpngen.spec import Spec
from vpngen.stream import ClipLoader, loader
from vpngen.train import ranks
from vpngen.train.checkpoint import CHECKPOINT, Row
from vpngen.train.evaluation import Evaluation, evaluate
from vpngen.train.fitting import Progress, fit
from vpngen.train.recipes import Recipe

DEFAULT_MODEL = "r3d50"
"""That of Kataoka et al., WACV 2022, section 4."""
FILMED = 7 / 8
"""Part of the short side of a video that corner crops take where the paper leaves it open: 112 of 128 pixels."""
VAL_SHARE = 16
"""Of so many instances one more is made for validation, where nothing else is asked for."""
LEVELS: dict[str, dict[str, tuple[float, float, float]]] = {
    "half": {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)},
    "kinetics": {"mean": (0.4345, 0.4051, 0.3775), "std": (0.2768, 0.2713, 0.2737)},
    "activitynet": {"mean": (0.4477, 0.4209, 0.3906), "std": (0.2767, 0.2695, 0.2714)},
    "imagenet": {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)},
}
"""Mean and deviation of red, green and blue in [0, 1]: mean.py of 3D-ResNets-PyTorch, and ImageNet's as torchvision has them."""


@dataclass(frozen=True)
class Machine:
    """Where and how a run reckons. Of what is learned it decides rounding, and what batch normalization sees at once.

    Attributes:
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        accumulate: parts in which the batch of a rank goes through the network.
        compile: whether torch.compile is asked.
        amp: bfloat16; None for yes on a card that can.
        workers: processes that decode videos.
    """

    device: str = "auto"
    accumulate: int = 1
    compile: bool = False
    amp: bool | None = None
    workers: int = 0

    def options(self) -> dict[str, Any]:
        """What `fit` wants to know of it."""
        precision = "auto" if self.amp is None else "bf16" if self.amp else "fp32"
        return {"grad_accum_steps": self.accumulate, "compile": self.compile, "precision": precision}


@dataclass(frozen=True)
class Start:
    """What a network is, and where its weights come from.

    Attributes:
        model: a name of `vpngen.train.MODELS`, or package.module:callable; None for that of `weights`, or R3D-50.
        options: of the model; None for those of `weights`.
        weights: a file to initialize from, all but its head.
        inflate: a file of a 2-D ResNet, whose kernels are repeated along time.
    """

    model: str | None = None
    options: Mapping[str, Any] | None = None
    weights: Path | None = None
    inflate: Path | None = None

    def __post_init__(self) -> None:
        if self.weights is not None and self.inflate is not None:
            raise ArgumentError("and `inflate` both say what the weights are; leave one of them out", "from")

    @functools.cached_property
    def parent(self) -> dict[str, Any] | None:
        """What `weights` say of themselves, which file they are, and under `model` what they are recognized as; None without any."""
        if self.weights is None:
            return None
        with _calling(path="`from`"):
            state, metadata = read_weights(self.weights)
        return {**metadata, "model": recognize(state, metadata) or {}, **_file(self.weights)}

    @property
    def network(self) -> tuple[str, dict[str, Any]]:
        """Name and options of the model. Raises ArgumentError where nothing tells what `weights` are of."""
        known = {} if self.parent is None else self.parent["model"]
        name = self.model or known.get("name", None if self.weights else DEFAULT_MODEL)
        if name is None:
            raise ArgumentError(
                "holds weights of none of the networks here, and does not say of which; give "
                "`model`, or, if they are of images, give the file as `inflate`",
                "from",
                str(self.weights),
            )
        options = self.options
        if options is None:
            options = known["options"] if name == known.get("name") else {}
        return name, dict(options)

    @property
    def levels(self) -> Mapping[str, tuple[float, ...]]:
        """The `mean` and `std` of what the weights have seen, as far as they are known."""
        if self.inflate is not None:
            return LEVELS["imagenet"]
        seen = (self.parent or {}).get("recipe", {})
        return {name: tuple(seen[name]) for name in ("mean", "std") if name in seen}

    def build(self, num_classes: int, seed: int, frozen: int) -> tuple[nn.Module, dict[str, Any]]:
        """The network with its weights, and what its metadata say of both."""
        name, options = self.network
        if name in MODELS and options.get("in_channels", 3) != 3:
            raise ArgumentError(
                f"option `in_channels` (={options['in_channels']}) must be 3: clips are red, green and blue"
            )
        torch.manual_seed(seed)
        model = create_model(name, num_classes, **options)
        parent = self.parent
        if self.weights is not None:
            load_weights(model, self.weights, head="replace")
        if self.inflate is not None:
            with _calling(path="inflate", state="inflate"):
                inflate(model, read_weights(self.inflate)[0])
            parent = {"stage": "inflation", **_file(self.inflate)}
        freeze(model, frozen)
        about = {"name": name, "options": options, "num_classes": num_classes}
        return model, {"model": about, "parent": parent, "seed": seed}


@contextlib.contextmanager
def _calling(**arguments: str) -> Iterator[None]:
    """Errors speak of these arguments in place of those of the function that raises them."""
    try:
        yield
    except ArgumentError as error:
        name = error.argument or ""
        raise ArgumentError(error.problem, arguments.get(name, error.argument), error.value) from error


@dataclass(frozen=True)
class Data:
    """A labelled set of filmed videos.

    Attributes:
        kind: one of `vpngen.train.KINDS`.
        root: the folder of the videos.
        annotations: the folder or file that says which is what; None for a folder of classes.
        split: which of the official splits.
        holdout: the share of the training videos that validation takes, in [0, 1); 0 to validate on the test videos of the
            split, as the papers do.
    """

    kind: str
    root: Path
    annotations: Path | None = None
    split: int = 1
    holdout: float = 0.0

    def read(self, subset: str) -> VideoSet:
        """Its `train` or `val` videos."""
        return read_videos(self.kind, self.root, self.annotations, subset=subset, split=self.split)

    def sets(self, seed: int) -> tuple[VideoSet, VideoSet, VideoSet]:
        """What to train on, what to look at after each epoch, and the test.

        What is held out is drawn by `seed`; of a plain folder it is the test, and the same for every seed.
        """
        train = self.read("train")
        if not self.holdout:
            test = self.read("val")
            return train, test, test
        plain = self.kind == "folder" and not any((self.root / name).is_dir() for name in ("val", "test"))
        rest, held = hold_out(train, self.holdout, 0 if plain else seed)
        return rest, held, held if plain else self.read("val")

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON has them, with paths that hold wherever they are read."""
        fields = {**dataclasses.asdict(self), "root": str(self.root.absolute())}
        return {**fields, "annotations": None if self.annotations is None else str(self.annotations.absolute())}


def initialize(
    source: Spec | Path,
    out: Path,
    start: Start,
    recipe: Recipe,
    machine: Machine,
    *,
    seed: int = 0,
    samples: int | None = None,
    backend_threads: int | None = None,
    progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] | None = None,
    say: Callable[[str], None] | None = None,
) -> list[Row]:
    """Train a network to name the category of clips that are rendered on the fly: `vpngen train`.

    Args:
        source: a spec, or a store of one; its `val` instances are what validation sees, and are never trained on. A set without
            any gets one for every 16 of its instances.
        out: the folder of the run.
        start: the network.
        recipe: how it is trained.
        machine: where.
        seed: of weights, order and augmentation.
        samples: clips of an epoch, over all ranks; None for one of every video.
        backend_threads: CPU threads that render.
        progress: see `fit`.
        stop: see `fit`.
        say: see `fit`.

    Returns:
        A row for each epoch.

    Raises:
        ArgumentError: an argument out of range, a batch that cannot be shared among the ranks.
        ConflictError: `out` holds another run.
        MissingError, RunError: see `fit`.
    """
    spec = source if isinstance(source, Spec) else store.read_spec(source)[0]
    seen = spec if spec.val_instances else dataclasses.replace(spec, val_instances=max(1, spec.instances // VAL_SHARE))
    with ranks.joined(machine.device) as device:
        model, metadata = start.build(spec.n_categories, seed, recipe.freeze)
        metadata = _metadata("train", metadata, recipe, {"spec": seen.to_dict(), "fingerprint": seen.fingerprint})
        batch = per_rank(recipe)
        _try(model, metadata["model"], recipe.clip, device)

        def clips(where: Spec | Path, split: str, augment: Augment, **more: Any) -> ClipLoader:
            return loader(
                where, batch, clip=recipe.clip, split=split, augment=augment, seed=seed, threads=backend_threads,
                device=device if device.type == "cpu" else f"cuda:{device.index}", **more,
            )  # fmt: skip

        plenty = samples or spec.n_videos()
        if recipe.batch_size > plenty:
            raise ArgumentError(
                f"is more than an epoch holds, which is {plenty:,} clips", "batch_size", recipe.batch_size
            )
        train = clips(
            source,
            "train",
            rendered_augmentation(recipe.augment, recipe.clip, spec),
            length=samples or "epoch",
            drop_last=True,
        )
        whole = seen if isinstance(source, Spec) or not spec.val_instances else source
        batch, alone = _val_batch(batch, seen.n_videos("val"))
        val = clips(whole, "val", rendered_augmentation("none", recipe.clip, spec), shuffle=False, **alone)
        describe(
            out, "train", metadata, {"samples": samples, "store": str(source) if isinstance(source, Path) else None}
        )
        return fit(
            model, train, val, recipe, out=out, device=device, metadata=metadata, progress=progress, should_stop=stop, log=say,
            **machine.options(),
        )  # fmt: skip


def finetune(
    data: Data,
    out: Path,
    start: Start,
    recipe: Recipe,
    machine: Machine,
    *,
    seed: int = 0,
    progress: Callable[[Progress], None] | None = None,
    scored: Callable[[int, int], None] | None = None,
    stop: Callable[[], bool] | None = None,
    say: Callable[[str], None] | None = None,
) -> Evaluation:
    """Train a network on filmed videos and evaluate it on those of the split's test list: `vpngen finetune`.

    The head is a new one, and as many stages as the recipe says stay as they are.

    Args:
        data: the videos.
        out: the folder of the run.
        start: the network and its weights.
        recipe: how it is trained.
        machine: where.
        seed: of the head, order, augmentation and what is held out.
        progress: see `fit`.
        scored: called with the videos of this rank that were evaluated, and how many there are.
        stop: see `fit`.
        say: see `fit`; also told of videos that could not be read.

    Returns:
        The evaluation of the last epoch's weights, which is also in `out`/evaluation.json; one that is there already is not
        made again.

    Raises:
        ArgumentError, ConflictError: a wrong argument; files that contradict each other or the run in `out`.
        MissingError, RunError: see `fit`.
    """
    train_set, val_set, test_set = data.sets(seed)
    with ranks.joined(machine.device) as device:
        model, metadata = start.build(len(train_set.classes), seed, recipe.freeze)
        metadata = _metadata("finetune", metadata, recipe, data.to_dict()) | {"classes": list(train_set.classes)}
        batch = per_rank(recipe)
        if recipe.batch_size > len(train_set.videos):
            raise ArgumentError(
                f"is more than the {len(train_set.videos):,} training videos of {data.kind}",
                "batch_size",
                recipe.batch_size,
            )
        _try(model, metadata["model"], recipe.clip, device)
        how: dict[str, Any] = {
            "clip": recipe.clip,
            "seed": seed,
            "num_workers": machine.workers,
            "pin_memory": device.type == "cuda",
        }
        train = VideoLoader(train_set, batch, augment=recipe.augment, **how)
        each, alone = _val_batch(batch, len(val_set.videos))
        val = VideoLoader(val_set, each, augment="none", shuffle=False, drop_last=False, **how, **alone)
        describe(out, "finetune", metadata, {})

        known = 0

        def keep_faults(last: bool = False) -> None:
            """All ranks call it. It is said after the first epoch that met any, and at the end if there were more."""
            nonlocal known
            faults = {k: v for some in ranks.gathered(train.failures | val.failures) for k, v in some.items()}
            _keep_faults(out, faults)
            if len(faults) > known and (last or not known) and say is not None and ranks.is_main():
                videos = "1 video" if len(faults) == 1 else f"{len(faults):,} videos"
                say(f"{videos} could not be read, or not whole; {out / 'faults.json'} says which, and why")
                known = len(faults)

        def told(p: Progress) -> None:
            if progress is not None:
                progress(p)
            if p.row is not None:
                keep_faults()

        fit(
            model, train, val, recipe, out=out, device=device, metadata=metadata, progress=told, should_stop=stop, log=say,
            **machine.options(),
        )  # fmt: skip
        keep_faults(last=True)
        weights, target = out / "weights.safetensors", out / "evaluation.json"
        about = {**read_weights(weights)[1], "sha256": _file(weights)["sha256"]}
        if (before := _evaluated_before(target, about, test_set)) is not None:
            return before
        found = _evaluated(model, test_set, recipe, per_rank(recipe), machine, device, about, scored)
        ranks.on_main(lambda: found.write(target))
        return found


def assess(
    weights: Path,
    machine: Machine,
    *,
    data: Data | None = None,
    clip: tuple[int, int, int] | None = None,
    batch: int = 32,
    scored: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Evaluate weights on the test videos of a split: `vpngen evaluate`.

    Args:
        weights: of a fine-tuned network; what it was trained on is in its metadata.
        machine: where.
        data: other videos than those of the metadata.
        clip: another clip than that of the metadata.
        batch: windows that go through the network at once, on each rank; of these as many parts as `machine` says.
        scored: called with the videos of this rank that were evaluated, and how many there are.

    Returns:
        The evaluation; its metadata are those of the weights, with the data evaluated.

    Raises:
        ArgumentError: the weights do not say what they are, and nobody else does.
        ConflictError: the classes of the weights are not those of the data.
    """
    data = data or data_of(weights)
    metadata = read_weights(weights)[1]
    if "model" not in metadata or "classes" not in metadata:
        raise ArgumentError(
            f"{str(weights)!r} does not say which classes it names; give weights that `vpngen finetune` wrote"
        )
    about = metadata["model"]
    recipe = Recipe.from_dict(metadata["recipe"])
    recipe = dataclasses.replace(recipe, clip=clip or recipe.clip)
    videos = data.sets(metadata.get("seed", 0))[2]
    if list(videos.classes) != list(metadata["classes"]):
        raise ConflictError(_other_classes(metadata["classes"], videos.classes, weights, data))
    with ranks.joined(machine.device) as device:
        model = create_model(about["name"], about["num_classes"], **about["options"])
        load_weights(model, weights)
        _try(model, about, recipe.clip, device)
        return _evaluated(model, videos, recipe, batch, machine, device, {**metadata, "source": data.to_dict()}, scored)


def data_of(weights: Path) -> Data:
    """The data that weights were fine-tuned on. Raises ArgumentError where they do not say."""
    _, metadata = read_weights(weights)
    fields = metadata.get("source", {})
    if metadata.get("stage") != "finetune" or "kind" not in fields:
        raise ArgumentError(
            f"{str(weights)!r} does not say which classes it names; give weights that `vpngen finetune` wrote"
        )
    annotations = fields["annotations"]
    return Data(
        fields["kind"], Path(fields["root"]), None if annotations is None else Path(annotations), fields["split"],
        fields["holdout"],
    )  # fmt: skip


def _other_classes(there: Sequence[str], here: Sequence[str], weights: Path, data: Data) -> str:
    lacks, new = sorted(set(there) - set(here)), sorted(set(here) - set(there))
    text = f"{str(weights)!r} names {len(there)} classes, {data.kind} in {str(data.root)!r} has {len(here)}"
    if lacks:
        text += f"; only the weights have {', '.join(lacks[:5])}{' ...' if len(lacks) > 5 else ''}"
    if new:
        text += f"; only the videos have {', '.join(new[:5])}{' ...' if len(new) > 5 else ''}"
    return text if lacks or new else text + ", in another order"


def _try(model: nn.Module, about: Mapping[str, Any], clip: tuple[int, int, int], device: torch.device) -> None:
    """Bring a network to the device and see that it takes such clips, as our own do whatever their size. Raises ArgumentError."""
    model.to(device)
    if about["name"] in MODELS:
        return
    shape, mode = "x".join(map(str, clip)), model.training
    try:
        with torch.no_grad():
            logits = model.eval()(torch.zeros(1, 3, *clip, device=device))
    except Exception as error:  # whatever a network may do
        raise ArgumentError(
            f"is a shape of clips that {about['name']} cannot take ({type(error).__name__}: {error})", "clip", shape
        ) from error
    finally:
        model.train(mode)
    if not isinstance(logits, torch.Tensor) or logits.shape != (1, about["num_classes"]):
        what = tuple(logits.shape) if isinstance(logits, torch.Tensor) else f"a {type(logits).__name__}"
        raise ArgumentError(
            f"must give logits (N, {about['num_classes']}), and gives {what} for a clip of {shape}",
            "name",
            about["name"],
        )


def _evaluated(
    model: nn.Module, videos: VideoSet, recipe: Recipe, batch: int, machine: Machine, device: torch.device,
    metadata: Mapping[str, Any], scored: Callable[[int, int], None] | None,
) -> Evaluation:  # fmt: skip
    windows = WindowLoader(
        videos, max(1, batch // machine.accumulate), clip=recipe.clip, num_workers=machine.workers,
        pin_memory=device.type == "cuda",
    )  # fmt: skip
    count = -(-len(videos.videos) // ranks.world()[1])

    def watched() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        seen: set[int] = set()
        for clips, numbers in windows:
            yield clips, numbers
            seen.update(numbers.tolist())
            if scored is not None:
                scored(min(len(seen), count), count)

    return evaluate(
        model, watched(), [v.label for v in videos.videos], videos.classes, device=device, mean=recipe.mean, std=recipe.std,
        ids=[v.id for v in videos.videos], faults=windows.failures, short=windows.short, amp=machine.amp, metadata=metadata,
    )  # fmt: skip


def _evaluated_before(path: Path, metadata: Mapping[str, Any], videos: VideoSet) -> Evaluation | None:
    """The evaluation in a file, if all ranks see that it is of these weights and videos."""
    found = None
    with contextlib.suppress(ArgumentError):  # there is none, or it was cut short
        found = Evaluation.load(path)
    labels = {video.id: video.label for video in videos.videos}
    same = (
        found is not None
        and found.metadata == metadata
        and found.classes == videos.classes
        and {name: outcome.label for name, outcome in found.videos.items()} == labels
    )
    return found if all(ranks.gathered(same)) else None


def per_rank(recipe: Recipe) -> int:
    """Clips of a batch on each rank. Raises ArgumentError if they cannot be shared evenly."""
    size = ranks.world()[1]
    if recipe.batch_size % size:
        raise ArgumentError(f"must be a multiple of the {size} ranks that share it", "batch_size", recipe.batch_size)
    return recipe.batch_size // size


def _val_batch(batch: int, count: int) -> tuple[int, dict[str, Any]]:
    """Clips of a batch of validation on each rank; of a set too small to be shared every rank sees all."""
    size = ranks.world()[1]
    each = min(batch, count // size)
    return (each, {}) if size == 1 or each > 1 else (min(batch, count), {"rank": 0, "world_size": 1})


def _file(path: Path) -> dict[str, str]:
    """Which file weights were in, for metadata."""
    with path.open("rb") as file:
        return {"file": str(path), "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _keep_faults(out: Path, faults: Mapping[str, str]) -> None:
    """Add to faults.json, on the first rank."""
    path = out / "faults.json"
    if faults and ranks.is_main():
        with contextlib.suppress(OSError, ValueError):
            faults = json.loads(path.read_text(encoding="utf-8")) | dict(faults)
        write_json(path, faults)


def rendered_augmentation(name: str, clip: tuple[int, int, int], spec: Spec) -> Augment:
    """How clips are cut from rendered videos; those that are wider than the video are cut from it and enlarged."""
    augment = AUGMENTATIONS[name]
    if augment.scales is None and (clip[1] > spec.shape[1] or clip[2] > spec.shape[2]):
        return dataclasses.replace(augment, scales=(1.0 if name == "none" else FILMED,))
    return augment


# --- files


def _metadata(stage: str, made: Mapping[str, Any], recipe: Recipe, source: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "format": 1, "vpngen": __version__, "stage": stage, **made, "recipe": recipe.to_dict(), "source": dict(source),
    }  # fmt: skip


def describe(out: Path, stage: str, metadata: Mapping[str, Any], more: Mapping[str, Any]) -> None:
    """Write run.json, on the first rank, unless another run lives there. Raises ConflictError."""
    ranks.on_main(lambda: _describe(out, stage, metadata, more))


def _describe(out: Path, stage: str, metadata: Mapping[str, Any], more: Mapping[str, Any]) -> None:
    if out.exists() and not out.is_dir():
        raise ConflictError(f"{str(out)!r} is a file; give a folder for the run")
    described = out / "run.json"
    if out.is_dir() and any(out.iterdir()) and not described.exists():
        raise ConflictError(f"{str(out)!r} holds other things than a run; give a folder of its own")
    if described.exists() and (out / CHECKPOINT).exists():
        return  # whether it is this run, its checkpoint tells
    versions = {"python": platform.python_version(), "torch": torch.__version__, "vpngen": __version__}
    write_json(described, {"command": stage, **metadata, **more, "versions": versions})
