"""Headroom: what adaptation can win in a family.

The oracle (`ppo-oracle`) is told the task, the blind policy (`ppo-robust`) is not, and both are trained with the same
budget. On held-out tasks, with IQM the interquartile mean return over seeds and tasks,

    headroom = (IQM(oracle) - IQM(blind)) / (IQM(oracle) - IQM(random)),

which is 1 minus the score of the blind policy on the scale random = 0, oracle = 1.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from envs.errors import UserError
from envs.families import make_family
from envs.task import Split
from evaluation import metrics
from evaluation.benchmark import holds_protocol, run_benchmark
from evaluation.curves import ORACLE, RANDOM, ROBUST, Curves
from evaluation.intervals import spread_by_bootstrap
from evaluation.maps import success_by_kind
from evaluation.presets import Preset
from evaluation.results import Results
from evaluation.summary import Interval, SplitSummary, Summary, rounded, write_protocol, write_summary
from evaluation.sums import writing_to
from evaluation.table import write_text
from training.config import RunConfig, recipe_config
from training.provenance import present
from training.run import RunDirectory
from training.trained import trained

RESULT_FILE = "headroom.json"
TRAINED = (ORACLE, ROBUST)


@dataclass(frozen=True)
class Criteria:
    """What a family must show before it is worth a benchmark."""

    headroom: float = 0.25
    """At least so much of the oracle's score must be there for adaptation to win."""
    oracle_success: float = 0.9
    """The oracle must succeed in at least so many of the episodes, or it does not say what can be won."""

    def verdict(self, figures: Figures) -> tuple[str, ...]:
        """What there is to say of one split, by the point estimates."""
        complaints = []
        solved, share = figures.oracle_success.value, figures.headroom.value
        if solved < self.oracle_success:
            complaints.append(
                f"the oracle is not good enough yet: it succeeds in {solved:.2f} of episodes, {self.oracle_success:.2f}"
                " is asked"
            )
        if share < self.headroom:
            complaints.append(
                f"redesign this family: adaptation can win {share:.2f} of the oracle's score, {self.headroom:.2f}"
                " is asked"
            )
        return tuple(complaints) or (f"worth adapting to: adaptation can win {share:.2f} of the oracle's score",)


CRITERIA = {"grasp": Criteria(oracle_success=0.95)}  # of families that are held to others than the default


@dataclass(frozen=True)
class Plan:
    """What `quickstudy headroom` trains and measures."""

    family: str
    """Name in `envs.families`."""
    seeds: int = 3
    """Training runs of each of the two policies: seeds 0 .. seeds - 1."""
    tasks: int = 40
    """Held-out tasks of each split."""
    splits: tuple[Split, ...] = ("test", "ood")
    """Splits of held-out tasks."""
    steps: int | None = None
    """Environment steps of each training; none for those of the runs that are there, else the recipe's."""


@dataclass(frozen=True)
class Figures:
    """Oracle, blind policy and the gap between them on one split, each with its 95 % interval over runs and tasks.

    Returns are interquartile means, success is the mean share of episodes. headroom: the gap in return as a share of
    the oracle's lead over random; 0 where the oracle is no better than random. headroom_mean: the same of plain means.
    """

    random_return: Interval
    blind_return: Interval
    blind_success: Interval
    oracle_return: Interval
    oracle_success: Interval
    gap_return: Interval
    gap_success: Interval
    headroom: Interval
    headroom_mean: Interval


@dataclass(frozen=True)
class Kind:
    """Success on the tasks of one kind: means over seeds and the `tasks` tasks whose `parameter` has that value."""

    parameter: str
    value: str
    tasks: int
    oracle: float
    blind: float


@dataclass(frozen=True)
class SplitHeadroom:
    """One split. verdict: what to do, in words. kinds: for each choice among the family's parameters."""

    split: str
    seeds: int
    tasks: int
    figures: Figures
    verdict: tuple[str, ...]
    kinds: tuple[Kind, ...]


@dataclass(frozen=True)
class Headroom:
    """`headroom.json`. steps: the budget of each training. env_steps: what the runs took, by agent and then seed."""

    family: str
    version: str
    steps: int
    env_steps: dict[str, list[int]]
    criteria: Criteria
    splits: tuple[SplitHeadroom, ...]


