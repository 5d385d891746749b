"""What an evaluation found, in words: whole sentences that also say when there is nothing to boast of."""

from __future__ import annotations

from collections.abc import Sequence

from evaluation.curves import PPO
from evaluation.plots import thousands
from evaluation.style import agent_label
from evaluation.summary import AgentSummary, Goal, Interval, SplitSummary

SPLIT_NAMES = {"train": "Training tasks", "test": "Held-out tasks", "ood": "Out of distribution"}
SPLIT_WORDS = {
    "train": "tasks it was trained on",
    "test": "new tasks from the training ranges",
    "ood": "tasks outside the training ranges",
}


def percent(share: float) -> str:
    """0.625 as `63 %`."""
    return f"{100 * share:.0f}\u202f%"


def number(value: float, digits: int = 2) -> str:
    """A figure with a real minus and no minus zero."""
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text.replace("-", "\u2212")


def signed(value: float, digits: int = 2) -> str:
    text = number(value, digits)
    return text if text.startswith("\u2212") or float(text) == 0 else f"+{text}"


def percent_span(interval: Interval) -> str:
    """`12 % to 30 %`."""
    return f"{percent(interval.low)} to {percent(interval.high)}"


def span(interval: Interval) -> str:
    """`0.12 to 0.30`."""
    return f"{number(interval.low)} to {number(interval.high)}"


def leader(split: SplitSummary) -> AgentSummary | None:
    """The agent that the headline is about: of those that learned to adapt, the one that ends best."""
    adapting = [agent for agent in split.agents if agent.adapts and not agent.long]
    learned = [agent for agent in adapting if not agent.agent.startswith(PPO)]
    return max(learned or adapting, key=lambda agent: agent.final.score, default=None)


def headline(split: SplitSummary, agent: AgentSummary) -> str:
    """Three sentences: what it reaches after its episodes, whether that is a gain, and what PPO needs for as much."""
    return " ".join([_reaches(split, agent), _gains(agent), *_against_ppo(agent)])


def _reaches(split: SplitSummary, agent: AgentSummary) -> str:
    first, final, name = agent.curve[0], agent.final, agent_label(agent.agent)
    episodes = f"{final.episode} episode{'' if final.episode == 1 else 's'}"
    scale = "score" if split.normalised else "return"
    return (
        f"After {episodes} ({thousands(final.env_steps)} steps) {name} solves {percent(final.success)} of the tasks, "
        f"{percent(first.success)} before the first; its {scale} goes from {number(first.score)} to "
        f"{number(final.score)}."
    )


def _gains(agent: AgentSummary) -> str:
    gain = agent.gain
    if gain.low > 0:
        return f"That gain is real: 95\u202f% interval {span(gain)}."
    if gain.high < 0:
        return f"It gets worse as it adapts: 95\u202f% interval {span(gain)}."
    return f"That change cannot be told from none: 95\u202f% interval {span(gain)}."


def _against_ppo(agent: AgentSummary) -> list[str]:
    if agent.agent == PPO:
        return []
    equal = next((e for e in agent.ppo_equivalent if e.episode == agent.final.episode), None)
    if equal is None:
        return []
    ppo = agent_label(PPO)
    if equal.censored:
        return [f"{ppo} has not got that far after {thousands(equal.ppo_steps)} steps."]
    if equal.ppo_steps <= 0:
        return [f"{ppo} is as good before it has learned anything."]
    if equal.env_steps <= 0 or equal.ppo_steps <= equal.env_steps:
        return [f"{ppo} gets as far in {thousands(equal.ppo_steps)} steps."]
    times = equal.ppo_steps / equal.env_steps
    return [f"{ppo} needs {thousands(equal.ppo_steps)} steps to get as far, {times:.1f} times as many."]


def goals_met(goals: Sequence[Goal]) -> str:
    """`8 of 11 goals are met, 2 are missed, 1 could not be measured.`"""
    counts = {verdict: sum(goal.verdict == verdict for goal in goals) for verdict in ("met", "missed", "not measured")}
    words = [f"{counts['met']} of {len(goals)} goals {'is' if counts['met'] == 1 else 'are'} met"]
    if counts["missed"]:
        words.append(f"{counts['missed']} {'is' if counts['missed'] == 1 else 'are'} missed")
    if counts["not measured"]:
        words.append(f"{counts['not measured']} could not be measured")
    return ", ".join(words) + "."


def misses(splits: list[SplitSummary]) -> list[str]:
    """What did not work, a sentence each, by family and split."""
    found = []
    for split in splits:
        where = f"{split.family}, {split.split}"
        if split.random is None or split.oracle is None:
            found.append(f"{where}: without both random and oracle agents there is no scale; scores are plain returns.")
        elif not split.normalised:
            found.append(f"{where}: the oracle is no better than random, so there is no scale and nothing to adapt to.")
        for agent in split.agents:
            name = agent_label(agent.agent)
            if agent.adapts and agent.gain.low <= 0:
                verb = "gets worse" if agent.gain.high < 0 else "shows no certain gain"
                gain = f"{signed(agent.gain.value)}, {span(agent.gain)}"
                budget = f"in its {thousands(agent.final.env_steps)} steps" if agent.long else "in the common budget"
                found.append(f"{where}: {name} {verb} {budget} ({gain}).")
            half = agent.steps_to.get("50")
            if agent.adapts and half is not None and half.share_never > 0:
                never = percent(half.share_never)
                found.append(f"{where}: {name} never reaches half of the oracle's score in {never} of its runs.")
    return found
