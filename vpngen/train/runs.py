"""Whole runs, from files to files: what `vpngen train`, `finetune` and `evaluate` do."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import nn

from vpngen import __version__, store
from vpngen.checks import SEEDS, Shape, integer, one_of
from vpngen.datasets import VideoLoader, VideoSet, WindowLoader
from vpngen.datasets.clips import MOST_CLIPS, SHORT
from vpngen.datasets.sets import VAL_SHARE, DataConfig, missing_videos
from vpngen.errors import ArgumentError, ConflictError, MissingError, renamed
from vpngen.files import names_in, read_object, write_json
from vpngen.models import read_weights
from vpngen.models.initial import ModelInit, origin, said_by, trusted, try_clip, try_recipe
from vpngen.models.weights import make_with
from vpngen.sampling import Augment
from vpngen.spec import Spec
from vpngen.stream import loader
from vpngen.tasks import Task
from vpngen.tasks.segments import classification, task_of
from vpngen.tasks.trunk import Trunk
from vpngen.train import ranks
from vpngen.train.checkpoint import CHECKPOINT, Row
from vpngen.train.evaluation import Ensemble, Evaluation, score
from vpngen.train.figures import curves
from vpngen.train.fitting import PRECISIONS, Progress, fit
from vpngen.train.frozen import Retrieval, features, linear_probe, retrieval
from vpngen.train.recipes import Recipe
from vpngen.units import count_text

if TYPE_CHECKING:
    from vpngen.store import Where

__all__ = ["DataConfig", "ModelInit", "Runtime", "evaluate", "evaluate_frozen", "finetune", "initialize"]

FROZEN: Final = ("retrieval", "linear")
CORNER: Final = 7 / 8
"""Part of the short side of a video that corner crops take where the paper leaves it open: 112 of 128 pixels."""


@dataclass(frozen=True)
class Runtime:
    """Where and how a run computes. It decides nothing of what is learned but rounding, and what batch normalization sees at once.

    Attributes:
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        grad_accum_steps: parts in which the batch of a rank goes through the network.
        compile: whether torch.compile is used.
        precision: `bf16`, `fp32`, or `auto`: bf16 on a GPU that has it.
        num_workers: processes that decode videos.

    Raises:
        ArgumentError: a count or a precision that is not allowed.
    """

    device: str = "auto"
    grad_accum_steps: int = 1
    compile: bool = False
    precision: str = "auto"
    num_workers: int = 0

    def __post_init__(self) -> None:
        integer("grad_accum_steps", self.grad_accum_steps, 1, 2**20)
        integer("num_workers", self.num_workers, 0, 1024)
        one_of("precision", self.precision, PRECISIONS)


def initialize(
    source: Spec | Where | DataConfig,
    out: Path,
    model_init: ModelInit,
    recipe: Recipe,
    runtime: Runtime,
    *,
    task: Task | None = None,
    seed: int = 0,
    samples_per_epoch: int | None = None,
    threads: int | None = None,
    log: Callable[[str], None] | None = None,
    **watch: Any,
) -> list[Row]:
    """Train a network on clips that are rendered on the fly, or on real videos: `vpngen train`.

    Args:
        source: a spec, or a store of one; validation sees its `val` instances, which are never trained on. A set without
            any gets one for every 16 of its instances. Or real videos, whose labels only a task that classifies looks at, and
            needs; of a folder without videos to validate on one in 16 is held out.
        out: the folder of the run.
        model_init: the network.
        recipe: how it is trained.
        runtime: where.
        task: what is learned; None to classify.
        seed: of weights, order and augmentation.
        samples_per_epoch: clips of an epoch, over all ranks; None for one of every video. Of rendered clips alone.
        threads: CPU threads that render.
        log: see `fit`; also gets how many videos could not be used.
        watch: `progress` and `should_stop`, see `fit`; `command`, which run.json keeps.

    Returns:
        A row for each epoch.

    Raises:
        ArgumentError: an argument out of range, a batch that cannot be shared among the ranks.
        ConflictError: `out` holds another run; the videos are not as they should be, or have no labels to classify by.
        MissingError, RunError: see `fit`.
    """
    integer("seed", seed, 0, SEEDS)
    task = task_of(recipe, task)
    with ranks.joined(runtime.device) as device:
        if isinstance(source, DataConfig):
            if samples_per_epoch is not None:
                raise ArgumentError("is of rendered clips; real videos come once in an epoch", "samples_per_epoch")
            source = source.validated()
            videos = _Videos(source, source.sets(seed, task.needs_labels)[:2], recipe, task, runtime, device, seed, log)
            model, made = videos.network(model_init)
            watch["progress"] = videos.watching(out, watch.get("progress"))
            both = videos.train, videos.val
            return _fit("train", out, model, both, recipe, runtime, device, made, {}, log, task=task, **watch)
        spec = source if isinstance(source, Spec) else store.read_spec(source)[0]
        held_out = max(1, spec.instances // VAL_SHARE)
        seen = spec if spec.val_instances else dataclasses.replace(spec, val_instances=held_out)
        augment, none = (rendered(spec, recipe, task, name) for name in (recipe.augment, "none"))
        batch, val_batch, shares = _batch_sizes(recipe, samples_per_epoch or spec.n_videos(), seen.n_videos("val"))
        task = task.labelled([len(factor.values) for factor in spec.generator.factors])
        model, made = model_init.build(task.outputs(spec.n_categories), seed, recipe.freeze, recipe.clip, device)
        try_recipe(model, recipe, batch, runtime.grad_accum_steps, device, task.clips)
        clips = functools.partial(
            loader, clip=task.shape(recipe), seed=seed, threads=threads, device=device, numbers=task.needs_numbers
        )
        train = clips(source, batch, augment=augment, length=samples_per_epoch or "epoch", drop_last=True)
        held = seen if isinstance(source, Spec) or not spec.val_instances else source
        val = clips(held, val_batch, split="val", shuffle=False, augment=none, **shares)
        made["source"] = {"spec": seen.to_dict(), "fingerprint": seen.fingerprint}
        more = {"samples_per_epoch": samples_per_epoch, "store": None if isinstance(source, Spec) else str(source)}
        return _fit("train", out, model, (train, val), recipe, runtime, device, made, more, log, task=task, **watch)


class _Videos:
    """Real videos to train on and to validate on, and a list of those that cannot be read."""

    def __init__(
        self, data: DataConfig, sets: Sequence[VideoSet], recipe: Recipe, task: Task, runtime: Runtime, device: torch.device, seed: int,
        log: Callable[[str], None] | None,
    ) -> None:  # fmt: skip
        self.data, self.recipe, self.seed, self.device, self.log = data, recipe, seed, device, log
        self.classes, self.task, self.runtime = sets[0].classes, task, runtime
        named = dict(zip(("train", "validate", "test"), sets, strict=False))
        if log and ranks.is_main() and (gone := missing_videos(**named)):
            log(gone)
        if (left := min(len(some.videos) for some in sets[:2])) < task.least:
            there = f"leaves {count_text(left, 'video')} to train or to validate on, and {task.name} needs {task.least}"
            raise ArgumentError(f"{there}; give another share, or more videos", "val_fraction", data.val_fraction)
        self.batch, val_batch, shares = _batch_sizes(recipe, len(sets[0].videos), len(sets[1].videos))
        self._loaders = functools.partial(
            VideoLoader, clip=task.shape(recipe), seed=seed, num_workers=runtime.num_workers, pin_memory=device.type == "cuda",
            numbers=task.needs_numbers, loop=task.loops,
        )  # fmt: skip
        self._sets, self._val = sets, {"batch_size": val_batch, **shares}
        self.known = 0

    def network(self, model_init: ModelInit) -> tuple[nn.Module, dict[str, Any]]:
        """The network and what is said of it; then the loaders are there."""
        recipe, device = self.recipe, self.device
        model, made = model_init.build(max(1, len(self.classes)), self.seed, recipe.freeze, recipe.clip, device)
        try_recipe(model, recipe, self.batch, self.runtime.grad_accum_steps, device, self.task.clips)
        self.train = self._loaders(self._sets[0], self.batch, augment=recipe.cut())
        self.val = self._loaders(self._sets[1], augment=recipe.cut("none"), shuffle=False, drop_last=False, **self._val)
        return model, made | {"source": self.data.to_dict(), "classes": list(self.classes)}

    def watching(self, out: Path, progress: Callable[[Progress], None] | None) -> Callable[[Progress], None]:
        """`progress`, and after each epoch failures.json where there are new ones. All ranks call it."""
        listed = out / "failures.json"

        def watched(p: Progress) -> None:
            if progress is not None:
                progress(p)
            if p.row is None:
                return
            every = ranks.gathered(self.train.failures | self.val.failures)
            failures = {k: v for some in every for k, v in some.items()}
            if len(failures) > self.known and ranks.is_main():
                before = {str(k): str(v) for k, v in read_object(listed).items()}  # of a run that was stopped
                write_json(listed, before | failures)
                if self.log is not None:
                    short = sum(why.startswith(SHORT) for why in failures.values())
                    some = f", of which {short:,} too short" if short else ""
                    self.log(f"videos that could not be read, or not whole: {len(failures):,}{some}; see {listed}")
            self.known = len(failures)

        return watched


def finetune(
    data: DataConfig,
    out: Path,
    model_init: ModelInit,
    recipe: Recipe,
    runtime: Runtime,
    *,
    seed: int = 0,
    progress: Callable[[Progress], None] | None = None,
    scored: Callable[[int, int], None] | None = None,
    log: Callable[[str], None] | None = None,
    **watch: Any,
) -> Evaluation:
    """Train a network on real videos and evaluate it on those of the split's test list: `vpngen finetune`.

    The head is a new one, and as many stages as the recipe says stay as they are.

    Args:
        data: the videos.
        out: the folder of the run.
        model_init: the network and its weights.
        recipe: how it is trained.
        runtime: where.
        seed: of the head, order, augmentation and what validation takes.
        progress: see `fit`.
        scored: see `progress` of `vpngen.train.evaluation.score`.
        log: see `fit`; also gets how many videos could not be read.
        watch: `should_stop`, see `fit`; `command`, which run.json keeps.

    Returns:
        The evaluation of the last epoch's weights, which is also in `out`/evaluation.json; one that is there already is not
        made again.

    Raises:
        ArgumentError, ConflictError: a wrong argument; files that contradict each other or the run in `out`.
        MissingError, RunError: see `fit`.
    """
    sets = data.sets(integer("seed", seed, 0, SEEDS))
    with ranks.joined(runtime.device) as device:
        task = classification(recipe)
        videos = _Videos(data, sets, recipe, task, runtime, device, seed, log)
        model, made = videos.network(model_init)
        told: dict[str, Any] = {"log": log, "progress": videos.watching(out, progress), "task": task, **watch}
        _fit("finetune", out, model, (videos.train, videos.val), recipe, runtime, device, made, {}, **told)
        weights, target = out / "weights.safetensors", out / "evaluation.json"
        if (earlier := _evaluated_before(target, weights, sets[2])) is not None:
            return earlier
        name, options = model_init.network
        found = evaluate(
            weights, runtime, model=name, options=options, data=data, batch_size=videos.batch, progress=scored
        )
        ranks.on_main(lambda: found.write(target))
        return found


def evaluate(
    weights: Path | Sequence[Path],
    runtime: Runtime,
    *,
    model: str | None = None,
    options: Mapping[str, Any] | None = None,
    data: DataConfig | None = None,
    clip: Shape | None = None,
    frame_step: int | None = None,
    segments: int | None = None,
    batch_size: int = 32,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Evaluate weights on the test videos of a split: `vpngen evaluate`.

    Args:
        weights: of a fine-tuned network; its metadata say what it was trained on. Of several it is the mean of their scores, see
            `Ensemble`, that is evaluated.
        runtime: where.
        model: the network, where it is not the one of `vpngen.models.MODELS` that the metadata name: as package.module:callable
            it is code, which is taken from nobody but the caller.
        options: likewise its options.
        data: other videos than those of the metadata.
        clip: another clip than that of the metadata.
        frame_step: another step between its frames.
        segments: another number of clips that are classified together.
        batch_size: windows of a batch of each rank, over all `grad_accum_steps`.
        progress: see `vpngen.train.evaluation.score`.

    Returns:
        The evaluation; its metadata are those of the weights, with the data evaluated, and `evaluated`: what was to be otherwise. Of
        several weights they have the `stage` `ensemble`, and theirs under `networks`.

    Raises:
        ArgumentError: the weights do not say what they are, and nobody else does.
        ConflictError: the classes of the weights are not those of the data; metadata that are damaged, or name a network that is code
            from elsewhere; several weights that were not trained on the same clips.
    """
    _alone(model, options)
    given: dict[str, Any] = {"clip": clip, "frame_step": frame_step, "segments": segments}
    asked = {name: value for name, value in given.items() if value is not None}
    files = [weights] if isinstance(weights, Path) else [*weights]
    members = [_Member.of(file, model, options, asked) for file in files]
    first, *others = members
    for other in others:
        first.check_beside(other)
    videos, *rest = ((data or member.data).sets(member.metadata.get("seed") or 0)[2] for member in members)
    if any(one != videos for one in rest):
        raise ConflictError(f"{str(first.file)!r} and others were trained on different videos or splits; give `data`")
    data = data or first.data
    for member in members:
        member.check_classes(data, videos)
    recipe = first.recipe
    with ranks.joined(runtime.device) as device:
        networks = [member.network(device, model is None and options is None) for member in members]
        levels = [(member.recipe.mean, member.recipe.std) for member in members]
        network = networks[0] if len(networks) == 1 else Ensemble(networks, levels)
        windows = _windows(
            videos,
            runtime,
            device,
            batch_size,
            clip=recipe.clip,
            frame_step=recipe.frame_step,
            segments=recipe.segments,
        )
        about = first.metadata
        if others:
            about = {"stage": "ensemble", "classes": list(videos.classes), "networks": [m.metadata for m in members]}
        return score(
            network, windows, device=device, mean=recipe.mean, std=recipe.std, precision=runtime.precision, progress=progress,
            metadata={**about, "source": data.to_dict(), **({"evaluated": asked} if asked else {})},
        )  # fmt: skip


