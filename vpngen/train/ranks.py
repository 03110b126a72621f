"""One process of several, as torchrun starts them: who we are, and what all of us have seen."""

from __future__ import annotations

import contextlib
import datetime
import os
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import torch
import torch.distributed as dist

from vpngen.errors import ArgumentError, RunError
from vpngen.stream.tensors import device_of

LETTING_GO: Final = 0.5
"""Seconds until the threads of gloo have let go of what they sent. DDP keeps them beyond the end of their group, and one that
wants the interpreter while that ends takes the process down (pytorch issue 190489)."""


def world() -> tuple[int, int]:
    """(rank, number of ranks) of this process."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def is_main() -> bool:
    """Whether this is the rank that writes and speaks."""
    return world()[0] == 0


@contextlib.contextmanager
def joined(device: str = "auto", *, timeout: float = 600.0) -> Iterator[torch.device]:
    """Join the other ranks that torchrun started, if it did; gives the device of this one.

    Args:
        device: `auto` for a GPU if there is one, `cpu`, `cuda` or `cuda:N`; under torchrun each rank has a GPU of its own.
        timeout: seconds that a rank waits for the others before it gives up.

    Raises:
        ArgumentError: no such device, or one GPU for all ranks.
        MissingError: a GPU is asked for and there is none, or fewer than ranks on this machine.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size > 1 and str(device).startswith("cuda:"):
        raise ArgumentError("must be cuda or auto, as each rank takes a GPU of its own", "device", str(device))
    where = choose_device(device)
    started = size > 1 and not dist.is_initialized()
    if started:
        how: dict[str, Any] = {"backend": "nccl", "device_id": where} if where.type == "cuda" else {"backend": "gloo"}
        dist.init_process_group(timeout=datetime.timedelta(seconds=timeout), **how)
    try:
        with listening():
            yield where
    finally:
        if started and dist.is_initialized():
            with contextlib.suppress(RuntimeError):  # the others may be gone, and the error that matters is under way
                dist.destroy_process_group()
            if where.type == "cpu":
                time.sleep(LETTING_GO)


def choose_device(device: str | torch.device) -> torch.device:
    """The device that is meant, a rank's own under torchrun; a GPU is also made the current one.

    Raises:
        ArgumentError: no such device.
        MissingError: there is no such GPU.
    """
    chosen = device_of(device)
    if chosen.type == "cuda":
        number: int | None = chosen.index
        if number is None and int(os.environ.get("WORLD_SIZE", "1")) > 1 and "LOCAL_RANK" in os.environ:
            number = device_of(f"cuda:{os.environ['LOCAL_RANK']}").index
        chosen = torch.device("cuda", torch.cuda.current_device() if number is None else number)
        torch.cuda.set_device(chosen)
    return chosen


def total(values: torch.Tensor) -> torch.Tensor:
    """The sum of `values` over all ranks, in place."""
    if world()[1] > 1:
        dist.all_reduce(values)
    return values


def gathered(value: Any) -> list[Any]:
    """The `value` of every rank, on every rank."""
    size = world()[1]
    if size == 1:
        return [value]
    values: list[Any] = [None] * size
    dist.all_gather_object(values, value)
    return values


def on_main(work: Callable[[], object]) -> None:
    """Do something on the first rank alone; if it fails, it fails on all of them.

    Raises:
        RunError: on the other ranks; on the first whatever was raised there.
    """
    failure: Exception | None = None
    if is_main():
        try:
            work()
        except Exception as error:
            failure = error
    message = gathered(None if failure is None else f"{type(failure).__name__}: {failure}")[0]
    if failure is not None:
        raise failure
    if message is not None:
        raise RunError(f"the first rank failed: {message}")


def share_buffers(model: torch.nn.Module) -> None:
    """Give every rank the buffers of the first, batch statistics above all."""
    if world()[1] > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)


@contextlib.contextmanager
def listening() -> Iterator[None]:
    """Raises RunError where another rank turns out to be gone."""
    try:
        yield
    except RuntimeError as error:
        if world()[1] > 1 and lost(error):
            raise RunError(f"another rank is gone: {str(error).splitlines()[0]}") from error
        raise


def lost(error: BaseException) -> bool:
    """Whether an error says that another rank is gone."""
    text = str(error).lower()
    if any(word in text for word in ("duplicate gpu", "invalid usage", "invalid argument", "out of memory")):
        return False
    words = ("gloo", "connection closed by peer", "connection reset", "nccl", "broken pipe", "timed out waiting")
    known = isinstance(error, RuntimeError) and any(word in text for word in words)
    return known or isinstance(error, dist.DistError)
