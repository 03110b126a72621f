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

from benchmarks import common, delivery, endurance, fractal, render, startup, store, windows

QUESTIONS = {
    "startup": startup, "render": render, "windows": windows, "fractal": fractal, "store": store, "delivery": delivery,
    "endurance": endurance,
}  # fmt: skip
HOME = Path(__file__).parent
MARKS = "<!-- results: written by python -m benchmarks -->\n", "<!-- end of results -->"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("questions", nargs="*", metavar="QUESTION", help=f"{', '.join(QUESTIONS)}; all unless given")
    parser.add_argument("--quick", action="store_true", help="a few minutes, for a first look: few runs, little data")
    parser.add_argument("--out", type=Path, help="folder for the report; benchmarks/results, or with --quick none")
    parser.add_argument("--dir", type=Path, default=Path(), help="where to write test data, 4 GB; the current folder")
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

    complete = not options.questions and not options.quick
    out = options.out or (HOME / "results" if complete else None)
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


def overview(found: dict[str, Any]) -> str:
    """The machine in words, and a line for every figure that has a target."""
    m = found["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in m["versions"].items())
    rows = [row for name, module in QUESTIONS.items() if name in found for row in module.summary(found[name])]
    return (
        f"{m['date']}, {m['cores']} cores of {m['cpu']} ({m['vectors']}), {m['memory_gb']} GB, {m['system']}, "
        f"Python {m['python']}; load at the start {m['load']}. {versions}."
        + (" A quick run: a first look, not a measurement." if found["quick"] else "")
        + f"\n\n{common.table(('what', 'target', 'measured'), rows)}\n"
    )


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