@dataclass(frozen=True)
class _Member:
    """Weights that are evaluated, and what they say."""

    file: Path
    metadata: dict[str, Any]
    data: DataConfig
    recipe: Recipe
    task: Task
    model: tuple[str, dict[str, Any]]

    @classmethod
    def of(cls, file: Path, model: str | None, options: Mapping[str, Any] | None, asked: Mapping[str, Any]) -> _Member:
        metadata, data, recipe = fine_tuned(file)
        known = trusted(metadata["model"], model, options, file)
        recipe = dataclasses.replace(recipe, **asked)
        learned = (metadata.get("task") or {}).get("weights") or ()
        if learned and recipe.segments not in (1, len(learned)):
            why = f"has learned a weight for each of {(n := len(learned))} segments, and not of {recipe.segments}"
            raise ConflictError(f"{str(file)!r} {why}; give `segments` {n}, or 1 for window by window")
        return cls(file, metadata, data, recipe, classification(recipe, learned), known)

    def check_beside(self, other: _Member) -> None:
        """Raises ConflictError unless another can look at the same windows."""
        for name in ("clip", "frame_step", "segments"):
            mine, theirs = getattr(self.recipe, name), getattr(other.recipe, name)
            if mine != theirs:
                why = f"was trained with a {name} of {mine}, {str(other.file)!r} with {theirs}"
                raise ConflictError(f"{str(self.file)!r} {why}; all see the same windows: give one `{name}` for all")

    def check_classes(self, data: DataConfig, videos: VideoSet) -> None:
        """Raises ConflictError unless its classes are those of the videos."""
        there = self.metadata["classes"]
        if list(videos.classes) != there:
            sides = (there, videos.classes), (videos.classes, there)
            lacks, new = (", ".join(sorted({*one} - {*other})[:5]) or "none" for one, other in sides)
            why = f"{data.kind} in {str(data.root)!r} has {len(videos.classes)}, or in another order"
            raise ConflictError(
                f"{str(self.file)!r} has {len(there)} classes, {why}; only the weights have {lacks}; only the videos {new}"
            )

    def network(self, device: torch.device, chosen: bool) -> nn.Module:
        """It, and what the task puts around it; `chosen` by the file, or by who calls."""
        (name, options), classes = self.model, len(self.metadata["classes"])
        with renamed(name="model", path="weights"), said_by(self.file, chosen):
            network = make_with(name, classes, options, self.file)
        try_clip(network.to(device), {"name": name, "num_classes": classes}, self.recipe.clip, device)
        return self.task.around(network, self.recipe)


