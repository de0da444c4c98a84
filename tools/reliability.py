"""From the JUnit file of a full run to docs/reliability.md: what was tried, how often, on what, when.

PYTHONPATH=tests python tools/reliability.py build/test-all.xml docs/reliability.md
"""

import datetime
import platform
import sys
from pathlib import Path
from xml.etree import ElementTree

from support.counts import COUNTS


def main(source: Path, target: Path) -> None:
    """Write the report."""
    suite = next(ElementTree.parse(source).getroot().iter("testsuite"))
    figures = {name: int(suite.get(name, "0")) for name in ("tests", "failures", "errors", "skipped")}
    minutes = float(suite.get("time", "0")) / 60
    skipped = [
        f"- `{case.get('classname')}::{case.get('name')}`: {mark.get('message')}"
        for case in suite.iter("testcase")
        for mark in case.iter("skipped")
    ]
    lines = [
        "# Reliability: the full run",
        "",
        f"`make test-all` on {datetime.date.today().isoformat()}, {platform.system()} {platform.machine()}, "
        f"Python {platform.python_version()}: {figures['tests']} tests, {figures['failures']} failures, "
        f"{figures['errors']} errors, {figures['skipped']} skipped, {minutes:.0f} minutes.",
        "",
        "How often the randomised tests tried; `make test` takes the reduced counts. Both are in",
        "`tests/support/counts.py`.",
        "",
        "| what | in this run | in `make test` |",
        "| --- | --- | --- |",
        *(f"| {name} | {full:,} | {reduced:,} |" for name, (reduced, full) in COUNTS.items()),
        "",
        *(["Skipped:", "", *skipped, ""] if skipped else []),
    ]
    target.write_text("\n".join(lines))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
