"""`report.html`: what an evaluation found, as one self-contained page. The same directory gives the same bytes."""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path

from envs.families import FAMILIES
from evaluation.maps import success_by_kind, task_map
from evaluation.page import cell, dot, figure, legend, page, table
from evaluation.plots import adaptation_figure, duel_figure, png, steps_figure, steps_to_figure, svg, thousands
from evaluation.results import Results
from evaluation.style import agent_label, agent_order
from evaluation.summarise import PPO
from evaluation.summary import AgentSummary, Gap, Protocol, SplitSummary
from evaluation.table import write_text
from evaluation.wording import (
    SPLIT_NAMES,
    SPLIT_WORDS,
    headline,
    leader,
    misses,
    number,
    percent,
    percent_span,
    signed,
    span,
)

REPORT_FILE = "report.html"
EMBED_BYTES = 6_000_000  # a larger film is linked beside the page instead of put into it


def write_report(directory: Path) -> Path:
    """Write the page from the tables, the summary and the films in `directory`; returns its path.

    The adaptation curves are written as `figures/FAMILY-SPLIT.png` too, for use elsewhere.

    Films are `*.mp4` there or in `films/`. Raises `UserError` where a table is missing or broken.
    """
    directory = Path(directory)
    results = Results.read(directory)
    path = directory / REPORT_FILE
    write_text(path, _page(results, _films(directory)))
    figures = directory / "figures"
    figures.mkdir(exist_ok=True)
    for split in results.summary.results:
        picture = png(adaptation_figure(split, results.summary.protocol.episodes), dots_per_inch=110)
        (figures / f"{split.family}-{split.split}.png").write_bytes(picture)
    return path


def _films(directory: Path) -> dict[str, str]:
    """{name of the film: where a page finds it}."""
    films = {}
    for path in sorted([*directory.glob("*.mp4"), *directory.glob("films/*.mp4")]):
        if path.name.startswith("."):
            continue  # one that is being written
        if path.stat().st_size <= EMBED_BYTES:
            films[path.stem] = "data:video/mp4;base64," + base64.b64encode(path.read_bytes()).decode()
        else:
            films[path.stem] = path.relative_to(directory).as_posix()
    return films


def _page(results: Results, films: dict[str, str]) -> str:
    summary = results.summary
    families = list(dict.fromkeys(split.family for split in summary.results))
    agents = agent_order({agent.agent for split in summary.results for agent in split.agents})
    body = [_headlines(summary.results), legend(agents)]
    remaining = dict(films)
    for family in families:
        mine = {name: remaining.pop(name) for name in list(remaining) if _family_of(name, families) == family}
        body.append(_family(results, family, mine))
    if remaining:
        body += ["<h2>Films</h2>", *(_film(name, source) for name, source in remaining.items())]
    body += [_misses(results), _gaps(summary.gaps), _protocol(summary.protocol)]
    return page(f"quickstudy: {summary.protocol.name}", _header(summary.protocol, families), "".join(body), _footer())


def _header(protocol: Protocol, families: list[str]) -> str:
    return (
        f'<p class="kicker">quickstudy · {escape(protocol.name)}</p>'
        "<h1>How quickly do they learn a task they have never met?</h1>"
        f'<p class="lede">Every agent meets the same <b>{protocol.tasks} held-out tasks</b> of each split of '
        f"{escape(' and '.join(families))}, from the same initial states, and has <b>{protocol.episodes} episodes</b> "
        "on each to adapt. After each round of learning it is measured. Scores run from 0, an agent that acts at "
        "random, to 1, an oracle that is told the task.</p>"
    )


def _headlines(splits: tuple[SplitSummary, ...]) -> str:
    cards = []
    for split in splits:
        agent = leader(split)
        if agent is None:
            continue
        before, after = percent(agent.curve[0].success), percent(agent.final.success)
        cards.append(
            f'<div class="card"><div class="where">{escape(split.family)} · '
            f"{SPLIT_WORDS[split.split]}</div>"
            f'<div class="big">{before}<i>→</i>{after} '
            f"<small>solved by {escape(agent_label(agent.agent))}</small></div>"
            f"<p>{escape(headline(split, agent))}</p></div>"
        )
    return f'<div class="cards">{"".join(cards)}</div>'


def _family(results: Results, family: str, films: dict[str, str]) -> str:
    protocol = results.summary.protocol
    splits = [split for split in results.summary.results if split.family == family]
    parts = [f"<h2>{escape(family)}</h2>", f'<p class="kicker">version {escape(splits[0].version)}</p>']
    parts += [_film(name, source) for name, source in films.items()]
    for split in splits:
        parts.append(_split(results, split, protocol))
    parts.append(_where(results, splits, protocol))
    return "".join(parts)


