"""Clips for training loops, rendered on the fly: a torch `IterableDataset` whose whole state is one sample number.

Sample s of epoch e is a function of (seed, e, s): `vpngen.sampling` says which video and window it is, a backend or a store
gives the pixels. So a stream begins anywhere, on any number of ranks and workers, and holds nothing that could get lost.

`dataset` is the stream and its DataLoader, `place` says which epoch comes next, in this process and in workers, `makers` what a
batch is and how it is made ahead, `memory` what it is made in, `tensors` the device, normalization and size of clips.
"""

from vpngen.errors import MissingError

try:
    import torch  # noqa: F401
except ImportError as error:
    raise MissingError(
        f"streams need PyTorch, which cannot be imported ({error}); install it with: pip install 'vpngen[torch]'"
    ) from None

from vpngen.stream.dataset import ClipLoader, ClipStream, loader

__all__ = ["ClipLoader", "ClipStream", "loader"]
