"""benchmarks/initialization.py without training: names of arms, sets that can be made, choices, and runs that are cut off."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from vpngen.generators import GENERATORS
from vpngen.models import create_model

pytest.importorskip("skimage")
pytest.importorskip("sklearn")
init = pytest.importorskip("benchmarks.initialization")
arms = pytest.importorskip("benchmarks.arms")
orderings = pytest.importorskip("benchmarks.orderings")

PLAN = dataclasses.replace(
    arms.PLANS["trial"], rates=(0.1, 0.2), pretext_rates=(0.3, 0.03), arms=("scratch", "VPN", "VPN, 4 x", "VPN, frozen to stage 2")
)  # fmt: skip


# --- arms


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("VPN", {"sets": ("perlin",), "budget": 1}),
        ("VPN, frozen in time", {"sets": ("perlin",), "still": True}),
        ("inflated, fractal stills", {"learns": "stills"}),
        ("VPN + drift, heads, 2 x", {"sets": ("perlin", "drift"), "heads": True, "budget": 2}),
        ("VPN + clouds + leaves, 4 x", {"sets": ("perlin", "clouds", "leaves"), "budget": 4}),
        ("VPN, slow, no noise", {"options": {"temporal": "slow", "noise_terms": 0}}),
        ("VPN, 16 categories, frozen to stage 3", {"options": {"categories": 16}, "freeze": 3}),
        ("VPN, random grey", {"options": {"grey": "random"}}),
    ],
)
def test_a_name_says_what_an_arm_is(name: str, fields: dict[str, Any]) -> None:
    arm = arms.arm_of(name)
    assert {key: getattr(arm, key) for key in fields} == fields


@pytest.mark.parametrize(
    "name", ["noise", "VPN, faster", "VPN + order", "VPN + drift + order", "VPN + drift drift", "VPNs", "VPN,2 x"]
)
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(name))):
        arms.arm_of(name)


def test_what_begins_alike_is_learned_once() -> None:
    assert arms.before_of("VPN, 2 x, frozen to stage 1") == "VPN, 2 x"
    assert (
        arms.once("VPN, 2 x, frozen to stage 1") == "VPN"
        and arms.once("inflated, fractal stills") == "inflated, fractal stills"
    )


@pytest.mark.parametrize("plan", arms.PLANS)
def test_the_sets_of_every_plan_can_be_made(plan: str) -> None:
    """Divisions and frequencies of noise that divide the sides; fractals are left out, which take a search."""
    made = arms.PLANS[plan]
    moving = [name for name in arms.MOVING if name in GENERATORS]
    for name in {name.replace(arms.BEST, best) for name in made.arms for best in moving or [arms.DRIFT]}:
        arm = arms.arm_of(name)
        if arm.learns == "categories" and "fractal" not in arm.sets and set(arm.sets) <= GENERATORS.keys():
            spec = arms.spec_of(arm, made, 0)
            assert min(spec.shape[1:]) >= made.clip[1] and spec.shape[0] >= made.clip[0] and spec.val_instances
            asked = arm.options.get("categories", made.categories)
            assert spec.n_categories == asked * len(arm.sets)


@pytest.mark.parametrize("grey", [True, False])
def test_the_fast_first_layer_is_the_layer(grey: bool) -> None:
    """What comes out, and the gradients, of grey clips and of those of colour."""
    torch.manual_seed(0)
    plan = arms.PLANS["trial"]
    plain = create_model(plan.model, 5, width=plan.width).double()
    fast = init.network(plan, 5).double()
    fast.load_state_dict(plain.state_dict())
    assert type(fast.conv1) is init.Stem
    clips = torch.rand((2, 1 if grey else 3, 7, 26, 24), dtype=torch.float64).expand(2, 3, 7, 26, 24)
    made = [network(clips) for network in (plain, fast)]
    torch.testing.assert_close(*made)
    for logits in made:
        logits.square().sum().backward()
    torch.testing.assert_close(plain.conv1.weight.grad, fast.conv1.weight.grad, check_stride=False)


def test_splits_have_as_many_clips_of_each_class() -> None:
    for target, about in arms.TARGETS.items():
        for split in ("train", "val", "test"):
            assert arms.PLANS["study"].count(target, split) % len(about.classes) == 0
        assert sorted(label for labels in about.kinds.values() for label in labels) == list(range(len(about.classes)))


# --- runs, of jobs that are made up


class Cut(Exception):
    pass


class Faked:
    """Stands for `initialization.do`: what a job gives is a function of it; raises Cut after so many."""

    def __init__(self, most: int = 10**6) -> None:
        self.done: list[Any] = []
        self.most = most

    def __call__(self, job: Any, plan: Any, place: Any) -> dict[str, Any]:
        if len(self.done) == self.most:
            raise Cut
        self.done.append(job)
        if not job.target:
            (place.work / job.weights).parent.mkdir(exist_ok=True)
            (place.work / job.weights).write_text("")
            arm = arms.arm_of(job.arm)
            learned = (
                {}
                if arm.learns == "nothing"
                else {"metric": "top1", "val_metric": 0.5 if job.before == 0.03 else 0.4, "chance": 0.1}
            )
            return {"clips": 1, "frames": 1, "steps": 1, "cpu_seconds": 1.0, **learned, "seconds": 60.0 * arm.budget}
        assert (place.work / job.first.weights).exists()
        top1 = 0.1 * arms.arm_of(job.arm).budget + (0.05 if job.rate == 0.2 else 0.0) + 0.01 * (job.seed % 10)
        kinds = dict.fromkeys(arms.TARGETS[job.target].kinds, top1)
        return {"top1": top1, "train_top1": 1.0, "kinds": kinds, "digests": ["a", "b"], "seconds": 6.0}


def go(
    folder: Path, fake: Faked, monkeypatch: pytest.MonkeyPatch, plan: Any = PLAN, minutes: float | None = None
) -> dict[str, Any]:
    monkeypatch.setattr(init, "do", fake)
    kept = init.Kept(folder / "x.jobs.jsonl", plan, (folder / "x.jobs.jsonl").exists())
    found: dict[str, Any] = init.run(plan, init.Place("cpu", folder / "work"), 1, kept, minutes)
    return found


def test_a_run_that_is_cut_off_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Faked()
    found = go(tmp_path / "whole", whole, monkeypatch)
    assert not any(
        job.seed == init.CHOOSING and job.arm == "VPN, 4 x" for job in whole.done
    )  # it takes over VPN's rates
    assert len(set(whole.done)) == len(whole.done) and not list((tmp_path / "whole" / "work").glob("*.pth"))
    parts = []
    while True:
        parts.append(Faked(most=7))
        try:
            again = go(tmp_path / "cut", parts[-1], monkeypatch)
            break
        except Cut:
            with (tmp_path / "cut" / "x.jobs.jsonl").open("a") as file:
                file.write('{"job": ["motions", "VP')  # as a process leaves it that was stopped
    assert sorted(job for part in parts for job in part.done) == sorted(whole.done) and len(parts) > 5
    for key in ("before", "targets", "best"):
        assert again[key] == found[key]
    later = Faked()
    go(tmp_path / "cut", later, monkeypatch, dataclasses.replace(PLAN, seeds=3))
    assert {job.seed for job in later.done} == {2}


def test_weights_that_are_gone_are_learned_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, then = Faked(most=4), Faked()
    with pytest.raises(Cut):
        go(tmp_path, first, monkeypatch)
    gone = list((tmp_path / "work").glob("*.pth"))
    for path in gone:
        path.unlink()
    go(tmp_path, then, monkeypatch)
    twice = set(first.done) & set(then.done)
    assert twice and all(not job.target and (tmp_path / "work" / job.weights) in gone for job in twice)


def test_rates_are_chosen_on_validation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Faked()
    found = go(tmp_path, fake, monkeypatch)
    assert found["before"]["VPN"]["rate"] == 0.03 and found["before"]["scratch"]["rate"] == 0.3
    assert found["before"]["VPN, 4 x"]["rate"] == 0.03
    assert not any(job.before == 0.3 for job in fake.done if job.arm == "VPN, 4 x")  # taken over, not tried
    on = found["targets"]["actions"]["arms"]
    assert on["VPN"]["rate"] == 0.2 and on["VPN, 4 x"]["over_scratch"] == pytest.approx([0.3, 0.3])
    first = [job for job in fake.done if job.seed == 0 and not job.target]
    assert (
        len(first) == 3 and first[0].arm == "VPN, 4 x"
    )  # frozen stages begin with the weights of VPN; what is long goes first
    text = init.report({**found, "machine": {**found["machine"], "gpu": None}})
    assert "| VPN, 4 x | 0.2 | 100.0 ± 0.0 % | **45.5 ± 0.7 %** | +30.0 ± 0.0 | 2 of 2 |" in text


def test_no_job_begins_that_would_not_end_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs that are made up take no time, and say that they took minutes: what is known is believed."""
    with pytest.raises(init.TimeIsUp, match=r"\d+ jobs of this stage are left; go on with --continue"):
        go(tmp_path, Faked(), monkeypatch, minutes=2.0)
    kept = init.Kept(tmp_path / "x.jobs.jsonl", PLAN, True)
    left = init.Job("", "VPN, 4 x", 0.03, 0.0, init.CHOOSING)
    assert kept.guess(left) == 240 and left not in kept.results
    assert any(job.target and job.arm == "VPN" for job in kept.results)  # what is short was done