def _split(results: Results, split: SplitSummary, protocol: Protocol) -> str:
    prefix = f"{split.family}-{split.split}"
    counts = f"{max(a.tasks for a in split.agents)} tasks, up to {max(a.seeds for a in split.agents)} training seeds"
    horizon = protocol.horizons.get(split.family, 1)
    states = f"{protocol.probe_episodes} initial states" if protocol.probe_episodes > 1 else "one initial state"
    parts = [
        f"<h3>{SPLIT_NAMES[split.split]}</h3>",
        f'<p class="kicker">{SPLIT_WORDS[split.split]}</p>',
        figure(
            svg(adaptation_figure(split, protocol.episodes), f"{prefix}-a"),
            "<b>Adaptation, episode by episode.</b> Left: interquartile mean over seeds and tasks; right: mean "
            f"success. Bands are 95\u202f% bootstrap intervals over seeds and tasks ({counts}). Each point is a probe "
            f"from {states}, which costs nothing and teaches nothing. Dotted: the agent was given no more. Level lines "
            "are agents that do not adapt.",
        ),
        figure(
            svg(steps_figure(split, horizon), f"{prefix}-b"),
            "<b>The same against the steps spent on the task,</b> exploration included, as far as each agent went. "
            f"An episode is {horizon} steps.",
        ),
    ]
    duel = duel_figure(results, split, protocol.episodes)
    if duel is not None:
        parts.append(
            figure(
                svg(duel, f"{prefix}-c"),
                "<b>Task by task against PPO.</b> Each dot is a task: return at the end of the common budget (up) and "
                "that of PPO from scratch at its last probe within as many steps (across), means over seeds. Above the "
                "line the agent is better.",
                wide=round(96 * duel.get_figwidth()),
            )
        )
    bars = steps_to_figure(split)
    if bars is not None:
        parts.append(
            figure(
                svg(bars, f"{prefix}-d"),
                "<b>Steps to 80\u202f% of the oracle.</b> Hatched: half of the runs or more (seed and task) never got "
                "there in all the steps they had.",
            )
        )
    parts.append(_table(split))
    return "".join(parts)


def _table(split: SplitSummary) -> str:
    scale = "score" if split.normalised else "return"
    head = [
        "agent", "solved,<br>before → after", f"{scale}<br>after", "gain by<br>adapting", "area under<br>the curve",
        "steps to 50 / 80 / 90\u202f%<br>of the oracle", "PPO gets<br>there in", "better<br>than PPO",
        "worst<br>tenth",
    ]  # fmt: skip
    rows = [(f"agent-{escape(agent.agent)}", _row(agent)) for agent in split.agents]
    note = (
        f"<figcaption>After {thousands(split.budget_steps)} steps on each task, the common budget; small figures are "
        "95\u202f% intervals. Steps to a share of the oracle: median over runs in all the steps that the agent "
        "had, with the share that never got there. Better than PPO: probability that a run beats one of PPO from "
        f"scratch on the same task. Worst tenth: mean {scale} on the tasks where the agent does worst.</figcaption>"
    )
    return table(head, rows) + note


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
        cells.append(cell("does not adapt", kind="none"))
    cells.append(cell(number(agent.auc.value), span(agent.auc)))
    if agent.steps_to:
        medians = [thousands(s.median) if s.median is not None else "never" for s in agent.steps_to.values()]
        nevers = [percent(s.share_never) for s in agent.steps_to.values()]
        cells.append(cell(" / ".join(medians), f"never: {' / '.join(nevers)}"))
    else:
        cells.append(cell("no scale", kind="none"))
    equal = next((e for e in agent.ppo_equivalent if e.episode == final.episode), None)
    if equal is None or agent.agent == PPO:
        cells.append(cell("-", kind="none"))
    else:
        cells.append(cell(f"{'> ' if equal.censored else ''}{thousands(equal.ppo_steps)} steps"))
    better = agent.improvement_over_ppo
    cells.append(cell(percent(better.value), percent_span(better)) if better else cell("-", kind="none"))
    cells.append(cell(number(agent.worst_decile)))
    return cells