def evaluate_frozen(
    weights: Path,
    runtime: Runtime,
    how: str,
    *,
    model: str | None = None,
    options: Mapping[str, Any] | None = None,
    data: DataConfig | None = None,
    clip: Shape | None = None,
    frame_step: int | None = None,
    clips: int = 10,
    batch_size: int = 32,
    progress: Callable[[int, int], None] | None = None,
) -> Retrieval | Evaluation:
    """What the features of a network are worth as they are: `vpngen evaluate --retrieval` and `--linear`.

    Args:
        weights: any that are recognized, of a run with any task, or of others. Where nothing says otherwise, they see clips as
            `Recipe` has them.
        runtime: where.
        how: `retrieval`, see `vpngen.train.frozen.retrieval`; or `linear`, a linear classifier of frozen features, evaluated as
            `evaluate` does.
        model: see `evaluate`.
        options: likewise.
        data: the videos; None for those of the metadata.
        clip: another clip than that of the metadata.
        frame_step: another step between its frames.
        clips: of each video that is searched, is looked for, or is learned from; they are spread evenly over it.
        batch_size: see `evaluate`.
        progress: called with how many videos of this rank are done, and of about how many.

    Raises:
        ArgumentError: weights that nobody says the network of, or the videos of.
        ConflictError: see `evaluate`; a set of one class.
        RunError: see `score`; none of the training videos can be read.
    """
    one_of("how", how, FROZEN)
    _alone(model, options)
    integer("clips", clips, 1, MOST_CLIPS)
    begin = ModelInit(model, options, weights)
    with renamed(init_from="weights"):
        metadata, trained, recipe = pretrained(begin)
    if (data := data or trained) is None:
        raise ArgumentError(f"must be given: {str(weights)!r} does not say which videos to take", "data")
    given: dict[str, Any] = {"clip": clip, "frame_step": frame_step}
    asked = {name: value for name, value in given.items() if value is not None}
    recipe = dataclasses.replace(recipe, **asked)
    train, _, test = data.sets(metadata.get("seed") or 0)
    if len(test.classes) < 2:
        there = f"{data.kind} in {str(data.root)!r} has videos of {count_text(len(test.classes), 'class')}"
        raise ConflictError(f"{there}, which leaves nothing to tell apart; give a set of two or more")
    about: dict[str, Any] = {**metadata, "source": data.to_dict(), "classes": list(test.classes)}
    about["evaluated"] = {how: {"clips": clips}, **asked}
    with ranks.joined(runtime.device) as device:
        with renamed(init_from="weights"):
            network, _ = begin.build(len(test.classes), 0, 0, recipe.clip, device)
        trunk = Trunk(network, recipe.clip)
        made = functools.partial(
            _windows,
            runtime=runtime,
            device=device,
            batch_size=batch_size,
            clip=recipe.clip,
            frame_step=recipe.frame_step,
        )
        counts = [-(-len(some.videos) // ranks.world()[1]) for some in (train, test)]
        told, total = progress or (lambda *_: None), sum(counts)
        levels = {"device": device, "mean": recipe.mean, "std": recipe.std, "precision": runtime.precision}
        learned = features(trunk, made(train, clips=clips), progress=lambda n, _: told(n, total), **levels)
        second: dict[str, Any] = {**levels, "progress": lambda n, _: told(counts[0] + n, total)}
        if how == "retrieval":
            return retrieval(learned, features(trunk, made(test, clips=clips), **second), clips, about)
        probe, said = linear_probe(trunk, learned, device=device, ask=lambda: told(counts[0], total))
        about["evaluated"]["linear"] |= {**said, "unreadable": learned.unreadable}
        return score(probe, made(test), metadata=about, **second)


def _windows(
    videos: VideoSet, runtime: Runtime, device: torch.device, batch_size: int, **which: Any
) -> WindowLoader:  # fmt: skip
    """Windows of videos, a batch of each rank in `grad_accum_steps` parts."""
    batch = max(1, batch_size // runtime.grad_accum_steps)
    return WindowLoader(videos, batch, num_workers=runtime.num_workers, pin_memory=device.type == "cuda", **which)


def _alone(model: str | None, options: Mapping[str, Any] | None) -> None:
    if model is None and options is not None:
        raise ArgumentError("are those of a `model`; give it as well", "options")


def fine_tuned(weights: Path) -> tuple[dict[str, Any], DataConfig, Recipe]:
    """What fine-tuned weights say: their metadata with the digest of their file, what they were trained on, and how.

    Raises:
        ArgumentError: others, which do not say what their classes are.
        ConflictError: metadata that are damaged.
    """
    with renamed(path="weights"):
        metadata = {**read_weights(weights)[1], "sha256": origin(weights)["sha256"]}
    if metadata.get("stage") != "finetune":
        raise ArgumentError("does not say which classes it has; give weights of `vpngen finetune`", "weights", weights)
    with _damage(weights):
        if len(metadata["classes"]) != metadata["model"]["num_classes"]:
            raise ValueError("`classes` are not as many as `model.num_classes`")
        metadata["model"]["name"].strip()
        return metadata, DataConfig.from_dict(metadata["source"]), Recipe.from_dict(metadata["recipe"])


def pretrained(begin: ModelInit) -> tuple[dict[str, Any], DataConfig | None, Recipe]:
    """What weights of any origin say: their metadata, the real videos they were trained on, if they were, and how.

    The recipe is the default where they do not say it.

    Raises:
        ArgumentError, ConflictError: see `ModelInit`; metadata that are damaged.
    """
    metadata = begin.parent
    source = metadata.get("source") or {}
    with _damage(begin.init_from):
        data = DataConfig.from_dict(source) if "kind" in source else None
        return metadata, data, Recipe.from_dict(metadata.get("recipe") or {})


@contextlib.contextmanager
def _damage(weights: Path | None) -> Iterator[None]:
    """What is wrong with metadata is a ConflictError."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # ArgumentError is a ValueError as well
        what = f"lacks {error}" if isinstance(error, KeyError) else f"is damaged: {error}"
        raise ConflictError(f"what {str(weights)!r} says of itself {what}; copy or make it again") from error


def _evaluated_before(path: Path, weights: Path, videos: VideoSet) -> Evaluation | None:
    """The evaluation in a file, if all ranks see that it is of these weights and videos."""
    ours = fine_tuned(weights)[0], videos.classes, {video.id: video.label for video in videos.videos}
    found, same = None, False
    with contextlib.suppress(ArgumentError):  # there is none, or it was cut short
        found = Evaluation.load(path)
        same = (found.metadata, found.classes, {name: v.label for name, v in found.videos.items()}) == ours
    return found if all(ranks.gathered(same)) else None


def _batch_sizes(recipe: Recipe, count: int, val_count: int) -> tuple[int, int, dict[str, Any]]:
    """Clips of a batch on each rank, in training and validation; of a set too small to be shared every rank sees all."""
    whole, size = recipe.batch_size, ranks.world()[1]
    if whole > count:
        raise ArgumentError(f"is more than the {count:,} clips of an epoch", "batch_size", whole)
    if whole % size:
        raise ArgumentError(f"must be a multiple of the {size} ranks that share it", "batch_size", whole)
    batch = whole // size
    shared = min(batch, val_count // size)
    if size == 1 or shared > 1:
        return batch, shared, {}
    return batch, min(batch, val_count), {"rank": 0, "world_size": 1}


def rendered(spec: Spec, recipe: Recipe, task: Task, name: str | None = None) -> Augment:
    """How what a task needs is cut from rendered videos: as the recipe says, or another augmentation by its `name`.

    What is wider than the videos, a clip or the whole grid of a puzzle, is cut from them and enlarged. Raises ArgumentError where it
    has more frames than they have. Clips whose labels their mirror images do not have are not mirrored.
    """
    task.check_frames(recipe, spec.shape[0])
    augment, (_, height, width) = recipe.cut(name), task.shape(recipe)
    if spec.generator.handed and task.needs_labels:
        augment = dataclasses.replace(augment, flip=0.0)
    if augment.scales is None and (height > spec.shape[1] or width > spec.shape[2]):
        return dataclasses.replace(augment, scales=(1.0 if name == "none" else CORNER,))
    return augment


def _fit(
    stage: str, out: Path, model: nn.Module, batches: tuple[Any, Any], recipe: Recipe, runtime: Runtime, device: torch.device,
    made: Mapping[str, Any], more: Mapping[str, Any], log: Callable[[str], None] | None = None,
    progress: Callable[[Progress], None] | None = None, command: str | None = None, **watch: Any,
) -> list[Row]:  # fmt: skip
    """Train in the folder of the run, and draw its curves."""
    metadata = {"format": 1, "vpngen": __version__, "stage": stage, **made, "recipe": recipe.to_dict()}
    about = {"command": stage, **metadata, **more}
    asked = {"command": command, "folder": os.getcwd(), "vpngen": __version__, "epochs": recipe.epochs, "lr": recipe.lr}
    describe = functools.cache(lambda goes_on: ranks.on_main(lambda: _describe(out, about, asked, goes_on)))
    describe(False)

    def watched(p: Progress) -> None:
        describe(True)  # the checkpoint is of this run, and is not the last
        if progress is not None:
            progress(p)

    rows = fit(
        model, *batches, recipe, out=out, device=device, metadata=metadata, grad_accum_steps=runtime.grad_accum_steps,
        compile=runtime.compile, precision=runtime.precision, log=log, progress=watched, **watch,
    )  # fmt: skip

    def draw() -> None:
        try:
            curves(out, out / "curves.png")
        except MissingError as error:
            if log is not None:
                log(f"without curves.png: {error}")

    ranks.on_main(draw)
    return rows


def _describe(out: Path, about: Mapping[str, Any], asked: Mapping[str, Any], goes_on: bool) -> None:
    """Write run.json: what a run is, and the commands that began it and went on with it. Raises ConflictError where others live."""
    described = out / "run.json"
    if not goes_on and out.exists() and not described.exists() and (not out.is_dir() or names_in(out)):
        raise ConflictError(f"{str(out)!r} is a file, or holds other things than a run; give a folder of its own")
    if goes_on or not (
        described.exists() and (out / CHECKPOINT).exists()
    ):  # a checkpoint decides whether it is this run
        versions = {"python": platform.python_version(), "torch": torch.__version__, "vpngen": __version__}
        before = read_object(described).get("commands")
        commands = before if isinstance(before, list) else []
        commands += [asked] * (commands[-1:] != [asked])
        write_json(described, {**about, "versions": versions, "commands": commands})
