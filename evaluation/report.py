"""`report.html`: what an evaluation found, as one self-contained page. The same directory gives the same bytes."""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path

from envs.families import FAMILIES
from evaluation.maps import success_by_kind, task_map
from evaluation.overview import overview_figure, steps_overview
from evaluation.page import cell, dot, figure, legend, page, table
from evaluation.plots import adaptation_figure, duel_figure, png, steps_figure, steps_to_figure, svg, thousands
from evaluation.presets import is_long
from evaluation.report_tables import agents_table, cost_table, gaps_table, goals_table, race_table
from evaluation.results import Results
from evaluation.style import agent_label, agent_order, drawn_as
from evaluation.summary import Protocol, SplitSummary, Summary
from evaluation.table import write_file, write_text
from evaluation.video import read_title
from evaluation.wording import (
    SPLIT_NAMES,
    SPLIT_WORDS,
    cautions,
    headline,
    leader,
    misses,
    percent,
)

REPORT_FILE = "report.html"
EMBED_BYTES = 6_000_000  # a larger film is linked beside the page instead of put into it


def write_report(directory: Path) -> Path:
    """Write the page from the tables, the summary and the films in `directory`; returns its path.

    For use elsewhere the adaptation curves are written as `figures/FAMILY-SPLIT.png` too, all of them in one as
    `figures/overview.png`, and where there are long arms the curves over steps as `figures/steps.png`.

    Films are `*.mp4` there or in `films/`. Raises `UserError` where a table is missing or broken.
    """
    directory = Path(directory)
    results = Results.read(directory)
    path = directory / REPORT_FILE
    write_text(path, _page(results, _films(directory)))
    drawn = {
        f"{split.family}-{split.split}": adaptation_figure(split, results.summary.protocol.episodes)
        for split in results.summary.results
    }
    drawn["overview"] = overview_figure(results)
    if (steps := steps_overview(results)) is not None:
        drawn["steps"] = steps
    for name, picture in drawn.items():
        write_file(directory / "figures" / f"{name}.png", png(picture, dots_per_inch=110))
    return path


def _films(directory: Path) -> dict[str, tuple[str, str]]:
    """{name of the film: (where a page finds it, what it says that it shows)}."""
    films = {}
    for path in sorted([*directory.glob("*.mp4"), *directory.glob("films/*.mp4")]):
        if path.name.startswith("."):
            continue  # one that is being written
        source = path.relative_to(directory).as_posix()
        if path.stat().st_size <= EMBED_BYTES:
            source = "data:video/mp4;base64," + base64.b64encode(path.read_bytes()).decode()
        films[path.stem] = source, read_title(path)
    return films


def _page(results: Results, films: dict[str, tuple[str, str]]) -> str:
    summary = results.summary
    families = list(dict.fromkeys(split.family for split in summary.results))
    agents = agent_order({drawn_as(agent.agent) for split in summary.results for agent in split.agents})
    body = [goals_table(summary.goals), _headlines(summary.results), legend(agents)]
    remaining = dict(films)
    for family in families:
        mine = {name: remaining.pop(name) for name in list(remaining) if _family_of(name, families) == family}
        body.append(_family(results, family, mine))
    if remaining:
        body += ["<h2>Films</h2>", *(_film(name, *film) for name, film in remaining.items())]
    body += [_misses(results), gaps_table(summary.gaps), _cautions(summary.protocol), _protocol(summary.protocol)]
    return page(f"quickstudy: {summary.protocol.name}", _header(summary, families), "".join(body), _footer())


def _header(summary: Summary, families: list[str]) -> str:
    protocol, normalised = summary.protocol, [split.normalised for split in summary.results]
    scale = "Scores run from 0, an agent that acts at random, to 1, an oracle that is told the task."
    if not all(normalised):
        where = "Where one of them was not measured" if any(normalised) else "Here one of them was not measured, so"
        scale = f"Scores need an agent that acts at random and an oracle. {where} returns stand in place of scores."
    return (
        f'<p class="kicker">quickstudy · {escape(protocol.name)}</p>'
        "<h1>How quickly do they learn a task they have never met?</h1>"
        f'<p class="lede">Every agent meets the same <b>{protocol.tasks} held-out tasks</b> of each split of '
        f"{escape(' and '.join(families))}, from the same initial states, and has <b>{protocol.episodes} episodes</b> "
        f"on each to adapt. After each round of learning it is measured.{_long(protocol)} {scale}</p>"
    )


def _long(protocol: Protocol) -> str:
    if protocol.long is None:
        return ""
    return (
        f" PPO also gets <b>{thousands(protocol.long.env_steps)} steps</b> on each of {protocol.long.tasks} tasks, to "
        "see what it comes to."
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
            f"<small>solved by {escape(agent_label(agent.agent))}{_episodes(agent.final.episode)}</small></div>"
            f"<p>{escape(headline(split, agent))}</p></div>"
        )
    return f'<div class="cards">{"".join(cards)}</div>'


