"""What an evaluation found, in words: whole sentences, which also say where there is no gain."""

from __future__ import annotations

import math
from collections.abc import Sequence

from evaluation.curves import PPO
from evaluation.grid import HORIZON_ENDS
from evaluation.plots import thousands
from evaluation.presets import HEADLINE_RUNS
from evaluation.style import agent_label
from evaluation.summary import AgentSummary, Goal, Interval, PPOEquivalent, Protocol, SplitSummary

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


def points(share: float) -> str:
    """A difference of shares as `+11 points`."""
    whole = signed(100 * share, 0)
    return f"{whole} point{'' if abs(round(100 * share)) == 1 else 's'}"


def over(agent: AgentSummary) -> str:
    """What the agent's intervals are over: `3 runs, 40 tasks`."""
    runs = "one run, so over tasks alone:" if agent.seeds == 1 else f"{agent.seeds} runs,"
    return f"{runs} {agent.tasks} task{'s' if agent.tasks > 1 else ''}"


def leader(split: SplitSummary) -> AgentSummary | None:
    """The agent that the headline is about: of those that learned to adapt, the one that solves most at the end."""
    adapting = [agent for agent in split.agents if agent.adapts and not agent.long]
    learned = [agent for agent in adapting if not agent.agent.startswith(PPO)]
    return max(learned or adapting, key=lambda agent: (agent.final.success, agent.final.mean_score), default=None)


def headline(split: SplitSummary, agent: AgentSummary) -> str:
    """What it solves after its episodes and whether that is a gain, its scores, and what PPO needs for as much."""
    return " ".join([_reaches(agent), _gains(agent), _scores(split, agent), *_against_ppo(split, agent)])


def after(episode: int) -> str:
    return f"after {episode} episode{'' if episode == 1 else 's'}"


def _reaches(agent: AgentSummary) -> str:
    first, final = agent.curve[0], agent.final
    span = f"{percent(final.success_low)} to {percent(final.success_high)}"
    return (
        f"{after(final.episode).capitalize()} ({thousands(final.env_steps)} steps) {agent_label(agent.agent)} solves "
        f"{percent(final.success)} of the tasks (95\u202f% interval {span}; {over(agent)}), {percent(first.success)} "
        "before the first."
    )


def _gains(agent: AgentSummary) -> str:
    gain = agent.gain_success
    interval = f"{points(gain.value)}, 95\u202f% interval {signed(100 * gain.low, 0)} to {signed(100 * gain.high, 0)}"
    if gain.low > 0:
        return f"That gain is real ({interval})."
    if gain.high < 0:
        return f"It solves fewer as it adapts ({interval})."
    fell = " It solved fewer in the end." if gain.value < 0 else ""
    return f"That change cannot be told from none ({interval}).{fell}"


def _scores(split: SplitSummary, agent: AgentSummary) -> str:
    first, final = agent.curve[0], agent.final
    scale = "score" if split.normalised else "return"
    text = (
        f"Its mean {scale} goes from {number(first.mean_score)} to {number(final.mean_score)}, the interquartile mean "
        f"from {number(first.score)} to {number(final.score)}."
    )
    if agent.adapting is not None:
        earned = agent.adapting
        text += (
            f" While it adapts, exploring, it solves {percent(earned.success.value)} at a mean {scale} of "
            f"{number(earned.score.value)}."
        )
    return text


def measured_ppo(split: SplitSummary, equal: PPOEquivalent) -> bool:
    """Was PPO given enough to say how much it needs? With the common budget alone it gets nowhere."""
    return not (equal.censored and equal.ppo_steps <= split.budget_steps)


def _against_ppo(split: SplitSummary, agent: AgentSummary) -> list[str]:
    if agent.agent == PPO:
        return []
    equal = next((e for e in agent.ppo_equivalent if e.episode == agent.final.episode), None)
    if equal is None:
        return []
    ppo = agent_label(PPO)
    if not measured_ppo(split, equal):
        return [f"What {ppo} needs for as much was not measured here: it had the common budget alone."]
    if equal.censored:
        return [f"{ppo} has not got that far after {thousands(equal.ppo_steps)} steps."]
    if equal.ppo_steps <= 0:
        return [f"{ppo} is as good before it has learned anything."]
    if equal.env_steps <= 0 or equal.ppo_steps <= equal.env_steps:
        return [f"{ppo} gets as far in {thousands(equal.ppo_steps)} steps."]
    times = equal.ppo_steps / equal.env_steps
    pays = ""
    if equal.tasks_to_pay is not None and agent.meta_steps is not None:
        pays = (
            f" Meta-training took {thousands(agent.meta_steps)} steps: it pays off from "
            f"{thousands(math.ceil(equal.tasks_to_pay))} tasks on."
        )
    return [
        f"{ppo} needs {thousands(equal.ppo_steps)} steps for the return that it has {after(equal.episode)}, "
        f"{times:.0f} times as many.{pays}"
    ]