def figures_of(random: Curves, blind: Curves, oracle: Curves) -> Figures:
    """The figures of one split, of the first probe of each: these three do not adapt.

    All three must have the same number of seeds, and the same tasks. Seeds and tasks are resampled for all three
    together: the runs of one seed met the same training tasks.
    """
    arms = (random, blind, oracle)
    values = np.stack([[arm.returns[0] for arm in arms], [arm.success[0] for arm in arms]])
    found = _statistics(values)
    margins = spread_by_bootstrap(
        lambda seeds, tasks: _statistics(values[..., seeds[:, None], tasks]), values.shape[-2:]
    ).margin()
    low, high = found - margins, found + margins
    shares = [2, 4]  # success of the two policies, in the order of `Figures`
    low[shares], high[shares] = low[shares].clip(0.0, 1.0), high[shares].clip(0.0, 1.0)
    return Figures(*(Interval(*(rounded(end) for end in ends)) for ends in zip(found, low, high, strict=True)))


def _statistics(values: np.ndarray) -> np.ndarray:
    """[9, ...], in the order of `Figures`, of [return or success, random or blind or oracle, ..., seeds, tasks]."""
    random, blind, oracle = metrics.interquartile_mean(values[0])
    means = metrics.mean(values[0])
    _, blind_success, oracle_success = metrics.mean(values[1])
    gap, lead = oracle - blind, oracle - random
    headroom, headroom_mean = _share(gap, lead), _share(means[2] - means[1], means[2] - means[0])
    gap_success = oracle_success - blind_success
    return np.stack([random, blind, blind_success, oracle, oracle_success, gap, gap_success, headroom, headroom_mean])


def _share(gap: np.ndarray, lead: np.ndarray) -> np.ndarray:
    return np.divide(gap, lead, out=np.zeros_like(lead), where=lead > 0)


def measure_headroom(
    plan: Plan, runs: Path, out: Path, *, threads: int = 0, console: Console | None = None
) -> Headroom:
    """Train what `runs` lacks, measure it on held-out tasks, write `headroom.json` into `out`.

    Trainings and measurements that are whole are kept, and interrupted ones go on. threads: of trainings that begin now
    and of the measurement, 0 for all processors. Raises `UserError`, and what training raises.
    """
    console, runs, out = console or Console(), Path(runs), Path(out)
    family = make_family(plan.family)
    preset = Preset(
        "headroom",
        families=(plan.family,),
        splits=plan.splits,
        arms=(ROBUST, ORACLE, RANDOM),
        seeds=plan.seeds,
        tasks=plan.tasks,
        episodes=1,  # for the protocol: none of the arms is given any
        film=(),
    )
    holds_protocol(out, "a measurement")  # refused before hours of training
    configs = _plan_runs(plan, runs, threads)
    steps = _agreed_budget({path: config.train.steps for path, config in configs.items()}, plan.steps)
    env_steps: dict[str, list[int]] = {agent: [] for agent in TRAINED}
    for number, (path, config) in enumerate(configs.items(), start=1):
        about = f"[{number}/{len(configs)}] {config.agent} on {config.family}, seed {config.train.seed}"
        console.print(about, highlight=False, markup=False, soft_wrap=True)
        env_steps[config.agent].append(trained(config, path, console).env_steps)
    summary = run_benchmark(preset, out, runs=runs, threads=threads, console=console, report=False)
    criteria = CRITERIA.get(plan.family, Criteria())
    with writing_to(out):
        results = Results.read(_say_what_repeats_it(summary, plan, steps, runs, out))
        splits = tuple(split_headroom(results, split, criteria) for split in results.summary.results)
        headroom = Headroom(plan.family, family.version, steps, env_steps, criteria, splits)
        write_text(out / RESULT_FILE, json.dumps(dataclasses.asdict(headroom), indent=1, allow_nan=False) + "\n")
    return headroom


