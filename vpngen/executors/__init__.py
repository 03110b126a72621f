"""Ways to run a plan: `base` says what each must do. Adding one is its file and a line here."""

from typing import Final

EXECUTORS: Final = ("threads",)
"""The executors, by the name of their module."""
