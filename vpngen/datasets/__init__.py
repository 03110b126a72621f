"""Real videos: sets as they are published, decoded to the frame, cut into clips."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vpngen.lazy import lazy

if TYPE_CHECKING:
    from vpngen.datasets.clips import VideoLoader, WindowLoader
    from vpngen.datasets.videos import KINDS, Video, VideoSet, hold_out, read_videos

__all__ = ["KINDS", "Video", "VideoLoader", "VideoSet", "WindowLoader", "hold_out", "read_videos"]

__getattr__, __dir__ = lazy(__name__, {
    "clips": ("VideoLoader", "WindowLoader",),
    "videos": ("KINDS", "Video", "VideoSet", "hold_out", "read_videos",),
})  # fmt: skip
