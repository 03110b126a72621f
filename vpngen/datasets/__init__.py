"""Real videos: sets as they are published, decoded to the frame, cut into clips.

The one list of layouts is here. A new one is a module, beside the others, and a line in `LAYOUTS`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vpngen.datasets.activitynet import ACTIVITYNET
from vpngen.datasets.base import Layout, Video, VideoSet
from vpngen.datasets.folder import FOLDER
from vpngen.datasets.hmdb51 import HMDB51
from vpngen.datasets.kinetics import KINETICS
from vpngen.datasets.reference_json import JSON
from vpngen.datasets.ucf101 import UCF101
from vpngen.units import lazy

if TYPE_CHECKING:
    from vpngen.datasets.clips import VideoLoader, WindowLoader
    from vpngen.datasets.sets import hold_out, read_videos

LAYOUTS: Final = {layout.name: layout for layout in (UCF101, HMDB51, ACTIVITYNET, KINETICS, JSON, FOLDER)}
KINDS: Final = tuple(LAYOUTS)
"""What `read_videos` takes as `kind`."""
ANNOTATIONS: Final = "; ".join(f"{kind}: {one.annotations}" for kind, one in LAYOUTS.items() if one.annotations)
"""What it takes as `annotations`, for help."""

__all__ = [
    "ANNOTATIONS", "KINDS", "LAYOUTS", "Layout", "Video", "VideoLoader", "VideoSet", "WindowLoader", "hold_out", "read_videos",
]  # fmt: skip

__getattr__, __dir__ = lazy(__name__, {"clips": ("VideoLoader", "WindowLoader"), "sets": ("hold_out", "read_videos")})
