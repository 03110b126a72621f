"""`python -m benchmarks`: asks the questions in order and writes what came out as Markdown, JSON and pictures."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import common, delivery, endurance, fractal, moving, objects, render, startup, store, windows

QUESTIONS = {
    "startup": startup, "render": render, "windows": windows, "fractal": fractal, "moving": moving, "store": store, "delivery": delivery,
    "objects": objects, "endurance": endurance,
}  # fmt: skip
HOME = Path(__file__).parent
MARKS = "<!-- results: written by python -m benchmarks -->\n", "<!-- end of results -->"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("questions", nargs="*", metavar="QUESTION", help=f"{', '.join(QUESTIONS)}; all unless given")
    parser.add_argument("--quick", action="store_true", help="a few minutes, for a first look: few runs, little data")
    parser.add_argument("--out", type=Path, help="folder for the report; benchmarks/results, or with --quick none")
    parser.add_argument("--dir", type=Path, default=Path(), help="where to write test data, 4 GB; the current folder")
    parser.add_argument(
        "--update", action="store_true", help="put the questions that are given into the report that is there"
    )
    options = parser.parse_args()
    if unknown := set(options.questions) - set(QUESTIONS):
        parser.error(f"no such question: {', '.join(unknown)}")

    found: dict[str, Any] = {"machine": common.machine(), "quick": options.quick}
    for name in [name for name in QUESTIONS if not options.questions or name in options.questions]:
        if not all(map(importlib.util.find_spec, getattr(QUESTIONS[name], "NEEDS", ()))):
            print(f"{name}: left out, needs {', '.join(QUESTIONS[name].NEEDS)}", file=sys.stderr)
            continue
        start = time.monotonic()
        print(f"{name} ...", end=" ", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory(prefix=".benchmark-", dir=options.dir) as folder:
            found[name] = QUESTIONS[name].run(options.quick, Path(folder))
        print(f"{time.monotonic() - start:.0f} s", file=sys.stderr)

    complete = (not options.questions or options.update) and not options.quick
    out = options.out or (HOME / "results" if complete else None)
    if out is not None and options.update:
        found = updated(json.loads((out / "results.json").read_text(), object_hook=_with_numbers), found)
    if out is None:
        print(text(found))
        return
    out.mkdir(parents=True, exist_ok=True)
    pictures = [name for name in QUESTIONS if name in found and hasattr(QUESTIONS[name], "plot")]
    for name in pictures:
        QUESTIONS[name].plot(found[name], out / f"{name}.png")
    (out / "results.json").write_text(json.dumps(found, indent=1) + "\n")
    (out / "report.md").write_text(text(found, pictures))
    if options.out is None:
        readme = HOME / "README.md"
        before, _, rest = readme.read_text().partition(MARKS[0])
        readme.write_text(before + MARKS[0] + overview(found) + MARKS[1] + rest.partition(MARKS[1])[2])
    print(overview(found))
    print(f"The report: {out / 'report.md'}")


def _with_numbers(fields: dict[str, Any]) -> dict[Any, Any]:
    """Keys that were numbers before they were JSON."""
    return {int(key) if key.isdigit() else key: value for key, value in fields.items()}


def updated(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """The answers of two runs; a question that was asked again notes when, and with what."""
    again = {
        name: {key: now["machine"][key] for key in ("date", "load", "versions")} for name in now if name in QUESTIONS
    }
    kept = {name: run for name, run in before.get("asked_again", {}).items() if name not in again}
    return {**before, **now, "machine": before["machine"], "asked_again": {**kept, **again}}


def overview(found: dict[str, Any]) -> str:
    """The machine in words, and a line for every figure that has a target."""
    m = found["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in m["versions"].items())
    rows = [row for name, module in QUESTIONS.items() if name in found for row in module.summary(found[name])]
    return (
        f"{m['date']}, {m['cores']} cores of {m['cpu']} ({m['vectors']}), {m['memory_gb']} GB, {m['system']}, "
        f"Python {m['python']}; load at the start {m['load']}. {versions}."
        + (" A quick run: a first look, not a measurement." if found["quick"] else "")
        + "".join(_asked_again(found))
        + f"\n\n{common.table(('what', 'target', 'measured'), rows)}\n"
    )


def _asked_again(found: dict[str, Any]) -> list[str]:
    later = found.get("asked_again", {})
    dates: dict[str, list[str]] = {}
    for name, run in later.items():
        more = ", ".join(f"{n} {v}" for n, v in run["versions"].items() if found["machine"]["versions"].get(n) != v)
        dates.setdefault(f"{run['date']}, load {run['load']}{', with ' + more if more else ''}", []).append(name)
    return [f" In a run of their own ({when}): {', '.join(names)}." for when, names in dates.items()]


def text(found: dict[str, Any], pictures: list[str] | None = None) -> str:
    parts = ["# Benchmarks of vpngen\n", overview(found)]
    for name, module in QUESTIONS.items():
        if name in found:
            parts.append(f"## {module.TITLE}\n\n{module.report(found[name])}\n")
            if name in (pictures or []):
                parts.append(f"![{module.TITLE}]({name}.png)\n")
    return "\n".join(parts)


if __name__ == "__main__":
    main()
