"""The tables of a page: goals, agents, gaps between splits."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from evaluation.curves import PPO, PPO_LONG
from evaluation.goals import shown
from evaluation.page import cell, dot, table
from evaluation.plots import compact, thousands
from evaluation.style import agent_label, drawn_as
from evaluation.summary import AgentSummary, Gap, Goal, SplitSummary
from evaluation.wording import goals_met, number, percent, percent_span, signed, span


def goals_table(goals: Sequence[Goal]) -> str:
    """What was to be reached and what was; nothing where there are no goals."""
    if not goals:
        return ""
    rows = []
    for goal in goals:
        measured, interval = shown(goal)
        kind = {"met": "up", "missed": "down", "not measured": "none"}[goal.verdict]
        mark = {"met": "✓", "missed": "✗", "not measured": "?"}[goal.verdict]
        agent = f"{dot(goal.agent)}{escape(agent_label(goal.agent))}" if goal.agent else "-"
        cells = [
            cell(escape(goal.figure), escape(goal.note)),
            cell(f"{escape(goal.family)}, {escape(goal.split)}"),
            cell(escape(goal.goal)),
            cell(agent),
            cell(escape(measured), escape(interval)),
            cell(f"{mark} {goal.verdict}", kind=f"verdict {kind}"),
        ]
        rows.append((f"goal-{goal.verdict.replace(' ', '-')}", cells))
    head = ["figure", "where", "goal", "agent", "measured", "verdict"]
    return (
        f"<h2>The goals</h2><p>{escape(goals_met(goals))} Intervals are 95\u202f% bootstrap intervals over seeds and "
        f"tasks. Agent: of the two that learned to adapt, the better one there.</p>{table(head, rows, 'goals')}"
    )


def agents_table(split: SplitSummary) -> str:
    """Every arm on one split: where it came to, and at what cost."""
    scale = "score" if split.normalised else "return"
    head = [
        "agent", "solved,<br>before → after", f"{scale}<br>after", "gain by<br>adapting", "area under<br>the curve",
        "steps to 50 / 80 / 90\u202f%<br>of the oracle", "steps that<br>PPO needs", "better<br>than PPO",
        "worst<br>tenth",
    ]  # fmt: skip
    rows = [(f"agent-{escape(drawn_as(agent.agent))}", _row(agent)) for agent in split.agents]
    note = (
        f"<figcaption>After {thousands(split.budget_steps)} steps on each task, the common budget; small figures are "
        "95\u202f% intervals. Steps to a share of the oracle: median over runs in all the steps that the agent "
        "had, with the share that never got there. Better than PPO: probability that a run beats one of PPO from "
        f"scratch on the same task. Worst tenth: mean {scale} on the tasks where the agent does worst.{_of_long(split)}"
        "</figcaption>"
    )
    return table(head, rows) + note


def _of_long(split: SplitSummary) -> str:
    long = [agent for agent in split.agents if agent.long]
    if not long:
        return ""
    steps, tasks = thousands(long[0].final.env_steps), long[0].tasks
    return (
        f" Long: {steps} steps on each of the first {tasks} tasks, and all figures of that row are over these. How "
        "many steps PPO needs is read off its long runs, on the same tasks."
    )


def _row(agent: AgentSummary) -> list[str]:
    final = agent.final
    success = (
        f"{percent(agent.curve[0].success)} → {percent(final.success)}" if agent.adapts else percent(final.success)
    )
    cells = [
        cell(
            f"{dot(agent.agent)}{escape(agent_label(agent.agent))}",
            f"{agent.seeds} seed{'s' if agent.seeds > 1 else ''}, {agent.tasks} tasks",
        ),
        cell(success, f"{percent(final.success_low)} to {percent(final.success_high)}"),
        cell(number(final.score), f"{number(final.low)} to {number(final.high)}"),
    ]
    if agent.adapts:
        kind = "up" if agent.gain.low > 0 else "down" if agent.gain.high < 0 else "none"
        cells.append(cell(signed(agent.gain.value), span(agent.gain), kind))
    else:
        cells.append(cell("-", "does not adapt", "none"))
    cells.append(cell(number(agent.auc.value), span(agent.auc)))
    if agent.steps_to:
        medians = [compact(s.median) if s.median is not None else "never" for s in agent.steps_to.values()]
        nevers = [percent(s.share_never) for s in agent.steps_to.values()]
        cells.append(cell(" / ".join(medians), f"never: {' / '.join(nevers)}"))
    else:
        cells.append(cell("no scale", kind="none"))
    equal = next((e for e in agent.ppo_equivalent if e.episode == final.episode), None)
    if equal is None or agent.agent in (PPO, PPO_LONG):
        cells.append(cell("-", kind="none"))
    else:
        cells.append(cell(f"{'> ' if equal.censored else ''}{compact(equal.ppo_steps)}"))
    better = agent.improvement_over_ppo
    cells.append(cell(percent(better.value), percent_span(better)) if better else cell("-", kind="none"))
    cells.append(cell(number(agent.worst_decile)))
    return cells


def gaps_table(gaps: Sequence[Gap]) -> str:
    """How much worse each agent is on one split than on another; nothing where there is one split."""
    if not gaps:
        return ""
    rows = [
        (
            f"agent-{escape(gap.agent)}",
            [
                cell(f"{dot(gap.agent)}{escape(agent_label(gap.agent))}"),
                cell(escape(gap.family)),
                cell(f"{escape(gap.seen)} to {escape(gap.unseen)}"),
                cell(signed(100 * gap.success, 0)),
                cell(signed(gap.score) if gap.score is not None else "-"),
            ],
        )
        for gap in gaps
    ]
    head = ["agent", "family", "splits", "solved<br>(percent points)", "score"]
    return (
        "<h2>From one split to the other</h2><p>How much worse each agent is where tasks lie further from those it was "
        f"trained on, at the end of the common budget.</p>{table(head, rows)}"
    )
