"""Generated command lines: accepted and valid, or one clear line, exit code 2 and nothing written.

Of `train` all runs but the training (see `generated.build_only`). Of the other commands parsing and the look-ups by
name run; what they would do takes hours.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from answers import Answer, ask, files_in, memory_limit
from generated import FAMILIES, GIBIBYTE, NUMBERS, build_only, choose, misspelt, valid_settings

import command_line
import quickstudy
from agents.catalogue import TRAINABLE, agent_class
from envs.families import make_family
from envs.task import SPLITS
from training.loop import MAX_STEPS, TrainConfig
from training.run import find_run

ODD_TEXT = ["", "x", "fast", "é", "\u202eabc", "💥", "%s%n", "$(id)", "`id`", "../../x", "None", "True", "x" * 20_000]
WORDS = [
    *NUMBERS,
    *ODD_TEXT,
    "nan",
    "inf",
    "-inf",
    "-5",
    "--",
    "-",
    "-x",
    "a\x00b",
    "a\x1b[31m",
    "\udcff",
    "/",
    "/dev/null",
]


RUNS = ("maml/grasp", "rl2/terrain", "nowhere", "file", "folder", "closed", "loop")
VALUES: dict[str, tuple[str, ...]] = {
    "--split": SPLITS,
    "--count": ("1", "12"),
    "--seed": ("0", "7", "1e6"),
    "--steps": ("1", "1e6", "1_000"),
    "--tasks": ("1", "20"),
    "--episodes": ("1", "20"),
    "--seeds": ("1", "3"),
    "--threads": ("0", "2"),
    "--task": ("0", "3"),
    "--as": ("maml", "ppo-finetuned"),
    "--against": ("ppo", "random", "nowhere"),
    "--families": ("grasp", "terrain", "bandit"),
    "--arms": ("maml", "ppo", "random"),
    "--splits": ("test", "ood"),
    "--runs": ("folder", "nowhere"),
    "--config": ("settings.toml", "nowhere.toml", "folder", "closed/x.toml", "/dev/zero", "/dev/null", "binary.toml"),
}
OUT = {"preview": "x.png", "render": "x.mp4"}
POSITIONS: dict[str, tuple[tuple[str, ...], ...]] = {
    "families": (),
    "preview": (("grasp", "bandit"),),
    "train": (TRAINABLE, FAMILIES),
    "resume": (RUNS,),
    "evaluate": (RUNS,),
    "render": (RUNS,),
    "benchmark": (("demo", "quick", "standard", "full"),),
    "headroom": (("grasp", "bandit"),),
    "report": (RUNS,),
    "validate": (("fast", "full"),),
    "doctor": (),
}


def command(rng: np.random.Generator) -> tuple[list[str], bool]:
    """(a command line, must it be accepted?)."""
    name = str(choose(rng, list(POSITIONS)))
    line = [name, *(str(choose(rng, values)) for values in POSITIONS[name])]
    required = ["--out", OUT.get(name, "new")] if name in ("benchmark", "train") or rng.random() < 0.3 else []
    flags = [flag for flag in command_line.make_parser()[1][name]._option_string_actions if flag.startswith("--")]
    if "--out" in flags:
        line += required
    others = [flag for flag in flags if flag in VALUES]
    for flag in rng.permutation(others)[: int(rng.integers(0, 4))]:
        line += [str(flag), str(choose(rng, VALUES[str(flag)]))]
    if name == "train":
        kind = choose(rng, [agent_class(line[1]).config_type, TrainConfig])
        for setting, value in valid_settings(rng, kind, 0.2).items():
            if setting not in ("seed", "steps"):
                line += as_flag(setting, value)
    if rng.random() < 0.25:
        return line, not {"--config", "--as", "--against"} & set(line) and not set(RUNS) & set(line)
    for _ in range(int(rng.integers(1, 4))):
        place = int(rng.integers(len(line)))
        change = int(rng.integers(7))
        if change <= 1:
            line[place] = str(choose(rng, WORDS))
        elif change == 2:
            line.insert(place, str(choose(rng, WORDS)))
        elif change == 3:
            del line[place]
        elif change == 4:
            line[place] = misspelt(rng, line[place]) if line[place] else "-"
        elif change == 5:
            line += [str(choose(rng, flags))] * int(rng.integers(1, 4))
        elif flags:
            line += [str(choose(rng, flags)), str(choose(rng, WORDS))]
        line = line or [""]
    return line, False


def as_flag(setting: str, value: Any) -> list[str]:
    flag = "--" + setting.replace("_", "-")
    if isinstance(value, bool):
        return [flag if value else f"--no-{flag[2:]}"]
    return [flag, *map(str, value if isinstance(value, tuple) else (value,))]


@pytest.fixture
def reached(monkeypatch: pytest.MonkeyPatch) -> list[argparse.Namespace]:
    """The command lines that reached a command; what is named there is looked up, and then nothing is done."""
    build_only(monkeypatch)
    lines: list[argparse.Namespace] = []

    def look_up(args: argparse.Namespace) -> int:
        from evaluation.presets import find_preset

        if args.command in ("preview", "headroom"):
            make_family(args.family)
        elif args.command in ("resume", "evaluate", "render"):
            find_run(args.run)
        elif args.command == "benchmark":
            find_preset(args.preset).narrowed(args.families, args.arms)
        lines.append(args)
        return 0

    def train(args: argparse.Namespace, real: Callable[[argparse.Namespace], int] = quickstudy.train) -> int:
        code = real(args)
        lines.append(args)
        return code

    for name in quickstudy.COMMANDS:
        monkeypatch.setitem(quickstudy.COMMANDS, name, train if name == "train" else look_up)
    return lines


def is_valid(args: argparse.Namespace) -> bool:
    """Are all numbers of an accepted line such that the command can be done, and its paths such as files can have?"""
    most = {"tasks": 10_000, "episodes": 10_000, "seeds": 100, "threads": 1024, "task": 9_999}
    for name, value in vars(args).items():
        if isinstance(value, int) and not isinstance(value, bool) and not 0 <= value <= most.get(name, MAX_STEPS):
            return False
        if isinstance(value, Path) and (not str(value).isprintable() or any(len(part) > 255 for part in value.parts)):
            return False
    return getattr(args, "tasks", 1) * getattr(args, "episodes", 1) <= 1_000_000


def test_generated_command_lines(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    reached: list[argparse.Namespace],
    cases: Callable[[int, int], int],
    figure: Callable[[str, str], None],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "closed").mkdir(mode=0o000)
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").write_text("text")
    (tmp_path / "settings.toml").write_text("[train]\nkeep = 3\n")
    (tmp_path / "binary.toml").write_bytes(bytes(range(256)))
    there = files_in(tmp_path)
    count = cases(30, 200)
    refused = 0
    for case in range(count):
        line, valid = command(np.random.default_rng([52, case]))
        before = len(reached)
        with memory_limit(6 * GIBIBYTE):
            answer = ask(line)
        accepted = answer.code == 0 and len(reached) == before + 1 and is_valid(reached[-1])
        helped = answer.code == 0 and answer.out.startswith(("usage: ", "quickstudy "))
        assert accepted or helped or answer.is_complaint, (case, line, answer)
        assert accepted or not valid, (case, line, answer)
        assert files_in(tmp_path) == there, (case, line)
        refused += answer.is_complaint
    assert 0 < refused < count
    figure("generated command lines", f"{count - refused} accepted, {refused} refused in one line")


def test_a_line_that_is_wrong_would_be_noticed() -> None:
    """The judge of the answers can say no."""
    good = Answer(2, "", "quickstudy: error: no\n")
    assert good.is_complaint
    for bad in ({"code": 1}, {"err": ""}, {"err": "quickstudy: error: \n"}, {"err": good.err * 2}, {"err": "no\n"}):
        assert not dataclasses.replace(good, **bad).is_complaint
    assert not dataclasses.replace(good, err="quickstudy: error: \x1b[2J\n").is_complaint
