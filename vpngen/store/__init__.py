"""Datasets on disk: sharded Zarr v3 that any reader opens, written whole shard by whole shard.

`layout` says what goes where, `shard` packs and unpacks one shard file, `writer` renders what is owed, `verifier` checks
what is there. zarr-python makes the metadata and the small arrays; the pixels are packed here, because measured side by
side (`python -m benchmarks.store`) that is what keeps up with the renderer and the disk.
"""

from vpngen.store.layout import CODECS, Layout, Plan, Shard, parse_slice, read_spec, store_plan
from vpngen.store.verifier import Problem, verify
from vpngen.store.view import View, open
from vpngen.store.writer import Estimate, Progress, Written, check_space, estimate, owed, write

__all__ = [
    "CODECS", "Estimate", "Layout", "Plan", "Problem", "Progress", "Shard", "View", "Written", "check_space", "estimate",
    "open", "owed", "parse_slice", "read_spec", "store_plan", "verify", "write",
]  # fmt: skip
