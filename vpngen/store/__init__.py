"""Datasets on disk: sharded Zarr v3 that any reader opens, written whole shard by whole shard.

`layout` says what goes where, `encoding` what the chunks of a video are, `shard` packs and unpacks one shard file,
`writer` renders what is owed, `verifier` checks what is there. `formula` is the codec whose chunks are recipes, rendered
when they are read; `virtual` makes the recipes too when they are read, and needs no disk. zarr-python makes the metadata
and the small arrays; the pixels are packed here, because measured side by side (`python -m benchmarks store`) that is
what keeps up with the renderer and the disk.
"""

from vpngen.store.clips import ClipReader
from vpngen.store.layout import CODECS, Layout, Plan, Shard, is_complete, parse_slice, read_spec, store_plan
from vpngen.store.verifier import Problem, Verified, verify
from vpngen.store.view import View, open
from vpngen.store.virtual import SpecStore
from vpngen.store.writer import (
    Estimate,
    Progress,
    Written,
    check_place,
    check_space,
    estimate,
    free_bytes,
    owed,
    stored_bytes,
    worker_count,
    write,
)  # fmt: skip
from vpngen.units import size_text

__all__ = [
    "CODECS", "ClipReader", "Estimate", "Layout", "Plan", "Problem", "Progress", "Shard", "SpecStore", "Verified", "View",
    "Written", "check_place", "check_space", "estimate", "free_bytes", "is_complete", "open", "owed", "parse_slice",
    "read_spec", "size_text", "store_plan", "stored_bytes", "verify", "worker_count", "write",
]  # fmt: skip
