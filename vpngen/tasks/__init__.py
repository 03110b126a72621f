"""What a network is trained to do. A task is a file here and a line in the list."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vpngen.units import lazy

if TYPE_CHECKING:
    from vpngen.tasks.base import Task
    from vpngen.tasks.classify import Classify
    from vpngen.tasks.segments import Segments

__all__ = ["Classify", "Segments", "Task"]

__getattr__, __dir__ = lazy(__name__, {"base": ("Task",), "classify": ("Classify",), "segments": ("Segments",)})