def test_results_of_another_plan_are_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "x.jobs.jsonl"
    init.Kept(path, PLAN, False)
    init.Kept(path, dataclasses.replace(PLAN, seeds=9), True)
    with pytest.raises(SystemExit, match="--continue goes on"):
        init.Kept(path, PLAN, False)
    with pytest.raises(SystemExit, match="another plan"):
        init.Kept(path, dataclasses.replace(PLAN, epochs=9), True)


def test_best_is_the_one_of_validation_and_what_is_not_there_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = dataclasses.replace(PLAN, arms=("scratch", "VPN", "clouds", "VPN + best"), seeds=1)
    monkeypatch.setattr(arms, "GENERATORS", {"perlin": None})
    found = go(tmp_path / "none", Faked(), monkeypatch, plan)
    assert found["best"] is None and set(found["left_out"]) == {"clouds", "VPN + best"}
    monkeypatch.setattr(arms, "GENERATORS", {"perlin": None, "drift": None, "leaves": None})

    class Better(Faked):
        def __call__(self, job: Any, plan: Any, place: Any) -> dict[str, Any]:
            return {**(found := super().__call__(job, plan, place)), **({"top1": 0.9} if job.target and job.arm == "leaves" else {}), "seconds": found["seconds"]}  # fmt: skip

    found = go(tmp_path / "some", Better(), monkeypatch, plan)
    assert found["best"] == "leaves" and "VPN + leaves" in found["before"] and set(found["left_out"]) == {"clouds"}


