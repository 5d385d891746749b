"""quickstudy's commands: what each line typed at the command line does. The one file that knows everyone.

What a command needs is imported when it runs: torch and MuJoCo take longer to import than `--help` may take to answer.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import doctor
from command_line import UNTRAINED, parse
from envs.errors import UserError, one_line
from training.arguments import usable_streams
from training.signals import Interrupted, StopSignals

if TYPE_CHECKING:
    from envs.task import TaskFamily


OUT = Path("out")  # where results go that no --out names


def plain_name(reference: str) -> str:
    """A run's folder or shipped name as part of a file name: `runs/first` is `first`, `maml/grasp` is `maml-grasp`."""
    path = Path(reference)
    return path.resolve().name if path.exists() else reference.replace("/", "-")


def refuse_to_overwrite(path: Path) -> None:
    if path.exists() or path.is_symlink():
        raise UserError(f"{path} is there already: remove it, or name another with --out")


def check_rounds(agents: Sequence[Any], episodes: int) -> None:
    """Raise `UserError` unless each agent plays at least one round, and all of them as many episodes.

    An agent plays whole rounds of `episodes_per_round`: side by side, others would show unequal budgets.
    """
    fitting = math.lcm(*(agent.episodes_per_round for agent in agents))
    played = [episodes - episodes % agent.episodes_per_round for agent in agents]
    if 0 in played or len(set(played)) > 1:
        rounds = " and ".join(f"{agent.name} plays rounds of {agent.episodes_per_round}" for agent in agents)
        right = f"{fitting} or more" if len(agents) == 1 else f"a multiple of {fitting}"
        raise UserError(f"--episodes {episodes} does not fit: {rounds}; give {right}")


# The commands. Each takes its parsed arguments and returns the exit code.


def families(args: argparse.Namespace) -> int:
    from envs.describe import describe
    from envs.families import FAMILIES, make_family

    described = [describe(make_family(name)) for name in ([args.family] if args.family else FAMILIES)]
    if args.json:
        print(json.dumps(described, indent=2))
        return 0
    from rich.console import Console
    from rich.table import Table

    console = Console()
    for family in described:
        console.print(f"\n[bold]{family['name']}[/bold]  version {family['version']}", highlight=False)
        console.print(
            f"{family['about']}\n{family['scoring']}\n"
            f"episode: {family['horizon']} control steps at {family['control_rate_hz']:g} Hz, "
            f"{family['episode_seconds']:g} s; physics at {family['physics_rate_hz']:g} Hz\n"
            f"observation: {family['observation_size']} numbers; action: {family['action_size']} numbers in [-1, 1]\n"
            f"reward: {' + '.join(family['reward_terms'])}",
            highlight=False,
            markup=False,
        )
        table = Table("parameter", "unit", "meaning", "train and test", "ood", box=None, padding=(0, 2, 0, 0))
        for parameter in family["parameters"]:
            values = [_values(parameter["kind"], parameter["values"][split]) for split in ("train", "ood")]
            table.add_row(parameter["name"], parameter["unit"] or "-", parameter["meaning"], *values)
        console.print(table)
    return 0


def _values(kind: str, values: list[Any]) -> str:
    if kind == "choice":
        return ", ".join(values)
    return " or ".join(f"{low:g} to {high:g}" for low, high in values)


def train(args: argparse.Namespace) -> int:
    from training.flags import run_config
    from training.train import train as train_run

    config = run_config(args.agent, args.family, args.config, args.settings, ("--seed", "--steps", "--out", "--config"))
    given = {name: getattr(args, name) for name in ("seed", "steps") if getattr(args, name) is not None}
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, **given))
    out = args.out or Path("runs") / f"{args.agent}-{args.family}-{config.train.seed}"
    run = train_run(config, out)
    print(f"trained: {run.path}; look at it with `quickstudy evaluate {run.path}` or `quickstudy render {run.path}`")
    return 0


def resume(args: argparse.Namespace) -> int:
    from training.train import resume as resume_run

    print(f"trained: {resume_run(args.run, args.steps, threads=args.threads).path}")
    return 0


def preview(args: argparse.Namespace) -> int:
    from envs.families import FAMILIES, make_family
    from envs.user_model_files import is_robot_file

    if args.family not in FAMILIES and is_robot_file(args.family):
        return _preview_robot(args)
    from evaluation.preview import preview as draw_preview

    if args.root is not None:
        raise UserError(f"--root is for a robot file, and {args.family} is a family: leave it out")
    family = make_family(args.family)
    out = args.out or OUT / f"preview-{args.family}-{args.split}.png"
    refuse_to_overwrite(out)
    print(draw_preview(family, args.split, args.count, out, seed=args.seed, scripted=args.scripted))
    return 0


def _preview_robot(args: argparse.Namespace) -> int:
    from envs.user_model import load_model
    from evaluation.preview import check_picture
    from evaluation.preview_robot import preview_robot, robot_table

    path = Path(args.family)
    if args.scripted or (args.split, args.count, args.seed) != ("train", 12, 0):
        raise UserError(f"{path} is one robot and has no tasks: leave --split, --count, --seed and --scripted out")
    out = args.out or OUT / f"preview-{path.stem}.png"
    check_picture(out)
    refuse_to_overwrite(out)
    model = load_model(path, root=args.root)
    for name, value in robot_table(model):
        print(f"{name:<12}{value}", flush=True)
    print(preview_robot(model, path.name, out))
    return 0