def goals_met(goals: Sequence[Goal]) -> str:
    """`8 of 11 goals are met, 2 are missed, 1 could not be measured.`"""
    counts = {verdict: sum(goal.verdict == verdict for goal in goals) for verdict in ("met", "missed", "not measured")}
    words = [f"{counts['met']} of {len(goals)} goals {'is' if counts['met'] == 1 else 'are'} met"]
    if counts["missed"]:
        words.append(f"{counts['missed']} {'is' if counts['missed'] == 1 else 'are'} missed")
    if counts["not measured"]:
        words.append(f"{counts['not measured']} could not be measured")
    return ", ".join(words) + "."


def misses(splits: Sequence[SplitSummary]) -> list[str]:
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
            gain = agent.gain_success
            if agent.adapts and gain.low <= 0:
                verb = "solves fewer" if gain.high < 0 else "shows no certain gain in tasks solved"
                interval = f"{points(gain.value)}, {signed(100 * gain.low, 0)} to {signed(100 * gain.high, 0)}"
                budget = f"in its {thousands(agent.final.env_steps)} steps" if agent.long else "in the common budget"
                found.append(f"{where}: {name} {verb} {budget} ({interval}; {over(agent)}).")
            half = agent.steps_to.get("50")
            if agent.adapts and half is not None and half.share_never > 0:
                never = percent(half.share_never)
                found.append(f"{where}: {name} never reaches half of the oracle's score in {never} of its runs.")
    return found


def cautions(protocol: Protocol) -> list[str]:
    """What to know of the comparison: who was given what, and by which rule the arms of PPO learned."""
    found = []
    told = {"maml": "MAML (one of its critics)", "rl2": "RL² (its critic, and the target of its belief)"}
    if arms := [words for arm, words in told.items() if arm in protocol.arms]:
        found.append(
            f"Told the task's features in meta-training: {' and '.join(arms)}. On a held-out task they are told"
            " nothing. They have a recipe of their own for each family."
        )
    if "rl2" in protocol.arms and "terrain" in protocol.families:
        found.append(
            "The schedule of RL² on terrain (annealed, not constant) was chosen on the benchmark's tasks, between "
            "two schedules. Since then settings are chosen on training tasks only."
        )
    if bootstrapped := _arms_of_ppo(protocol, ended=False):
        found.append(
            "These arms of PPO, or the policies that they begin with, were trained while PPO bootstrapped at the "
            f"horizon from the value of an observation that is never fitted: {bootstrapped}. The meta-learners treat "
            "the horizon as the end, and so does PPO since. The older rule held PPO back."
        )
    if ended := _arms_of_ppo(protocol, ended=True):
        found.append(f"These arms of PPO treat the horizon as the end, as the meta-learners do: {ended}.")
    if max(len(protocol.seeds), 1) < HEADLINE_RUNS:
        runs = f"{len(protocol.seeds)} training run{'s' if len(protocol.seeds) > 1 else ''}"
        found.append(
            f"Each agent has {runs} at most. Student's t makes the intervals of few runs wide: headline figures are "
            f"planned with {HEADLINE_RUNS}."
        )
    return found


def _arms_of_ppo(protocol: Protocol, *, ended: bool) -> str:
    """`PPO from scratch (grasp, terrain), ...`: those for which the horizon is the end, or those that bootstrap."""
    found: dict[str, list[str]] = {}
    for name, origin in protocol.checkpoints.items():
        arm, family, _ = name.split("/")
        if arm.startswith(PPO) and (HORIZON_ENDS in origin) == ended and family not in found.get(arm, []):
            found.setdefault(arm, []).append(family)
    return ", ".join(f"{agent_label(arm)} ({', '.join(families)})" for arm, families in found.items())
