"""The benchmark of networks: it measures a step of any of them, and its report says so. No figure is asserted."""

from __future__ import annotations

import dataclasses

import pytest

from vpngen.models import MODELS
from vpngen.models.base import outline

networks = pytest.importorskip("benchmarks.networks")

QUICK = networks.PLANS["quick"]


def test_a_step_is_measured_and_reported() -> None:
    found = networks.measure("r3d10", QUICK, "cpu")
    assert found["parameters"] == sum(p.numel() for p in outline("r3d10", 400, {"width": QUICK.width}).parameters())
    assert found["clip"] == QUICK.clip and found["gpu_gb"] is None
    assert 0 < found["before_gb"] < found["peak_gb"] and found["rate"]["median"] > 0
    about = {**networks.common.machine(), "gpu": None, "driver": None}
    models = {"r3d10": found, "r3d18": {"error": "MemoryError: none is left"}}
    text = networks.report({"machine": about, "plan": dataclasses.asdict(QUICK), "threads": 1, "models": models})
    assert (
        f"| `r3d10` | 8 x 32 x 32 | {found['parameters']:,} |" in text and "`r3d18` has no figures: MemoryErr" in text
    )


def test_multiply_adds_are_counted() -> None:
    """Those of R3D-18, for the clips of Hara et al."""
    assert networks.gmacs("r3d18", 1, (16, 112, 112)) == pytest.approx(8.31, abs=0.01)


def test_every_family_takes_the_clip_of_its_paper() -> None:
    names = networks.families()
    assert {MODELS[name][0] for name in names} == {home for home, _ in MODELS.values()}
    for name in names:
        for plan in networks.PLANS.values():
            model = outline(name, 400, {"width": plan.width})
            model.check_clip(networks.clip_of(name, plan, model.least))