def evaluate(args: argparse.Namespace) -> int:
    from evaluation.benchmark import evaluate as evaluate_agent
    from evaluation.report import write_report

    out = args.out or OUT / f"{plain_name(args.run)}-{args.split}"
    evaluate_agent(args.run, args.split, args.tasks, args.episodes, out, as_name=args.as_name, threads=args.threads)
    print(write_report(out))
    return 0


def render(args: argparse.Namespace) -> int:
    from evaluation.film import film
    from evaluation.protocol import held_out_tasks
    from training.run import load_agent

    first = load_agent(args.run, as_name=args.as_name)
    agents = [("", first.agent)]
    if args.against in UNTRAINED:
        agents.append(("", _untrained(args.against, first.family, args.seed)))
    elif args.against:
        second = load_agent(args.against)
        if second.family.name != first.family.name:
            raise UserError(
                f"{args.run} was trained on {first.family.name}, {args.against} on {second.family.name}: "
                "only agents of one family can be shown side by side"
            )
        agents.append(("", second.agent))
    check_rounds([agent for _, agent in agents], args.episodes)
    name = first.family.name
    out = args.out or OUT / f"{plain_name(args.run)}-{args.split}-{args.task}.mp4"
    refuse_to_overwrite(out)
    task = held_out_tasks(first.family, args.split, args.task + 1, task_seed=0)[args.task]
    print(
        film(agents, first.family, task, args.episodes, args.seed, out, title=f"{name}, {args.split} task {args.task}")
    )
    return 0


def _untrained(name: str, family: TaskFamily[Any], seed: int) -> Any:
    """An arm that starts each task from scratch, with its default config."""
    from agents.catalogue import agent_class, make_agent

    config = agent_class(name).config_type()
    return make_agent(name, config, family, seed)


def benchmark(args: argparse.Namespace) -> int:
    from evaluation.benchmark import run_benchmark
    from evaluation.presets import find_preset

    preset = find_preset(args.preset).narrowed(args.families, args.arms)
    run_benchmark(preset, args.out, runs=args.runs, threads=args.threads)
    return 0


def headroom(args: argparse.Namespace) -> int:
    from rich.console import Console

    from envs.families import make_family
    from evaluation.headroom import RESULT_FILE, Plan, measure_headroom
    from evaluation.headroom_table import print_headroom

    family = make_family(args.family)
    label = f"{family.name}-{family.version}"  # another version is another family
    plan = Plan(args.family, args.seeds, args.tasks, tuple(dict.fromkeys(args.splits)), args.steps)
    runs, out = args.runs or Path("runs") / "headroom" / label, args.out or OUT / f"headroom-{label}"
    console = Console()
    print_headroom(console, measure_headroom(plan, runs, out, threads=args.threads, console=console))
    print(f"written: {out / RESULT_FILE}")
    return 0


def report(args: argparse.Namespace) -> int:
    from evaluation.report import write_report
    from evaluation.summarise import summarise_directory
    from evaluation.summary import read_protocol
    from evaluation.sums import writing_to

    read_protocol(args.directory)  # says so where there are no results at all
    with writing_to(args.directory):
        summarise_directory(args.directory)
        page = write_report(args.directory)
    print(page)
    return 0


def validate(args: argparse.Namespace) -> int:
    from evaluation.validation.validate import validate as validate_algorithms

    full = Path("results") / "validate"
    out = args.out or (full if args.mode == "full" else OUT / "validate")
    return 1 if validate_algorithms(args.mode, out, args.runs or full / "runs").failed else 0


def examine_machine(args: argparse.Namespace) -> int:
    findings = []
    for finding in doctor.examine():
        findings.append(finding)
        print(f"{finding.state:<8} {finding.subject:<18} {finding.found}", flush=True)
        if finding.mend:
            print(f"{'':<27} -> {finding.mend}")
    broken = [finding.subject for finding in findings if finding.state == "broken"]
    print(f"\nbroken: {', '.join(broken)}" if broken else "\nnothing is broken")
    return 1 if broken else 0


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "families": families,
    "preview": preview,
    "train": train,
    "resume": resume,
    "evaluate": evaluate,
    "render": render,
    "benchmark": benchmark,
    "headroom": headroom,
    "report": report,
    "validate": validate,
    "doctor": examine_machine,
}


def run(arguments: Sequence[str]) -> int:
    """Parse and do; returns the exit code. Raises `UserError`, and whatever a fault of quickstudy's own raises."""
    args = parse(arguments)
    if args.command != "doctor" and (wrong := doctor.misplaced_floor()):
        raise UserError(wrong)
    command = COMMANDS[args.command]
    return measuring(command, args) if command in (evaluate, benchmark, headroom) else command(args)


def measuring(command: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> int:
    """A command that a signal may stop at any moment: what it has finished is on the disk. Raises `Interrupted`."""
    try:
        with StopSignals() as signals, signals.interruptible():
            return command(args)
    except Interrupted as stop:
        print(f"quickstudy: {stop}: finished cells are kept, the same command goes on", file=sys.stderr)
        raise


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script. Returns the exit code; only a fault of quickstudy's own leaves as an exception."""
    usable_streams()
    try:
        return run(sys.argv[1:] if arguments is None else arguments)
    except UserError as error:
        print(f"quickstudy: error: {one_line(str(error))}", file=sys.stderr)
        return error.exit_code
    except Interrupted as stop:  # training has said what it saved
        return stop.exit_code
    except KeyboardInterrupt:
        print("quickstudy: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `quickstudy families | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


if __name__ == "__main__":
    sys.exit(main())