# --- the paper's orderings


@pytest.mark.parametrize(
    ("differences", "says"),
    [((0.1, 0.2), "agrees"), ((-0.1, -0.2), "the other way round"), ((0.1, -0.2), "open"), ((0.1, 0.0), "open")],
)
def test_a_claim_holds_where_all_seeds_say_so(differences: tuple[float, ...], says: str) -> None:
    assert orderings.verdict(differences) == says


def test_every_claim_is_of_arms_of_the_plan() -> None:
    assert {arm for claim in orderings.CLAIMS for arm in (claim.better, claim.worse)} <= set(orderings.ARMS)
    assert json.loads(json.dumps(dataclasses.asdict(arms.PLANS["orderings"])))["arms"] == list(orderings.ARMS)


def test_a_larger_budget_goes_on_from_a_smaller_one(tmp_path: Path) -> None:
    """And comes to the same weights where nothing was kept; the smaller one is what it would be alone."""
    plan = dataclasses.replace(arms.PLANS["trial"], categories=4, pretext_clips=128, pretext_batch=16)
    once, twice = (init.Job("", name, 0.3, 0.0, 1) for name in ("VPN", "VPN, 2 x"))
    weights = {}
    for folder, jobs in (("together", (once, twice)), ("alone", (twice,)), ("backwards", (twice, once))):
        place = init.Place("cpu", tmp_path / folder)
        place.work.mkdir()
        for job in jobs:
            about = init.do(job, plan, place)
            assert about["clips"] == 128 * arms.arm_of(job.arm).budget and about["cpu_seconds"] > 0
            weights[folder, job] = torch.load(place.work / job.weights, weights_only=True)["state"]
    for same in (
        (("together", twice), ("alone", twice), ("backwards", twice)),
        (("together", once), ("backwards", once)),
    ):
        for other in same[1:]:
            assert all(torch.equal(value, weights[other][name]) for name, value in weights[same[0]].items())
    assert not torch.equal(weights["together", once]["conv1.weight"], weights["together", twice]["conv1.weight"])
    kept = sorted(path.name.split(".")[1] for path in (tmp_path / "alone").glob("trunk-*"))
    assert kept == ["12", "6"]
