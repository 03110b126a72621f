"""The folder of a run: its lock, checkpoint, log, and the weights that it leaves."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import importlib.util
import io
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn

from vpngen import files
from vpngen.errors import ArgumentError, ConflictError, MissingError, VpngenError
from vpngen.models import pickles
from vpngen.models.base import reference_arch
from vpngen.models.metadata import Every, check, plain, within
from vpngen.models.weights import save_reference, save_weights
from vpngen.store.targets.local import try_lock
from vpngen.train import ranks

Row = dict[str, Any]
CHECKPOINT: Final = "checkpoint.pt"
FORM: Final = 1
RULES: Final[dict[str, Any]] = {
    "epoch": int, "lr": (int, float), "settings": dict, "state_dict": Every(torch.Tensor), "scheduler": dict, "random": [Every(torch.Tensor)],
    "stream": dict, "optimizer": {"state": Every(Every((torch.Tensor, int, float, type(None)))), "param_groups": [dict]},
    "state": {
        "epoch": within(0, 2**40), "step": within(0, 2**40), "steps": within(0, 2**40), "trained": bool, "rows": [Every((int, float, type(None)))],
        "rates": [{"step": int, "lr": (int, float)}], "chance": Every((int, float)),
        **dict.fromkeys(("loss", "metric", "clips", "seconds", "waited"), (int, float)),
    },
}  # fmt: skip
"""Of what a checkpoint holds."""


class Folder:
    """Where a run keeps its files. Ranks share it, and the first of them writes. Without a path nothing is written.

    Attributes:
        path: the folder.
        metadata: what the weights say beside what `finish` is given.
        log: gets messages for people.
        saved: what the last checkpoint is of, in words; None before the first.
    """

    def __init__(self, path: Path | None, metadata: Mapping[str, Any], log: Callable[[str], None]) -> None:
        self.path, self.metadata, self.log = path, dict(metadata), log
        self.saved: str | None = None
        self._arch = reference_arch(str(self.metadata.get("model", {}).get("name", "unknown")))
        self._board: Any = None
        self._open = contextlib.ExitStack()

    def __enter__(self) -> None:
        if self.path is None:
            return
        try:
            json.dumps(self.metadata)
        except (TypeError, ValueError) as error:
            raise ArgumentError(f"must be plain JSON: {error}", "metadata") from None
        if importlib.util.find_spec("safetensors") is None:
            raise MissingError("weights are written by safetensors; install it with: pip install 'vpngen[train]'")
        files.local(self.path).mkdir(parents=True, exist_ok=True)
        ranks.on_main(partial(self._open.enter_context, alone(self.path)))

    def __exit__(self, *_: object) -> None:
        if self._board is not None:
            self._board.close()
        self._open.close()

    @property
    def last_good(self) -> str:
        """Where the last checkpoint is."""
        if self.path is None or self.saved is None:
            return "no checkpoint was written yet"
        return f"the last good checkpoint is {str(self.path / CHECKPOINT)!r}, of {self.saved}"

    @property
    def remedy(self) -> str:
        """How one goes on after a failure."""
        return f"{self.last_good}; the same command goes on from there" if self.saved else self.last_good

    # --- the checkpoint

    def save(self, content: Mapping[str, Any], at: str) -> None:
        """Write the checkpoint, which is of `at`. All ranks call it. Raises MissingError for a full disk."""
        if self.path is not None:
            kept = {"vpngen_checkpoint": FORM, "arch": self._arch, **content}
            ranks.on_main(partial(_save, self.path / CHECKPOINT, kept))
            self.saved = at

    def load(self, settings: Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, Any] | None:
        """The content of the checkpoint; None where there is none; `usual` are settings that an older one lacks. All ranks call it.

        Raises:
            ConflictError: it is damaged, not seen by all ranks, or has other `settings`.
        """
        if self.path is None:
            return None
        path, name = self.path / CHECKPOINT, repr(str(self.path / CHECKPOINT))
        found = ranks.gathered(path.exists())
        if not any(found):
            return None
        if not all(found):
            seen = f"{sum(found)} of {len(found)} ranks"
            raise ConflictError(f"{name} is seen by {seen}; `out` must be a folder that all of them share")
        with self.reading():
            content: dict[str, Any] = pickles.read(path)
            form = content["vpngen_checkpoint"]
            check(content, {"vpngen_checkpoint": int} if form != FORM else RULES, "")
            told = content["settings"] if form == FORM else {}
            plain(told)
        if form != FORM:
            raise ConflictError(f"{name} is of form {form!r}, which this vpngen does not know; upgrade it")
        there = {key: usual[key] for key in usual.keys() & settings.keys()} | told
        if different := [key for key in sorted({*there, *settings}) if there.get(key) != settings.get(key)]:
            both = [f"{k}: {there.get(k, 'nothing')} there, {settings.get(k, 'nothing')} here" for k in different]
            what = "\n  ".join([f"the run in {str(path.parent)!r} is another one:", *both])
            raise ConflictError(f"{what}\n  give its own options to go on with it, or another folder")
        return content

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Whatever a damaged checkpoint leads to is a ConflictError that names it."""
        try:
            yield
        except VpngenError:
            raise
        except Exception as error:
            name = repr(str(self.path and self.path / CHECKPOINT))
            why = type(error).__name__ if isinstance(error, KeyError) else str(error).partition("\n")[0][:200]
            what = f"{name} is no checkpoint of a run, or damaged; move it away to begin again ({why})"
            raise ConflictError(what) from error

    # --- the log

    def open_board(self, step: int) -> None:
        """Begin TensorBoard's events, where that is installed; those of `step` and after it are taken back."""
        if self.path is None or not ranks.is_main():
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            self.log("without TensorBoard's files, since tensorboard is not installed; log.csv holds the same")
        else:
            try:
                files.Folder(self.path).make_way("tensorboard/.")  # through no link
                self._board = SummaryWriter(str(self.path / "tensorboard"), purge_step=step)
            except (OSError, RuntimeError) as error:  # no file, or no thread, is to be had
                self.log(f"without TensorBoard's files ({str(error).partition(chr(10))[0]}); log.csv holds the same")

    def add(self, prefix: str, values: Mapping[str, Any], step: int) -> None:
        """Add the numbers among `values` to TensorBoard's events."""
        for name, value in values.items() if self._board is not None else ():
            if isinstance(value, (int, float)):
                self._board.add_scalar(f"{prefix}/{name}", value, step)

    def write_log(self, columns: Sequence[str], rows: Sequence[Row]) -> None:
        """Write log.csv."""
        if self.path is not None:
            text = io.StringIO()
            writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            writer.writerows({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in rows)
            ranks.on_main(partial(files.write, self.path / "log.csv", text.getvalue().encode()))

    # --- the end

    def finish(self, network: nn.Module, about: Mapping[str, Any], epoch: int, optimizer: Any, scheduler: Any) -> None:
        """Write weights.safetensors and weights.pth, with what they say of themselves; the second has the optimizer too."""
        if self.path is not None:
            out, about = self.path, {**self.metadata, **about}
            ranks.on_main(partial(save_weights, out / "weights.safetensors", network, about))
            state = (epoch, optimizer, scheduler, about)
            ranks.on_main(partial(save_reference, out / "weights.pth", network, self._arch, *state))


def _save(path: Path, content: Mapping[str, Any]) -> None:
    with files.replace(path) as partial, partial.open("wb") as file:  # by a path, torch hides why it failed
        torch.save(content, file)


@contextlib.contextmanager
def alone(folder: Path, timeout: float = 10.0) -> Iterator[None]:
    """Hold the lock of a run's folder. Worker processes of a run that was killed may hold it for some seconds more.

    Raises:
        ConflictError: another process holds it for `timeout` seconds.
    """
    fd = None
    with contextlib.suppress(OSError):  # systems where folders cannot be opened, or locked
        fd = os.open(folder, os.O_RDONLY)
        last = time.monotonic() + timeout
        while not try_lock(fd):
            if time.monotonic() > last:
                os.close(fd)
                raise ConflictError(f"another process trains in {str(folder)!r}; wait for it, or give another folder")
            time.sleep(0.1)
    try:
        yield
    finally:
        if fd is not None:
            os.close(fd)


def of_stream(state: Mapping[str, Any]) -> dict[str, Any]:
    """What the state of a loader says of what it is, and not of where it is."""
    known = {"set": str(state["fingerprint"])[:16]} if "fingerprint" in state else {}
    return {**(state.get("settings") or {}), **known}


def identity(module: nn.Module, parts: Mapping[str, Mapping[str, Any]], metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What must be the same for a run to go on: names and shapes of `module`, the settings of each part, some `metadata`."""
    shapes = "\n".join(f"{name} {tuple(value.shape)}" for name, value in module.state_dict().items())
    parent = metadata.get("parent")
    origin = {key: value for key, value in (parent or {}).items() if key != "file"}  # wherever that lies
    known = {**parts, "model": metadata.get("model") or {}}

    def digest(text: str) -> str:
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    return {
        "model": digest(shapes),
        "frozen": sum(not p.requires_grad for p in module.parameters()),
        **{key: metadata[key] for key in ("stage", "seed") if key in metadata},
        "initialized from": "nothing" if parent is None else digest(json.dumps(origin, sort_keys=True, default=str)),
        **{f"{part}.{key}": value for part, settings in known.items() for key, value in settings.items()},
    }


def random_state(device: torch.device) -> dict[str, torch.Tensor]:
    """Torch's random state, on the CPU and on `device`."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(state: Mapping[str, torch.Tensor], device: torch.device) -> None:
    """Go on from a `random_state`, as far as it is one."""
    if "cpu" in state:
        torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
