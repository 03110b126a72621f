"""Datasets on disk: sharded Zarr v3 that any reader opens, written whole shard by whole shard.

`layout` says what goes where and what a run is to do, `packing` renders a shard and makes its file; `places` read what lies in a
folder or below a URL, and `targets` write there; `growing` makes a store of more; `verifier` checks what is there. `formula` is the codec whose chunks are the parameters of a video, rendered when they
are read; `virtual` makes the parameters too when they are read, and needs no disk. zarr-python makes the metadata and
the small arrays; the pixels are packed here, because measured side by side (`python -m benchmarks store`) that is what
keeps up with the renderer and the disk. What runs a plan is above, in `vpngen.executors`.
"""

from vpngen.store.clips import ClipReader
from vpngen.store.layout import CODECS, SHARDED, Layout, Plan, Shard, is_complete, parse_slice, read_spec, store_plan
from vpngen.store.places import Place, Where, place_of
from vpngen.store.targets import target_of
from vpngen.store.targets.local import LocalTarget
from vpngen.store.targets.objects import ObjectTarget
from vpngen.store.verifier import Problem, Verified, verify
from vpngen.store.virtual import SpecStore, View, open

__all__ = [
    "CODECS", "SHARDED", "ClipReader", "Layout", "LocalTarget", "ObjectTarget", "Place", "Plan", "Problem", "Shard", "SpecStore",
    "Verified", "View", "Where", "is_complete", "open", "parse_slice", "place_of", "read_spec", "store_plan", "target_of", "verify",
]  # fmt: skip
