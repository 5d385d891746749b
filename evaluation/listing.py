"""The summary as tables in a terminal, the goals last."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table

from evaluation.curves import PPO, PPO_LONG
from evaluation.goals import shown
from evaluation.summary import AgentSummary, Goal, SplitSummary, Summary


def print_summary(console: Console, summary: Summary) -> None:
    """One table for each split of each family: where every agent began, where it came to, and at what cost."""
    if not console.is_terminal:  # a file or a pipe has no width of its own; rich's guess of 80 would break the rows
        console = Console(file=console.file, width=max(console.width, 140))
    for result in summary.results:
        console.print(_table(result))
    if summary.goals:
        console.print(_goals(summary.goals))


def _goals(goals: tuple[Goal, ...]) -> Table:
    table = Table(title="the goals", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.add_column("verdict", no_wrap=True)
    for column in ("figure", "where", "agent", "goal"):
        table.add_column(column)
    table.add_column("measured [95 %]", justify="right", no_wrap=True)
    table.add_column("note")
    for goal in goals:
        measured, interval = shown(goal)
        colour = {"met": "green", "missed": "bold red", "not measured": "yellow"}[goal.verdict]
        table.add_row(
            f"[{colour}]{goal.verdict}[/]",
            goal.figure,
            f"{goal.family}, {goal.split}",
            goal.agent or "-",
            goal.goal,
            f"{measured} \\[{interval}]" if interval else measured,
            goal.note,
        )
    return table


def _table(result: SplitSummary) -> Table:
    scale = "score: random = 0, oracle = 1" if result.normalised else "score: return"
    title = f"{result.family} {result.version}, {result.split}; {result.budget_steps:,} steps on each task; {scale}"
    for agent in result.agents:
        if agent.long:
            title += f"; {agent.agent}: {agent.final.env_steps:,.0f} steps on {agent.tasks} of the tasks"
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.add_column("agent", no_wrap=True)
    for column in ("return", "success", "score [95 %]", "gain [95 %]", "area", "steps to 80 %", "PPO would need"):
        table.add_column(column, justify="right")
    for agent in result.agents:
        table.add_row(*_cells(agent))
    return table


def _cells(agent: AgentSummary) -> tuple[str, ...]:
    first, final, gain = agent.curve[0], agent.final, agent.gain
    returns, success, change = f"{final.episode_return:.1f}", f"{final.success:.0%}", "-"
    if agent.adapts:
        returns = f"{first.episode_return:.1f} -> {returns}"
        success = f"{first.success:.0%} -> {success}"
        change = f"{gain.value:+.2f} [{gain.low:+.2f}, {gain.high:+.2f}]"
    score = f"{final.score:.2f} [{final.low:.2f}, {final.high:.2f}]"
    return agent.agent, returns, success, score, change, f"{agent.auc.value:.2f}", _steps_to(agent), _ppo_steps(agent)


def _steps_to(agent: AgentSummary) -> str:
    """The median run's steps, and how many runs never got there."""
    if "80" not in agent.steps_to or not agent.adapts:
        return "-"
    found = agent.steps_to["80"]
    median = "never" if found.median is None else f"{found.median:,.0f}"
    return f"{median} ({found.share_never:.0%} never)" if 0 < found.share_never < 1 else median


def _ppo_steps(agent: AgentSummary) -> str:
    """What PPO from scratch needs for the return that the agent ends its budget with."""
    points = [point for point in agent.ppo_equivalent if point.episode == agent.final.episode]
    if not points or agent.agent in (PPO, PPO_LONG):
        return "-"
    return f"{'> ' if points[0].censored else ''}{points[0].ppo_steps:,.0f}"
