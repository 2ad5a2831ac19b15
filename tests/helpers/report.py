"""The end of a test run: what failed, and one closing line.

    report.py DIRECTORY [FAILED STEP ...]

Reads the JUnit files that pytest wrote into the directory.  A failed step counts as a failure, unless it is one of tests whose
failures are counted already.  Exits with 0 only if something passed or no tests were asked for, and nothing failed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

MAX_MESSAGE = 300  # characters


@dataclass
class Results:
    """How many tests passed and were skipped, and a line for each that failed."""

    passed: int = 0
    skipped: int = 0
    failures: list[str] = field(default_factory=list)

    def closing_line(self) -> str:
        """The plain line that ends the run."""
        skipped = f", {self.skipped} skipped" if self.skipped else ""
        return f"{self.passed} passed, {len(self.failures)} failed{skipped}"


def read(files: Iterable[Path]) -> Results:
    """The results in pytest's JUnit files; a file that was cut off is a failure."""
    results = Results()
    for path in files:
        try:
            cases = list(ElementTree.parse(path).iter("testcase"))
        except ElementTree.ParseError as error:
            results.failures.append(f"{path.name} cannot be read: {error}")
            continue
        for case in cases:
            _count(case, results)
    return results


def _count(case: ElementTree.Element, results: Results) -> None:
    problem = case.find("failure")
    if problem is None:
        problem = case.find("error")
    if problem is not None:
        message = " ".join((problem.get("message") or "").split())[:MAX_MESSAGE]
        results.failures.append(f"{case.get('classname')}::{case.get('name')}: {message}")
    elif case.find("skipped") is not None:
        results.skipped += 1
    else:
        results.passed += 1


def main(arguments: Sequence[str]) -> int:
    """Prints the report; the exit code of the run."""
    files = sorted(Path(arguments[0]).glob("*.xml"))
    results = read(files)
    counted = {"unit tests", "all other tests", "tests"} if results.failures else set()
    results.failures += [f"step '{name}'" for name in arguments[1:] if name not in counted]
    if results.failures:
        print("\nFailed:")
    for line in results.failures:
        print(f"  {line}")
    print(f"\n{results.closing_line()}", flush=True)
    return 1 if results.failures or (files and not results.passed) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
