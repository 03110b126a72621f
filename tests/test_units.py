"""Numbers as people read them."""

from __future__ import annotations

import os

import pytest

from vpngen.units import count_text, duration_text, number_text, size_text, usable_cpus


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [
        (0, "0 B"), (1, "1 B"), (999, "999 B"), (999.4, "999 B"), (999.5, "1 kB"), (1000, "1 kB"), (1234, "1.23 kB"),
        (99_949, "99.9 kB"), (99_960, "100 kB"), (999_499, "999 kB"), (999_500, "1 MB"), (13_824_000, "13.8 MB"),
        (1_811_939_328_000, "1.81 TB"), (3.5e15, "3.5 PB"), (2e18, "2 EB"), (7.9e28, "79,000,000,000 EB"),
    ],
)  # fmt: skip
def test_size(nbytes: float, text: str) -> None:
    assert size_text(nbytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "under a second"), (0.4, "under a second"), (0.6, "1 s"), (59.4, "59 s"), (59.6, "1 min"), (61, "1 min 1 s"),
        (3599, "59 min 59 s"), (3600, "1 h"), (12_000, "3 h 20 min"), (86_399, "23 h 59 min"), (86_400, "1 d"),
        (93_784, "1 d 2 h"),
    ],
)  # fmt: skip
def test_duration(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.125, "0.125"), (1.0, "1"), (12.34, "12.3"), (99.94, "99.9"), (99.96, "100"), (3296.4, "3,296")],
)
def test_number(value: float, text: str) -> None:
    assert number_text(value) == text


def test_usable_cpus() -> None:
    assert 1 <= usable_cpus() <= (os.cpu_count() or 1)


@pytest.mark.parametrize(
    ("count", "noun", "text"),
    [
        (0, "epoch", "0 epochs"),
        (1, "epoch", "1 epoch"),
        (2, "category", "2 categories"),
        (1, "class", "1 class"),
        (1234, "class", "1,234 classes"),
    ],
)
def test_counts_have_their_plural(count: int, noun: str, text: str) -> None:
    assert count_text(count, noun) == text
