"""What may be typed after `quickstudy`: commands, flags, their help, and one-line complaints.

Nothing heavy is imported, so that `--help` answers at once. What each command does is in `quickstudy.py`.
"""

from __future__ import annotations

import argparse
import difflib
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from agents.catalogue import AGENTS, TRAINABLE
from doctor import ROOT
from envs.errors import UserError
from training.arguments import (
    TASKS,
    check_folder,
    check_path,
    check_text,
    counting_number,
    file_of,
    task_number,
    up_to,
    whole_number,
)
from training.flags import TRAIN_CONFIG, settings_of, typed, unknown_argument
from training.recipes import RECIPES

EPISODES = 10_000  # on each task: all are kept until they are written
PICTURES = 400  # on one sheet
ROWS = 1_000_000  # adaptation episodes in one table
SEEDS = 100
THREADS = 1024  # `envs.simulation.MAX_THREADS`
SPLITS = ("train", "test", "ood")
MODES = ("fast", "full")  # of `validate`
UNTRAINED = ("ppo", "random")  # agents that start each task from scratch, and so need no run

EXIT_CODES = """\
exit codes: 0 done; 1 doctor found something broken, or a check of validate failed; 2 bad input, and one line on
stderr says what would be right; 3 training diverged; 130 Ctrl-C; 143 SIGTERM. A fault of quickstudy's own keeps its
traceback (and exits with 1)."""

RUN_HELP = "a run's folder, or the name of a shipped agent such as maml/grasp"
PRESET_HELP = (
    "demo: grasp and terrain, 5 to 10 minutes of two cores; quick: terrain-planar in a minute or two; standard: grasp "
    "and the terrains, 40 tasks; full: the same, test and ood, every agent, PPO for a million steps on 8 tasks, and "
    "goals, in about ten hours of two cores"
)
THREADS_HELP = "of the physics; 0 (default) for all processors; the results do not depend on it"
AS_HELP = "give RUN's weights to another arm: a run of ppo-robust can start ppo-finetuned"
FAMILY_HELP = (
    "grasp, terrain, terrain-planar; with known answers bandit (or bandit-KxN: K arms, N pulls), point, cheetah-vel, "
    "cheetah-dir, cheetah-vel-2017, cheetah-dir-2017, ant-vel, ant-dir"
)
SPLIT_HELP = "train, test (same ranges, other tasks) or ood (outside the ranges); default test"


class Help(argparse.RawDescriptionHelpFormatter):
    """Help as written, with room for the flags."""

    def __init__(self, prog: str, **options: Any) -> None:
        super().__init__(prog, max_help_position=26, **options)


class Parser(argparse.ArgumentParser):
    """argparse, with its complaints as `UserError`s and its help as written."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=Help, allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see `{self.prog} --help`)")


class TrainHelp(argparse.Action):
    """`train --help`, followed by the settings of the agent that was named before it, as they are for the family."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, *rest: Any) -> None:
        parser.print_help()
        agent, family = namespace.agent, namespace.family
        if agent in TRAINABLE:
            recipe = RECIPES.get((agent, family))
            print(f"\nsettings of {agent}{f' for {family}' if recipe else ''}:")
            _print_settings(AGENTS[agent], recipe=recipe.settings if recipe else {})
            print("\nsettings of the training:")
            _print_settings(TRAIN_CONFIG, recipe={"steps": recipe.steps} if recipe else {}, without=("--seed",))
        parser.exit()


def _print_settings(place: str, *, recipe: Mapping[str, Any], without: tuple[str, ...] = ()) -> None:
    for setting in settings_of(place):
        default = setting.default
        if setting.name in recipe:
            default = f"{typed(recipe[setting.name])} by the recipe, {default} without"
        if setting.flag not in without:
            print(f"  {setting.usage}\n      {setting.meaning} (default: {default})")


OVERVIEW = """\
Robots that learn fast: families of MuJoCo tasks, agents that have learned how to learn them, and how quickly each
adapts to tasks it has never seen, beside PPO."""