def _where(results: Results, splits: list[SplitSummary], protocol: Protocol) -> str:
    """The map over two parameters, and success by kind of task."""
    parts = []
    drawn = task_map(results, splits, protocol.episodes)
    names = " and ".join(split.split for split in splits)
    if drawn is not None:
        parts.append(
            figure(
                svg(drawn.figure, f"{splits[0].family}-map"),
                f"<b>Where it works.</b> Each mark is a task ({escape(names)}), coloured by the score at the end of "
                f"the common budget, mean over seeds. Of all numbers that describe a task, {escape(drawn.axes[0])} and "
                f"{escape(drawn.axes[1])} are those with which these agents' scores go together most (rank "
                "correlation): picked by that, so a lead and no proof. The rectangle is the training range of the two.",
            )
        )
    for kinds in success_by_kind(results, splits, protocol.episodes):
        rows = []
        for agent, shares in kinds.success.items():
            cells = [cell(f"{dot(agent)}{escape(agent_label(agent))}")]
            for found in shares:
                if found is None:
                    cells.append(cell("-", kind="none"))
                    continue
                share = round(55 * found[0])
                tasks = f"<small>{found[1]} task{'s' if found[1] > 1 else ''}</small>"
                cells.append(f'<td class="heat" style="--share:{share}%">{percent(found[0])}{tasks}</td>')
            rows.append((f"agent-{escape(agent)}", cells))
        parts.append(table([f"solved, by {escape(kinds.label)}", *(escape(value) for value in kinds.values)], rows))
    return f"<h3>What kinds of task it can do</h3>{''.join(parts)}" if parts else ""


def _film(name: str, source: str) -> str:
    return (
        f'<figure class="figure"><video controls muted loop playsinline preload="metadata" src="{source}"></video>'
        f"<figcaption><b>{escape(name)}.</b> Adaptation to one held-out task. The small curve is the return of each "
        "episode so far, green where it ended in success; diamonds are probes. A film shows one task; the "
        "figures below are about all of them.</figcaption></figure>\n"
    )


def _family_of(film: str, families: list[str]) -> str | None:
    """The family that a film's name begins with: the longest, for one name may begin another."""
    known = sorted({*families, *FAMILIES}, key=len, reverse=True)
    return next((family for family in known if film == family or film.startswith(f"{family}-")), None)


def _misses(results: Results) -> str:
    found = misses(list(results.summary.results))
    if not found:
        return ""
    return f"<h2>What did not work</h2><ul>{''.join(f'<li>{escape(line)}</li>' for line in found)}</ul>"


def _gaps(gaps: tuple[Gap, ...]) -> str:
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


def _protocol(protocol: Protocol) -> str:
    budget = f"{protocol.episodes} adaptation episodes on each task"
    if protocol.ppo_env_steps:
        budget += f"; PPO from scratch and fine-tuned go on to {thousands(protocol.ppo_env_steps)} steps"
    facts = {
        "made by": f"<code>{escape(protocol.command)}</code>",
        "families": escape(", ".join(f"{name} version {version}" for name, version in protocol.families.items())),
        "held-out tasks": f"{protocol.tasks} of each split, sampled with seed {protocol.task_seed}; see tasks.json",
        "training seeds": escape(", ".join(map(str, protocol.seeds))) + " (an agent has as many as were trained)",
        "budget": budget,
        "probes": f"{protocol.probe_episodes} initial states each, "
        + ("sampled actions" if protocol.explore_probes else "the mode of the policy"),
        "versions": escape(", ".join(f"{name} {version}" for name, version in protocol.versions.items())),
    }
    listed = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in facts.items())
    origins = "".join(
        f"<dt>{escape(name)}</dt><dd><code>{escape(origin)}</code></dd>"
        for name, origin in protocol.checkpoints.items()
    )
    return (
        "<h2>How it was measured</h2>"
        "<p>All agents meet the same tasks, from the same initial states, with the same budget of steps on each task, "
        "exploration included; the environment counts them. No checkpoint was chosen on these tasks. Probes measure "
        "the policy as adapted so far; their steps are not counted and nothing is learned from them. Scores are "
        "returns on the scale from the random agent (0) to the oracle (1), which sees the task's parameters. Means of "
        "scores leave out the lowest and the highest quarter of all runs; intervals are 95\u202f% bootstrap intervals, "
        "seeds and tasks resampled apart. Everything is computed from episodes.csv, tasks.json and summary.json beside "
        "this page.</p>"
        f"<dl>{listed}</dl><details><summary>where each agent's weights came from</summary><dl>{origins}</dl></details>"
    )


def _footer() -> str:
    return "Made by quickstudy from the files beside this page. It loads nothing from anywhere else."
