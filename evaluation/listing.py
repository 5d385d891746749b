"""The summary as tables in a terminal, no wider than it, the goals last."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from evaluation.curves import PPO, PPO_LONG
from evaluation.goals import shown
from evaluation.summary import AgentSummary, Goal, SplitSummary, Summary

# Columns by worth: those at the end are left out first where the terminal is too narrow for all of them.
BY_WORTH = (
    "agent", "solved [95 %]", "mean", "runs", "gain in solved", "while adapting", "interquartile mean", "steps to 80 %",
    "PPO would need",
)  # fmt: skip


def print_summary(console: Console, summary: Summary) -> None:
    """One table for each split of each family: where every agent began, where it came to, and at what cost."""
    if not console.is_terminal:  # a file or a pipe has no width of its own; rich's guess of 80 would break the rows
        console = Console(file=console.file, width=max(console.width, 180))
    for result in summary.results:
        _print_split(console, result)
    if summary.goals:
        _print_goals(console, summary.goals)


def runs_and_tasks(agent: AgentSummary) -> str:
    """What an interval is over: `3 runs, 40 tasks`; with one run it says nothing of another one."""
    runs = f"{agent.seeds} run{'s' if agent.seeds > 1 else ''}"
    return f"{runs}, {agent.tasks} task{'s' if agent.tasks > 1 else ''}"


def _print_goals(console: Console, goals: Sequence[Goal]) -> None:
    table = Table(
        title="the goals", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    table.add_column("verdict")
    for column in ("figure", "where", "agent", "goal"):
        table.add_column(column, overflow="fold")
    table.add_column("measured [95 %; runs]", justify="right")
    for goal in goals:
        measured, interval = shown(goal)
        colour = {"met": "green", "missed": "bold red", "not measured": "yellow"}[goal.verdict]
        runs = f"{goal.runs} run{'s' if goal.runs > 1 else ''}"
        table.add_row(
            f"[{colour}]{goal.verdict}[/]",
            goal.figure,
            f"{goal.family}, {goal.split}",
            goal.agent or "-",
            goal.goal,
            f"{measured} \\[{interval}; {runs}]" if interval else measured,
        )
    console.print(table)
    for goal in goals:
        if goal.note:
            console.print(
                f"{goal.figure}, {goal.family} {goal.split}: {goal.note}", markup=False, highlight=False, style="dim"
            )


def _print_split(console: Console, result: SplitSummary) -> None:
    columns = list(BY_WORTH)
    unbounded = console.options.update(max_width=1000)
    while len(columns) > 2 and Measurement.get(console, unbounded, _table(result, columns)).maximum > console.width:
        columns.pop()
    console.print(_table(result, columns))
    if left_out := BY_WORTH[len(columns) :]:
        console.print(
            f"left out in {console.width} columns: {', '.join(left_out)}; summary.json and the report have them",
            markup=False, highlight=False, style="dim",
        )  # fmt: skip


def _table(result: SplitSummary, columns: Sequence[str]) -> Table:
    scale = (
        "scores: random = 0, oracle = 1" if result.normalised else "no random agent or no oracle: scores are returns"
    )
    title = f"{result.family} {result.version}, {result.split}; {result.budget_steps:,} steps on each task; {scale}"
    for agent in result.agents:
        if agent.long:
            title += f"; {agent.agent}: {agent.final.env_steps:,.0f} steps on {agent.tasks} of the tasks"
    title += f"; after {max(a.final.episode for a in result.agents if not a.long)} episodes" if _common(result) else ""
    title += "; intervals are over runs and tasks, with 1 run over tasks alone"
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    heads = {"mean": "mean score", "interquartile mean": "interquartile mean score"}
    if not result.normalised:
        heads = {"mean": "mean return", "interquartile mean": "interquartile mean return"}
    for column in columns:
        table.add_column(
            heads.get(column, column), justify="left" if column == "agent" else "right", no_wrap=True,
        )  # fmt: skip
    for agent in result.agents:
        cells = _cells(agent)
        table.add_row(*(cells[column] for column in columns))
    return table


def _common(result: SplitSummary) -> bool:
    """Does any agent adapt within the common budget?"""
    return any(agent.adapts and not agent.long for agent in result.agents)


def _cells(agent: AgentSummary) -> dict[str, str]:
    first, final, gain, adapting = agent.curve[0], agent.final, agent.gain_success, agent.adapting
    solved = f"{final.success:.0%} [{final.success_low:.0%}, {final.success_high:.0%}]"
    return {
        "agent": agent.agent,
        "runs": str(agent.seeds),
        "solved [95 %]": f"{first.success:.0%} -> {solved}" if agent.adapts else solved,
        "mean": f"{final.mean_score:.2f} [{final.mean_low:.2f}, {final.mean_high:.2f}]",
        "interquartile mean": f"{final.score:.2f} [{final.low:.2f}, {final.high:.2f}]",
        "gain in solved": f"{gain.value:+.0%} [{gain.low:+.0%}, {gain.high:+.0%}]" if agent.adapts else "-",
        "while adapting": f"{adapting.success.value:.0%}, {adapting.score.value:.2f}" if adapting else "-",
        "steps to 80 %": _steps_to(agent),
        "PPO would need": _ppo_steps(agent),
    }


def _steps_to(agent: AgentSummary) -> str:
    """The median run's steps, and how many runs never got there."""
    if "80" not in agent.steps_to or not agent.adapts:
        return "-"
    found = agent.steps_to["80"]
    if found.median is None:
        return "never" if found.share_never == 1 else f"never in {found.share_never:.0%} of runs"
    never = f" ({found.share_never:.0%} never)" if found.share_never else ""
    return f"{found.median:,.0f}{never}"


def _ppo_steps(agent: AgentSummary) -> str:
    """What PPO from scratch needs for the return that the agent ends the common budget with."""
    points = [point for point in agent.ppo_equivalent if point.episode == agent.final.episode]
    if not points or agent.agent in (PPO, PPO_LONG) or not agent.adapts or agent.long:
        return "-"
    return f"{'> ' if points[0].censored else ''}{points[0].ppo_steps:,.0f}"