def _episodes(count: int) -> str:
    return f", before and after {count} episode{'s' if count != 1 else ''}"


def _family(results: Results, family: str, films: dict[str, tuple[str, str]]) -> str:
    protocol = results.summary.protocol
    splits = [split for split in results.summary.results if split.family == family]
    parts = [f"<h2>{escape(family)}</h2>", f'<p class="kicker">version {escape(splits[0].version)}</p>']
    parts += [_film(name, *film) for name, film in films.items()]
    for split in splits:
        parts.append(_split(results, split, protocol))
    parts.append(_where(results, splits, protocol))
    return "".join(parts)


def _split(results: Results, split: SplitSummary, protocol: Protocol) -> str:
    prefix, longest = f"{split.family}-{split.split}", results.longest(split)
    tasks = max(agent.tasks for agent in longest.agents)
    on_tasks = f" All on the {tasks} tasks of PPO's long runs." if longest is not split else ""
    counts = f"{max(a.tasks for a in split.agents)} tasks, up to {max(a.seeds for a in split.agents)} training runs"
    horizon = protocol.horizons.get(split.family, 1)
    states = f"{protocol.probe_episodes} initial states" if protocol.probe_episodes > 1 else "one initial state"
    parts = [
        f"<h3>{SPLIT_NAMES[split.split]}</h3>",
        f'<p class="kicker">{SPLIT_WORDS[split.split]}</p>',
        figure(
            svg(adaptation_figure(split, protocol.episodes), f"{prefix}-a"),
            "<b>Adaptation, episode by episode.</b> Left: mean score, thin and dashed the interquartile mean, which "
            "leaves out the lowest and the highest quarter and so hides what fails on few tasks; right: share solved. "
            f"Bands are 95\u202f% intervals of the means over runs and tasks ({counts}). Each point is a probe from "
            f"{states}, which costs nothing and teaches nothing. Dotted: budget exhausted, last value "
            "extended. Level lines are agents that do not adapt.",
        ),
        figure(
            svg(steps_figure(longest, horizon), f"{prefix}-b"),
            "<b>The same against the steps spent on the task,</b> exploration included, as far as each agent went, on "
            "a logarithmic axis. "
            f"An episode is {horizon} steps.{on_tasks}",
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
    bars = steps_to_figure(split, horizon)
    if bars is not None:
        parts.append(
            figure(
                svg(bars, f"{prefix}-d"),
                "<b>Steps to 80\u202f% of the oracle,</b> on a logarithmic axis. Open, with an arrow: half of the runs "
                "or more (a run on a task) never got there in all the steps they had.",
            )
        )
    kinds = {
        number: str(next((value for value in values.values() if isinstance(value, str)), ""))
        for number, values in enumerate(results.task_values(split.family, split.split))
    }
    parts += [agents_table(split), cost_table(split), race_table(split, kinds)]
    return "".join(parts)


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
                "correlation): chosen after seeing the data, exploratory only. The rectangle is the training range of "
                "the two.",
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


def _film(name: str, source: str, title: str) -> str:
    return (
        f'<figure class="figure"><video controls muted loop playsinline preload="metadata" src="{source}"></video>'
        f"<figcaption><b>{escape(title or name)}.</b> Adaptation to one task. A dot in the small curve is an episode, "
        "at the height of its return: green where it ended in success, orange where not. A diamond is a probe, which "
        "measures the policy as adapted so far; the agent learns nothing from it. A film shows one task; the figures "
        "below are about all of them.</figcaption></figure>\n"
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


def _cautions(protocol: Protocol) -> str:
    found = cautions(protocol)
    if not found:
        return ""
    lines = "".join(f"<li>{escape(line)}</li>" for line in found)
    return f"<h2>What to know of the comparison</h2><ul>{lines}</ul>"


def _protocol(protocol: Protocol) -> str:
    budget = f"{protocol.episodes} adaptation episodes on each task"
    if (long := protocol.long) is not None:
        seeds = f"{long.seeds} seed{'s' if long.seeds > 1 else ''}"
        budget += (
            f"; besides, {' and '.join(escape(agent_label(arm)) for arm in protocol.arms if is_long(arm))}: "
            f"{thousands(long.env_steps)} steps on each of the first {long.tasks} tasks ({', '.join(long.splits)}), "
            f"{seeds}"
        )
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
        "returns on the scale from the random agent (0) to the oracle (1), which sees the task's parameters. An "
        "interquartile mean leaves out the lowest and the highest quarter of all runs on all tasks; the plain mean and "
        "the share solved stand beside it. Intervals are 95\u202f%, over training runs and tasks, by Student's t for "
        "each of the two. Everything is computed from the table of episodes, tasks.json and "
        "summary.json beside this page.</p>"
        f"<dl>{listed}</dl><details><summary>where each agent's weights came from</summary><dl>{origins}</dl></details>"
    )


def _footer() -> str:
    return "Made by quickstudy from the files beside this page. It loads nothing from anywhere else."