def _plan_runs(plan: Plan, runs: Path, threads: int) -> dict[Path, RunConfig]:
    """The runs that are needed, by folder: found in `runs`, or to be trained there. Raises `UserError`."""
    found = _find_runs(plan.family, runs)
    budgets = {config.train.steps for _, config in found.values()}
    steps = plan.steps or (budgets.pop() if len(budgets) == 1 else None)
    planned = {}
    for seed in range(plan.seeds):
        for agent in TRAINED:
            if (agent, seed) in found:
                path, config = found[agent, seed]
            else:
                path = runs / f"{agent}-{plan.family}-{seed}"
                if (path / "config.json").exists():
                    raise UserError(f"{path} holds another run than its name says: rename it, or use another --runs")
                given = {"seed": seed, "threads": threads} | ({} if steps is None else {"steps": steps})
                config = recipe_config(agent, plan.family, **given)
            planned[path] = config
    return planned


def _find_runs(family: str, runs: Path) -> dict[tuple[str, int], tuple[Path, RunConfig]]:
    """Folder and config of each (agent, seed) in `runs`. Raises `UserError` where there are two of one."""
    found: dict[tuple[str, int], tuple[Path, RunConfig]] = {}
    for file in sorted(runs.glob("*/config.json")):
        config = RunDirectory.open(file.parent).config()
        key = (config.agent, config.train.seed)
        if config.family != family or config.agent not in TRAINED:
            continue
        if key in found:
            raise UserError(
                f"{found[key][0]} and {file.parent} are both {config.agent} on {family} with seed {key[1]}:"
                " keep one of them in that folder"
            )
        found[key] = (file.parent, config)
    return found


def _agreed_budget(budgets: Mapping[Path, int], asked: int | None) -> int:
    """The one budget of all runs. Raises `UserError` where there are several: then their gap would say nothing."""
    expected = asked if asked is not None else max(budgets.values())
    for path, steps in budgets.items():
        if steps != expected:
            mends = ["another --runs"]
            mends += [f"`quickstudy resume {path} --steps {expected}`"] if steps < expected else []
            mends += [f"--steps {steps}"] if asked is not None else []
            raise UserError(
                f"all runs need the same budget: that of {path} is {steps} steps,"
                f" {'--steps asks for' if asked is not None else 'another has'} {expected};"
                f" {' or '.join(reversed(mends))} would do"
            )
    return expected


def _say_what_repeats_it(summary: Summary, plan: Plan, steps: int, runs: Path, out: Path) -> Path:
    """Write into `out`, and return it, which command measured it: the benchmark knows no preset `headroom`."""
    words = f"quickstudy headroom {plan.family} --seeds {plan.seeds} --steps {steps} --tasks {plan.tasks}"
    words += f" --splits {' '.join(plan.splits)} --runs {present(str(runs))} --out {out.name}"
    protocol = dataclasses.replace(summary.protocol, command=words)
    write_protocol(out, protocol)
    write_summary(out, dataclasses.replace(summary, protocol=protocol))
    return out


def split_headroom(results: Results, split: SplitSummary, criteria: Criteria) -> SplitHeadroom:
    """What `summary.json` and the raw table say of one split. Raises `UserError` where an arm is missing."""
    random, blind, oracle = (_curves(results, split, arm) for arm in (RANDOM, ROBUST, ORACLE))
    figures = figures_of(random, blind, oracle)
    seeds, tasks = oracle.returns.shape[1:]
    return SplitHeadroom(split.split, seeds, tasks, figures, criteria.verdict(figures), _kinds(results, split))


def _curves(results: Results, split: SplitSummary, arm: str) -> Curves:
    curves = results.curves(split.family, split.split, arm)
    if curves is None:
        raise UserError(f"the table has no episode of {arm} on {split.family}/{split.split}: it is not whole")
    return curves


def _kinds(results: Results, split: SplitSummary) -> tuple[Kind, ...]:
    kinds: list[Kind] = []
    for table in success_by_kind(results, [split], episodes=0):
        for value, oracle, blind in zip(table.values, table.success[ORACLE], table.success[ROBUST], strict=True):
            if oracle and blind:
                kinds.append(Kind(table.label, value, oracle[1], rounded(oracle[0]), rounded(blind[0])))
    return tuple(kinds)
