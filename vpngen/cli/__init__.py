"""The command line. Everything heavy is imported inside the commands, so that help and completion answer at once."""

from __future__ import annotations

from vpngen.cli import sets, pictures, training, figures, machine  # isort: skip # each adds its commands, in the order that help lists
from vpngen.cli.base import cli, main

__all__ = ["cli", "figures", "machine", "main", "pictures", "sets", "training"]