START = """\
to begin with:
  quickstudy families
  quickstudy preview terrain-planar --out tasks.png
  quickstudy train rl2 terrain-planar --steps 1e6 --out runs/first
  quickstudy evaluate runs/first
  quickstudy render runs/first --against ppo --out first.mp4
"""


def make_parser() -> tuple[Parser, dict[str, Parser]]:
    """The whole parser, and that of each command by name."""
    parser = Parser(prog="quickstudy", description=OVERVIEW, epilog=f"{START}\n{EXIT_CODES}")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    parser.add_argument("--version", action="version", version=f"quickstudy {project['version']}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=Parser)
    made: dict[str, Parser] = {}

    def command(name: str, about: str, example: str, **options: Any) -> Parser:
        """`about`: the first line is what the overview says."""
        added = commands.add_parser(
            name,
            help=about.partition("\n")[0],
            description=about,
            epilog=f"example:\n  {example}\n\n{EXIT_CODES}",
            **options,
        )
        added.set_defaults(command=name)
        made[name] = added
        return added

    this = command(
        "families",
        "what there is: task parameters with units and ranges, sizes, rewards",
        "quickstudy families\n  quickstudy families grasp",
    )
    this.add_argument("family", metavar="FAMILY", nargs="?", help="one of them alone; default all")
    this.add_argument("--json", action="store_true", help="the same as JSON")

    this = command(
        "preview",
        "a contact sheet of sampled tasks; of a robot file, what is in it and how it looks\n\n"
        "A path that ends in .xml, .mjcf or .urdf is a robot of your own. A process of its own compiles it and takes\n"
        "300 steps, with at most 8 s and 1 GB of memory; the files it names must lie in its folder, or in --root.\n"
        "Then its bodies, joints, actuators, sensors, mass and speed are printed, and its picture is drawn.",
        "quickstudy preview grasp --split ood --count 12 --out ood.png\n  quickstudy preview my_robot.xml",
    )
    this.add_argument("family", metavar="FAMILY", help=f"{FAMILY_HELP}; or a robot file")
    this.add_argument("--split", metavar="S", choices=SPLITS, default="train", help="train (default), test or ood")
    this.add_argument("--count", metavar="N", type=up_to(PICTURES), default=12, help="how many tasks; default 12")
    this.add_argument("--seed", metavar="N", type=whole_number, default=0, help="samples the tasks; default 0")
    this.add_argument("--scripted", action="store_true", help="show too how the scripted controller ends each")
    this.add_argument("--root", metavar="DIR", type=Path, help="a robot's files may lie anywhere in it")
    this.add_argument("--out", metavar="FILE.png", type=Path, help="default out/preview-FAMILY-SPLIT.png")

    this = command(
        "train",
        "train an agent over a family's training tasks, into a new run directory\n\n"
        "Besides the flags below, every field of the agent's config and of the training's is a flag:\n"
        "`quickstudy train maml grasp --help` lists them. Where the agent has a recipe for the family\n"
        "(training/recipes.py), it overrides the defaults, the file overrides the recipe, and flags override all.",
        "quickstudy train maml grasp --seed 1 --steps 3e6 --inner-lr 0.05 --out runs/maml",
        add_help=False,
    )
    this.add_argument("-h", "--help", action=TrainHelp, nargs=0, help="say this, and the settings of AGENT if given")
    this.add_argument("agent", metavar="AGENT", help=f"one of {', '.join(TRAINABLE)}")
    this.add_argument("family", metavar="FAMILY", help=FAMILY_HELP)
    this.add_argument("--seed", metavar="N", type=whole_number, help="decides every random number; default 0")
    this.add_argument(
        "--steps",
        metavar="N",
        type=counting_number,
        help="environment steps to train for; default the recipe's, or 3e6",
    )
    this.add_argument("--out", metavar="RUN", type=Path, help="a new folder; default runs/AGENT-FAMILY-SEED")
    this.add_argument(
        "--config",
        metavar="FILE.toml",
        type=Path,
        help="tables [agent_config] and [train], or config.json of a run; what it leaves out is the recipe's",
    )

    this = command(
        "resume",
        "go on with an interrupted run, bit for bit as if it had not been",
        "quickstudy resume runs/maml",
    )
    this.add_argument("run", metavar="RUN", type=Path, help="its folder")
    this.add_argument("--steps", metavar="N", type=counting_number, help="train to this many steps instead")
    this.add_argument(
        "--threads",
        metavar="N",
        type=up_to(THREADS, 0),
        help="of physics and updates, 0 for all processors; default as before, and another number may change the bits",
    )

    this = command(
        "evaluate",
        "let a trained agent adapt to tasks it has never seen: raw table, summary and report\n\n"
        "The random agent (score 0) and the family's shipped oracle (score 1) are measured on the same tasks. Where\n"
        "no oracle is shipped, scores are returns.",
        "quickstudy evaluate runs/maml --split ood --tasks 40 --episodes 20 --out maml-ood",
    )
    this.add_argument("run", metavar="RUN", help=RUN_HELP)
    this.add_argument("--split", metavar="S", choices=SPLITS, default="test", help=SPLIT_HELP)
    this.add_argument("--tasks", metavar="N", type=up_to(TASKS), default=20, help="how many; default 20")
    this.add_argument(
        "--episodes", metavar="N", type=up_to(EPISODES), default=20, help="adaptation episodes on each; default 20"
    )
    this.add_argument("--as", dest="as_name", metavar="AGENT", help=AS_HELP)
    this.add_argument("--threads", metavar="N", type=up_to(THREADS, 0), default=0, help=THREADS_HELP)
    this.add_argument("--out", metavar="DIR", type=Path, help="default out/RUN-SPLIT")

    this = command(
        "render",
        "film an agent as it adapts to one task, episode by episode",
        "quickstudy render runs/maml --split test --task 3 --against ppo --out maml.mp4",
    )
    this.add_argument("run", metavar="RUN", help=RUN_HELP)
    this.add_argument("--against", metavar="RUN", help="another run beside it, or ppo or random from scratch")
    this.add_argument("--split", metavar="S", choices=SPLITS, default="test", help=SPLIT_HELP)
    this.add_argument("--task", metavar="N", type=task_number, default=0, help="its number in the split; default 0")
    this.add_argument("--as", dest="as_name", metavar="AGENT", help=AS_HELP)
    this.add_argument("--episodes", metavar="N", type=up_to(EPISODES), default=20, help="to adapt for; default 20")
    this.add_argument("--seed", metavar="N", type=whole_number, default=0, help="of starts and exploration; default 0")
    this.add_argument(
        "--out",
        metavar="FILE.mp4",
        type=file_of(".mp4", ".webp", ".gif"),
        help="default out/RUN-SPLIT-TASK.mp4; .webp and .gif are animated pictures for a page, at most 2 MB",
    )

    this = command(
        "benchmark",
        "agents beside PPO on held-out tasks: a grid of cells, then the summary and the report\n\n"
        "Finished cells are kept: an interrupted benchmark goes on where it stopped.",
        "quickstudy benchmark demo --out demo",
    )
    this.add_argument("preset", metavar="PRESET", help=PRESET_HELP)
    this.add_argument("--families", metavar="F", nargs="+", help="in place of the preset's")
    this.add_argument("--arms", metavar="ARM", nargs="+", help="in place of the preset's")
    this.add_argument(
        "--runs",
        metavar="DIR",
        type=Path,
        help="folder of run directories: their agents come before the shipped ones",
    )
    this.add_argument("--threads", metavar="N", type=up_to(THREADS, 0), default=0, help=THREADS_HELP)
    this.add_argument("--out", metavar="DIR", type=Path, required=True, help="a new folder, or one to go on with")

    this = command(
        "headroom",
        "what adaptation can win in a family: the policy told the task beside the blind one\n\n"
        "ppo-oracle and ppo-robust at the same budget of steps on held-out tasks: table, headroom.json, verdict. What\n"
        "is not in --runs is trained first; an interrupted training or measurement goes on.",
        "quickstudy headroom terrain-planar --seeds 3",
    )
    this.add_argument("family", metavar="FAMILY", help=FAMILY_HELP)
    this.add_argument(
        "--runs", metavar="DIR", type=Path, help="folder of run directories; default runs/headroom/FAMILY-VERSION"
    )
    this.add_argument("--seeds", metavar="N", type=up_to(SEEDS), default=3, help="runs of each; default 3")
    this.add_argument(
        "--steps", metavar="N", type=counting_number, help="of each training; default the recipe's, or 3e6"
    )
    this.add_argument("--tasks", metavar="N", type=up_to(TASKS), default=40, help="of each split; default 40")
    this.add_argument(
        "--splits", metavar="S", nargs="+", choices=SPLITS, default=["test", "ood"], help="default test ood"
    )
    this.add_argument(
        "--threads", metavar="N", type=up_to(THREADS, 0), default=0, help="of training and physics; 0 (default) for all"
    )
    this.add_argument("--out", metavar="DIR", type=Path, help="default out/headroom-FAMILY-VERSION")

    this = command(
        "report", "summary.json and report.html once more from a folder's raw table", "quickstudy report demo"
    )
    this.add_argument("directory", metavar="DIR", type=Path, help="what `evaluate` or `benchmark` wrote")

    this = command(
        "validate",
        "hold the algorithms against known answers: check, expected, measured, verdict\n\n"
        "fast, under a minute: MAML's derivatives against central differences and a second implementation;\n"
        "surrogates in expectation; TRPO's bound; advantages by hand; RL2's memory. full adds what trained agents\n"
        "reach: RL2 beside the Bayes-optimal value of the bandit, MAML beside the returns published in 2017. Agents\n"
        "that are not in --runs are trained first, all of them in about an hour; an interrupted training goes on.\n"
        "Exits with 1 where a check failed, and names it.",
        "quickstudy validate",
    )
    this.add_argument("mode", metavar="MODE", nargs="?", choices=MODES, default="fast", help="fast (default) or full")
    this.add_argument("--runs", metavar="DIR", type=Path, help="of full: trained agents; default results/validate/runs")
    this.add_argument("--out", metavar="DIR", type=Path, help="default out/validate, and results/validate for full")

    command(
        "doctor",
        "versions, threads, memory, disk, physics, rendering, films: what is wrong, and the mend",
        "quickstudy doctor",
    )
    return parser, made


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """`command` and its arguments; `settings` are those of `train` that belong to the agent and the training.

    Raises `UserError`, and `SystemExit` after a `--help`.
    """
    check_folder()
    for number, argument in enumerate(arguments, start=1):
        check_text(number, argument)
    parser, commands = make_parser()
    name = arguments[0] if arguments else "--help"
    if not name.startswith("-") and name not in commands:
        close = difflib.get_close_matches(name, commands, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"there are {', '.join(commands)}"
        raise UserError(f"no command is called '{name}': {hint}")
    parsed, rest = parser.parse_known_args(arguments or [name])
    parsed.settings = rest
    if parsed.settings and parsed.command != "train":
        flags = commands[parsed.command]._option_string_actions
        raise UserError(unknown_argument(parsed.settings[0], flags, f"quickstudy {parsed.command} --help"))
    for name, value in vars(parsed).items():
        if isinstance(value, Path) or (name in ("run", "against") and value is not None):
            check_path(Path(value), or_name=name in ("run", "against"))
    if parsed.command == "evaluate" and parsed.tasks * parsed.episodes > ROWS:
        raise UserError(
            f"--tasks {parsed.tasks} times --episodes {parsed.episodes} are too many: {ROWS} episodes fit a table"
        )
    return parsed
