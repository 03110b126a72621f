"""Benchmarks in sections that cannot hurt one another: what one found is on disk before the next begins, whatever that does."""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import json
import math
import multiprocessing
import shutil
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import common
from vpngen import MissingError, files

RESULTS = Path(__file__).parent / "results"
MOST_TEXT = 6000
"""Characters of a traceback, from its end."""
PATIENCE = 10.0
"""Seconds that a process whose time is over has to end by itself."""

Found = dict[str, Any]
"""What a section found, as JSON has it. `wrong`, where it is not empty, lists what should not be."""


@dataclass(frozen=True)
class Section:
    """Something to find out.

    Attributes:
        name: of what was found.
        run: finds it, on the bench that it is given.
        needs: attributes of the bench that it cannot do without: asked for, each may raise MissingError.
        seconds: expected.
        lines: of the short table: question, answer with what was found as {name}, and target.
    """

    name: str
    run: Callable[[Any], Found]
    needs: tuple[str, ...]
    seconds: float
    lines: tuple[tuple[str, str, str], ...]

    def rows(self, found: Found) -> Iterator[tuple[str, str, str]]:
        """The lines of the short table."""
        if found["status"] == "skipped":
            yield self.name, f"skipped: {found['reason']}", ""
            return
        for question, answer, target in self.lines:
            with contextlib.suppress(LookupError, TypeError, ValueError):  # it failed halfway
                yield question, answer.format(**found), target
        if found["status"] == "failed":
            yield self.name, f"FAILED: {found.get('error') or found['wrong'][0]}", ""


def attempt(bench: Any, section: Section, limit: float = math.inf) -> Found:
    """What a section found, and its `status`: done, skipped with a `reason`, or failed, with an `error` or something `wrong`.

    `bench.around(found)` is the context it runs in. Here nothing heeds the limit.
    """
    start = time.perf_counter()
    found: Found = {}
    try:
        try:
            for need in section.needs:
                getattr(bench, need)
        except MissingError as error:
            return {"status": "skipped", "reason": str(error)}
        with bench.around(found):
            found.update(section.run(bench))
        found = {"status": "failed" if found.get("wrong") else "done", **json.loads(json.dumps(found, default=float))}
    except Exception as error:  # whatever it is, the other sections have their turn
        text = f"{type(error).__name__}: {error}"
        found = {"status": "failed", "error": text, "traceback": traceback.format_exc()[-MOST_TEXT:]}
    return {**found, "took": time.perf_counter() - start}


class Worker:
    """Attempts sections in a process that is replaced when one raises, dies or does not end: a GPU that erred refuses all else."""

    def __init__(self, bench: Any) -> None:
        self.bench = bench
        self.process: Any = None
        self.stack = Path(tempfile.mkdtemp()) / "stack"
        atexit.register(shutil.rmtree, self.stack.parent, ignore_errors=True)

    def __call__(self, section: Section, limit: float) -> Found:
        """See `attempt`; `limit` in seconds."""
        if self.process is None:
            context = multiprocessing.get_context("spawn")
            self.pipe, theirs = context.Pipe()
            self.process = context.Process(target=serve, args=(theirs, self.bench, self.stack), daemon=True)
            self.process.start()
            theirs.close()
        start = time.monotonic()
        try:
            self.pipe.send((section, limit))
            if not self.pipe.poll(limit + PATIENCE):
                raise EOFError
            found: Found = self.pipe.recv()
        except (EOFError, OSError):
            took = time.monotonic() - start
            found = {
                "status": "failed",
                "error": f"its process ended after {took:.0f} s, of {limit:.0f} that it had",
                "took": took,
            }
            if self.stack.exists():
                found["traceback"] = self.stack.read_text()[-MOST_TEXT:]
        if "error" in found:
            self.close()
        return found

    def close(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.join(PATIENCE)
            self.pipe.close()
            self.process = None


def serve(pipe: Any, bench: Any, stack: Path) -> None:
    """The process of a `Worker`. Where it was when it died or its time was over is written to `stack`."""
    with stack.open("w") as file, contextlib.suppress(EOFError, OSError):
        faulthandler.enable(file)
        while True:
            section, limit = pipe.recv()
            faulthandler.dump_traceback_later(limit, exit=True, file=file)
            found = attempt(bench, section)
            faulthandler.cancel_dump_traceback_later()
            pipe.send(found)


@dataclass(frozen=True)
class Run:
    """Sections, and where what they find goes.

    Attributes:
        title: of the short table; whether figures are any is said there.
        sections: in this order.
        attempts: as `Worker`, or `attempt` of a bench.
        out: path without suffix: JSON and the short table are written there, if anywhere.
        minutes: what is not expected to end within what is left of them is skipped.
        dry: no figure is one; they do not get into `RESULTS`.
    """

    title: str
    sections: Sequence[Section]
    attempts: Callable[[Section, float], Found]
    out: Path | None = None
    minutes: float = math.inf
    dry: bool = False

    def __call__(self) -> Found:
        """Run all. What is known is printed, and on disk, before the next section begins."""
        assert not self.dry or self.out is None or self.out.resolve().parent != RESULTS
        begun = time.monotonic()
        known: Found = {}
        for section in self.sections:
            self.write(known, section.name)
            left = 60 * self.minutes - (time.monotonic() - begun)
            if section.seconds > left:
                reason = f"it takes about {section.seconds:.0f} s, and {max(left, 0):.0f} s are left of {self.minutes:g} minutes"
                found: Found = {"status": "skipped", "reason": reason}
            else:
                found = self.attempts(section, min(60 + 5 * section.seconds, left))
            known[section.name] = found
            for question, answer, _ in section.rows(found):
                print(f"{question}: {answer}", flush=True)
            print(found.get("traceback", ""), end="", flush=True)
        return self.write(known, None)

    def write(self, known: Found, running: str | None) -> Found:
        """What is known, on disk."""
        results = {"dry": self.dry, "running": running, "sections": known}
        if self.out is not None:
            files.write_json(self.out.with_suffix(".json"), results)
            files.write(self.out.with_suffix(".md"), f"{self.report(results)}\n".encode())
        return results

    def report(self, results: Found) -> str:
        """The short table."""
        rows = [
            row for s in self.sections if s.name in results["sections"] for row in s.rows(results["sections"][s.name])
        ]
        head = "This was a dry run: no figure here is one.\n\n" if self.dry else ""
        tail = f"\n\nNot finished: {results['running']} was under way." if results["running"] else ""
        return f"# {self.title}\n\n{head}{common.table(('question', 'answer', 'target'), rows)}{tail}"
