"""The tables of a page: goals, agents, gaps between splits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from evaluation.curves import PPO
from evaluation.goals import shown
from evaluation.page import cell, dot, table
from evaluation.plots import compact, thousands
from evaluation.style import agent_label, drawn_as
from evaluation.summary import AgentSummary, Gap, Goal, SplitSummary
from evaluation.wording import after, goals_met, number, percent, percent_span, points, signed

COST_EPISODES = (1, 5, 10, 20)


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
            cell(
                escape(measured),
                escape(f"{interval}; {goal.runs} run{'s' if goal.runs > 1 else ''}") if interval else "",
            ),
            cell(f"{mark} {goal.verdict}", kind=f"verdict {kind}"),
        ]
        rows.append((f"goal-{goal.verdict.replace(' ', '-')}", cells))
    head = ["figure", "where", "goal", "agent", "measured", "verdict"]
    return (
        f"<h2>The goals</h2><p>{escape(goals_met(goals))} They are about what is solved. Intervals are 95\u202f%, over "
        "training runs and tasks. Agent: of the two that learned to adapt, the one that solves more there."
        f"</p>{table(head, rows, 'goals')}"
    )


def agents_table(split: SplitSummary) -> str:
    """Every arm on one split: where it came to, and at what cost."""
    scale = "score" if split.normalised else "return"
    head = [
        "agent", "solved,<br>before → after", "gain in<br>solved", f"mean {scale}<br>after",
        f"interquartile<br>mean {scale}", "while adapting:<br>solved", "steps to 80\u202f%<br>of the oracle",
        "better<br>than PPO", "worst<br>tenth",
    ]  # fmt: skip
    rows = [(f"agent-{escape(drawn_as(agent.agent))}", _row(agent)) for agent in split.agents]
    note = (
        f"<figcaption>After {thousands(split.budget_steps)} steps on each task, the common budget; small figures are "
        "95\u202f% intervals over the runs and tasks named beside the agent, with one run over tasks alone. While "
        f"adapting: share solved and, small, mean {scale} of the episodes that the agent learned from, exploring; all "
        "else is measured in probes. Steps to 80\u202f% of the oracle: median over runs in all steps that the agent "
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
    return f" Long: {steps} steps on each of the first {tasks} tasks, and all figures of that row are over these."


def _row(agent: AgentSummary) -> list[str]:
    final, gain, adapting = agent.final, agent.gain_success, agent.adapting
    success = (
        f"{percent(agent.curve[0].success)} → {percent(final.success)}" if agent.adapts else percent(final.success)
    )
    cells = [
        cell(
            f"{dot(agent.agent)}{escape(agent_label(agent.agent))}",
            f"{agent.seeds} run{'s' if agent.seeds > 1 else ''}, {agent.tasks} tasks",
        ),
        cell(success, f"{percent(final.success_low)} to {percent(final.success_high)}"),
    ]
    if agent.adapts:
        kind = "up" if gain.low > 0 else "down" if gain.high < 0 else "none"
        cells.append(cell(points(gain.value), f"{signed(100 * gain.low, 0)} to {signed(100 * gain.high, 0)}", kind))
    else:
        cells.append(cell("-", "does not adapt", "none"))
    cells += [
        cell(number(final.mean_score), f"{number(final.mean_low)} to {number(final.mean_high)}"),
        cell(number(final.score), f"{number(final.low)} to {number(final.high)}"),
        cell(percent(adapting.success.value), number(adapting.score.value)) if adapting else cell("-", kind="none"),
    ]
    if agent.steps_to:
        reached = agent.steps_to["80"]
        cells.append(_steps(reached.median, reached.share_never))
    else:
        cells.append(cell("no scale", kind="none"))
    better = agent.improvement_over_ppo
    cells.append(cell(percent(better.value), percent_span(better)) if better else cell("-", kind="none"))
    cells.append(cell(number(agent.worst_decile)))
    return cells


def cost_table(split: SplitSummary) -> str:
    """What meta-training costs and saves against PPO from scratch, by episode; nothing where PPO had too little."""
    agents = [a for a in split.agents if a.race is not None and a.meta_steps is not None and not a.long]
    episodes = sorted({e for e in COST_EPISODES if any(p.episode == e for a in agents for p in a.ppo_equivalent)})
    if not agents or not episodes:
        return ""
    rows = []
    for agent in agents:
        by_episode = {point.episode: point for point in agent.ppo_equivalent}
        cells = [cell(f"{dot(agent.agent)}{escape(agent_label(agent.agent))}"), cell(compact(agent.meta_steps or 0.0))]
        for episode in episodes:
            point = by_episode.get(episode)
            if point is None or not point.env_steps:
                cells.append(cell("-", kind="none"))
                continue
            bound = "> " if point.censored else ""
            pays = "saves nothing"
            if point.tasks_to_pay is not None:
                most = "at most " if point.censored else ""
                pays = f"pays off from {most}{thousands(math.ceil(point.tasks_to_pay))} tasks on"
            steps = f"{bound}{thousands(point.ppo_steps)} steps, {bound}{point.ppo_steps / point.env_steps:.0f}x"
            cells.append(cell(steps, pays))
        rows.append((f"agent-{escape(drawn_as(agent.agent))}", cells))
    ppo = max(agents, key=lambda agent: agent.tasks).race
    assert ppo is not None  # by the choice of agents
    head = ["agent", "steps of<br>meta-training", *(f"PPO needs for as much as<br>{after(e)}" for e in episodes)]
    runs = f"{ppo.ppo_runs} run{'s' if ppo.ppo_runs > 1 else ''}"
    return (
        "<h4>What it costs and what it saves</h4>"
        + table(head, rows)
        + "<figcaption>Steps that PPO from scratch needs for the interquartile mean return that the agent has after so "
        f"many episodes, on the {len(ppo.tasks)} tasks of both ({runs} of PPO), and how many times as many that is as "
        "the agent has spent: the more episodes, the smaller the ratio. Small: from how many new tasks on "
        "meta-training and adapting take fewer steps together than PPO from scratch.</figcaption>"
    )


def race_table(split: SplitSummary, kinds: Mapping[int, str]) -> str:
    """Steps of every side to 80 % of the oracle on each task; nothing where PPO had too little. kinds: by task."""
    agents = [agent for agent in split.agents if agent.race is not None]
    if not agents:
        return ""
    races = [agent.race for agent in agents if agent.race is not None]
    tasks = [row.task for row in min(races, key=lambda race: len(race.tasks)).tasks]
    rows = []
    for task in tasks:
        found = [next(row for row in race.tasks if row.task == task) for race in races]
        cells = [cell(f"task {task}", escape(kinds.get(task, "")))]
        cells += [_steps(row.env_steps, row.share_never) for row in found]
        rows.append(("", [*cells, _steps(found[0].ppo_steps, found[0].ppo_share_never)]))
    summary = [cell("<b>PPO's steps over<br>the agent's, median</b>")]
    for race in races:
        if race.times is None:
            summary.append(cell("-", kind="none"))
            continue
        digits = 0 if race.times >= 10 or not race.times else 1
        summary.append(cell(f"<b>{'> ' if race.lower_bound else ''}{race.times:.{digits}f}x</b>"))
    rows.append(("", [*summary, cell("")]))
    ppo = races[0]
    runs = [f"{a.seeds} run{'s' if a.seeds > 1 else ''}" for a in agents] + [
        f"{ppo.ppo_runs} run{'s' if ppo.ppo_runs > 1 else ''}"
    ]
    names = [*(f"{dot(a.agent)}{escape(agent_label(a.agent))}" for a in agents), f"{dot(PPO)}{agent_label(PPO)}"]
    head = ["", *(f"{name}<br>{n}" for name, n in zip(names, runs, strict=True))]
    return (
        f"<h4>Steps to {ppo.percent}\u202f% of the oracle, task by task</h4>"
        + table(head, rows)
        + "<figcaption>Median over the runs of each side until a probe first has that score (interquartile scale); "
        "small: the share of runs that never got there. 0: before the first episode is over. In the last row an "
        "agent's steps count as one episode at least, a task that it never reaches counts 0, and one that neither "
        "reaches is left out.</figcaption>"
    )


def _steps(median: float | None, never: float) -> str:
    if median is None:
        return cell("never", f"in {percent(never)} of runs" if never < 1 else "", "none")
    return cell(thousands(median), f"never in {percent(never)}" if never else "")


def gaps_table(gaps: Sequence[Gap]) -> str:
    """How each agent fares on one split beside another; nothing where there is one split."""
    if not gaps:
        return ""
    rows = [
        (
            f"agent-{escape(gap.agent)}",
            [
                cell(f"{dot(gap.agent)}{escape(agent_label(gap.agent))}"),
                cell(escape(gap.family)),
                cell(f"{escape(gap.seen)} → {escape(gap.unseen)}"),
                cell(points(gap.success), kind=_direction(gap.success)),
                *(
                    cell(signed(score), kind=_direction(score)) if score is not None else cell("-", kind="none")
                    for score in (gap.mean_score, gap.score)
                ),
            ],
        )
        for gap in gaps
    ]
    head = ["agent", "family", "from → to", "solved", "mean score", "interquartile<br>mean score"]
    return (
        "<h2>From one split to the other</h2><p>The second split minus the first, at the end of the common budget: "
        "below zero is worse. Each split's scores are on a scale of its own: where the oracle does worse too, a score "
        f"may rise while fewer tasks are solved.</p>{table(head, rows)}"
    )


def _direction(change: float) -> str:
    return "up" if change >= 0.005 else "down" if change <= -0.005 else "none"
