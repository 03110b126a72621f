"""What a network is trained to do. A task is a file here and a line in the list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from vpngen.units import lazy

if TYPE_CHECKING:
    from vpngen.tasks.base import Task
    from vpngen.tasks.classify import Classify
    from vpngen.tasks.correspond import Correspond
    from vpngen.tasks.factors import Factors
    from vpngen.tasks.order import Order
    from vpngen.tasks.puzzle import Puzzle
    from vpngen.tasks.reconstruct import Reconstruct
    from vpngen.tasks.segments import Segments

TASKS: Final = {
    "classify": "vpngen.tasks.classify:Classify",
    "correspond": "vpngen.tasks.correspond:Correspond",
    "order": "vpngen.tasks.order:Order",
    "puzzle": "vpngen.tasks.puzzle:Puzzle",
    "reconstruct": "vpngen.tasks.reconstruct:Reconstruct",
}
"""Name -> where its `Task` is, as module:class."""

__all__ = ["TASKS", "Classify", "Correspond", "Factors", "Order", "Puzzle", "Reconstruct", "Segments", "Task"]

__getattr__, __dir__ = lazy(__name__, {
    "base": ("Task",), "classify": ("Classify",), "correspond": ("Correspond",), "order": ("Order",), "puzzle": ("Puzzle",), "reconstruct": ("Reconstruct",),
    "factors": ("Factors",), "segments": ("Segments",),
})  # fmt: skip
