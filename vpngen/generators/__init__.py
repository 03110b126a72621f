"""The one list of generators. A new one is a new module here and a line in `GENERATORS`."""

from vpngen.generators.base import Generator, Parameter, Pixels, Rows, Shape
from vpngen.generators.perlin import Perlin

GENERATORS: dict[str, type[Generator]] = {g.name: g for g in (Perlin,)}

__all__ = ["GENERATORS", "Generator", "Parameter", "Perlin", "Pixels", "Rows", "Shape"]
