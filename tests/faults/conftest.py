"""The fault harness: a quick part with every run of the tests, the whole with `make faults`, which prints a table.

A test takes its number of cases from `cases(quick, whole)` and says what it found with `figure(line, found)`; what it
says stands in the table, and in docs/reliability.md.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

WHOLE = os.environ.get("QUICKSTUDY_FAULTS") == "whole"


@pytest.fixture
def cases() -> Callable[[int, int], int]:
    """`cases(quick, whole)` is how many cases the test is to try."""
    return lambda quick, whole: whole if WHOLE else quick


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Callable[[str, str], None]:
    """`figure("kill -9, rl2", "50 of 50 resumed")`: a line of the table, printed if the test passes."""
    return lambda line, found: record_property("figure", (line, found))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = terminalreporter.stats.get("passed", [])
    rows = [value for report in reports for name, value in report.user_properties if name == "figure"]
    if not rows:
        return
    terminalreporter.section("faults")
    width = max(len(line) for line, _ in rows)
    for line, found in sorted(map(tuple, rows)):
        terminalreporter.write_line(f"{line:<{width}}  {found}")
