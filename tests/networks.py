"""A small one of each family of networks, for what all of them go through."""

from __future__ import annotations

from typing import Any, NamedTuple

from vpngen.checks import Shape


class Small(NamedTuple):
    """A network, and a clip that it takes."""

    name: str
    options: dict[str, Any]
    clip: Shape = (8, 32, 32)

    def __str__(self) -> str:
        return "-".join([self.name, *(str(value) for name, value in self.options.items() if name != "width")])


FAMILIES = [
    Small("r3d10", {"width": 0.125}),
    Small("r3d18", {"width": 0.125, "shortcut": "A"}),
    Small("r2p1d10", {"width": 0.125}),
    Small("preact10", {"width": 0.125}),
    Small("wide50", {"width": 0.0625}),
    Small("resnext50", {"width": 0.25}),
    Small("t3d121", {"width": 0.125}, (8, 16, 16)),
]
"""Every class of `vpngen.models.MODELS` has a line, or one that is made of it: T3D is DenseNet3D, and that DenseNet, with more in it."""
