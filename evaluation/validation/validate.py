"""`quickstudy validate`: every check, the table, and the same as JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.console import Group as Lines
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from envs.errors import UserError
from evaluation.progress import GridProgress, duration
from evaluation.table import write_text
from evaluation.validation import (
    agent_in_expectation,
    arithmetic,
    exact_value,
    expected_gradient,
    meta_gradient,
    recurrence,
    trust,
)
from evaluation.validation.check import Check
from evaluation.validation.learning import Scale, adaptation_checks, bandit_checks
from evaluation.validation.runs import RUNS, Run, provenance, trained
from training.loop import torch_threads
from training.provenance import commit, versions

RESULT_FILE = "validate.json"
RETURNS_FILE, RETURNS_COLUMNS = "returns.csv", "check,task,update,return"
BANDIT_FILE, BANDIT_COLUMNS = "bandit.csv", "check,rewards,return,sequences"


@dataclass(frozen=True)
class Group:
    """Checks of one subject. cost: how long they take, relative to the others."""

    name: str
    checks: Callable[[], list[Check]]
    cost: int


FAST = (
    Group("MAML's meta-gradient", meta_gradient.checks, 4),
    Group("which surrogates are unbiased", expected_gradient.checks, 3),
    Group("the agent in expectation", agent_in_expectation.checks, 2),
    Group("TRPO", trust.checks, 3),
    Group("returns, advantages, baseline", arithmetic.checks, 1),
    Group("RL²'s memory", recurrence.checks, 6),
    Group("the bandit's optimum", exact_value.checks, 1),
)


@dataclass(frozen=True)
class Outcome:
    """checks: by group, in order. runs: what was trained, by name. seconds: of each group."""

    checks: dict[str, list[Check]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def failed(self) -> list[str]:
        return [check.name for group in self.checks.values() for check in group if not check.passed]


def validate(
    mode: str,
    out: Path,
    runs: Path,
    *,
    console: Console | None = None,
    trainings: Sequence[Run] = RUNS,
    groups: Sequence[Group] = FAST,
    scale: Scale | None = None,
) -> Outcome:
    """Run the checks of `fast`, and those of trained agents besides in `full`; print the table, and write `out`.

    runs: where `full` finds its trained agents; the missing ones are trained into it. Raises `UserError` before
    anything is computed where `out` holds something else, and what training raises.
    """
    console, out = console or Console(), Path(out)
    _claim(out)
    outcome = Outcome()
    loaded = [(run, trained(run, Path(runs), console)) for run in trainings] if mode == "full" else []
    work = [*groups, *(Group(f"{run.agent} on {run.family}", list, 10) for run, _ in loaded)]
    rows: dict[str, list[tuple[Any, ...]]] = {"maml": [], "rl2": []}
    with GridProgress(console, [group.name for group in work], [group.cost for group in work]) as progress:
        for number, group in enumerate(work):
            progress.begin(number)
            start = time.monotonic()
            if number < len(groups):
                with torch_threads(1):  # the networks are too small to share out
                    checks = group.checks()
            else:
                run, agent = loaded[number - len(groups)]
                measure = adaptation_checks if run.agent == "maml" else bandit_checks
                checks, raw = measure(agent, scale or Scale())
                rows[run.agent] += raw
                outcome.runs[run.name] = provenance(agent, run)
            outcome.checks[group.name] = checks
            outcome.seconds[group.name] = time.monotonic() - start
            progress.advance(group.cost)
            passed = sum(check.passed for check in checks)
            progress.end(f"{passed} of {len(checks)} passed")
    print_table(console, outcome)
    write_text(out / RESULT_FILE, json.dumps(as_json(mode, outcome), indent=1, ensure_ascii=False) + "\n")
    if mode == "full":
        _write_rows(out / RETURNS_FILE, RETURNS_COLUMNS, rows["maml"])
        _write_rows(out / BANDIT_FILE, BANDIT_COLUMNS, rows["rl2"])
    console.print(f"written: {out / RESULT_FILE}", highlight=False, markup=False, soft_wrap=True)
    return outcome


def print_table(console: Console, outcome: Outcome) -> None:
    """Check, expected, measured, verdict; under each check what it means, said once where several mean the same."""
    if not console.is_terminal:  # a file or a pipe has no width of its own; rich's guess of 80 would break the rows
        console = Console(file=console.file, width=max(console.width, 140))
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("check")
    for column in ("expected", "measured"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for name, checks in outcome.checks.items():
        table.add_row(Text(name, style="bold"))
        for number, check in enumerate(checks):
            said = number > 0 and checks[number - 1].meaning == check.meaning
            below = [check.detail] if said else [check.meaning, check.detail]
            table.add_row(
                Lines(check.name, *(Padding(Text(line, style="dim"), (0, 0, 0, 2)) for line in below if line)),
                check.expected_text,
                check.measured_text,
                Text("pass", style="green") if check.passed else Text("FAIL", style="bold red"),
            )
        table.add_section()
    console.print(table)
    total = sum(len(checks) for checks in outcome.checks.values())
    took = duration(sum(outcome.seconds.values()))
    console.print(f"{total - len(outcome.failed)} of {total} checks passed in {took}", highlight=False)
    if outcome.failed:
        console.print(f"failed: {'; '.join(outcome.failed)}", highlight=False, markup=False, soft_wrap=True)


def as_json(mode: str, outcome: Outcome) -> dict[str, Any]:
    """Everything measured, with what it was made with, and nothing of the machine but how long it took."""
    return {
        "command": f"quickstudy validate {mode}",
        "passed": not outcome.failed,
        "versions": versions(),
        "commit": commit(),
        "checks": [{"group": name, **check.to_json()} for name, checks in outcome.checks.items() for check in checks],
        "runs": outcome.runs,
        "seconds": {name: round(seconds, 2) for name, seconds in outcome.seconds.items()},
    }


def _claim(out: Path) -> None:
    """Raise `UserError` where `out` holds anything but results of an earlier validation, or the runs of one."""
    if not out.exists() or (out / RESULT_FILE).is_file():
        return
    if not out.is_dir() or any(path.name != "runs" for path in out.iterdir()):
        raise UserError(f"{out} exists and holds no results of `quickstudy validate`: use another --out")


def _write_rows(path: Path, columns: str, rows: list[tuple[Any, ...]]) -> None:
    write_text(path, "\n".join([columns, *(",".join(map(str, row)) for row in rows)]) + "\n")
