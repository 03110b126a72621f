"""The one list of generators. A new one is a new module here and a line in the list."""

from vpngen.checks import Shape
from vpngen.generators.base import GENERATORS, Factor, Generator, Parameter, Params, Pixels, Plane, Progress, Seen
from vpngen.generators.clouds import Clouds
from vpngen.generators.drift import Drift
from vpngen.generators.fractal import Fractal
from vpngen.generators.leaves import Leaves
from vpngen.generators.mixed import Mixed, kinds
from vpngen.generators.perlin import Perlin

# New ones go to the end: `Mixed` stores the place of a generator in this list.
for generator in (Perlin, Fractal, Mixed, Drift, Clouds, Leaves):
    GENERATORS[generator.name] = generator

__all__ = [
    "GENERATORS", "Clouds", "Drift", "Factor", "Fractal", "Generator", "Leaves", "Mixed", "Parameter", "Params", "Perlin", "Pixels", "Plane",
    "Progress",
    "Seen", "Shape", "kinds",
]  # fmt: skip
