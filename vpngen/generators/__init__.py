"""The one list of generators. A new one is a new module here and a line in `GENERATORS`."""

from vpngen.checks import Shape
from vpngen.generators.base import Generator, Parameter, Params, Pixels
from vpngen.generators.fractal import Fractal
from vpngen.generators.mixed import Mixed
from vpngen.generators.perlin import Perlin

GENERATORS: dict[str, type[Generator]] = {g.name: g for g in (Perlin, Fractal, Mixed)}

__all__ = ["GENERATORS", "Fractal", "Generator", "Mixed", "Parameter", "Params", "Perlin", "Pixels", "Shape"]
