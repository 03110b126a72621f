"""Each fuzzer for a second; `python -m tests.fuzz` runs them for hours."""

from __future__ import annotations

import fuzz
import pytest


@pytest.mark.parametrize("name", ["cli", "spec", "state", "lists", "metadata", "store"])
def test_fuzzers_find_nothing(name: str) -> None:
    tried, found = fuzz.fuzz(name, 1, 0)
    assert tried and not found, "\n".join(found)
