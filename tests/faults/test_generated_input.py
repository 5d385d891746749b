"""Generated configs and command lines: accepted and valid, or one clear line, exit code 2 and nothing written.

The whole command `train` runs but for the training itself, in whose place the agent is built and, where it is small,
one iteration is made. Of the other commands parsing and the look-ups by name run; what they would do takes hours.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from answers import Answer, ask, files_in, memory_limit

import command_line
import quickstudy
import training.train
from agents.catalogue import TRAINABLE, agent_class
from envs.families import make_family
from envs.simulation import TaskBatch
from envs.task import SPLITS
from training.config import RunConfig
from training.loop import MAX_STEPS, TrainConfig, iterate
from training.memory import refuse_too_large
from training.run import RunDirectory, build_agent, find_run

FAMILIES = ("bandit", "bandit-3x4", "point")
SMALL = {
    "meta_batch_size": 2,
    "episodes_per_step": 2,
    "episodes_per_task": 2,
    "trials_per_task": 1,
    "episodes_per_trial": 2,
    "minibatches": 1,
    "hidden_sizes": (4,),
    "hidden_size": 4,
    "head_size": 4,
    "epochs": 1,
    "conjugate_gradient_steps": 2,
    "evaluate_tasks": 1,
    "evaluate_rounds": 1,
}
"""Values of the settings that decide how long an iteration takes."""
STEPS_TO_TRY = 3000  # larger iterations are not made
SETTINGS_TO_TRY = ("epochs", "inner_steps", "conjugate_gradient_steps")
GIBIBYTE = 2**30

NUMBERS = [
    "0",
    "-1",
    "1",
    "7",
    "0.5",
    "-0.0",
    "1e400",
    "-1e400",
    "1e308",
    "1e-300",
    "1_000",
    "0x10",
    "007",
    "1e3",
    "+5",
]
NUMBERS += ["1000000000", "1000000000000", str(2**53), str(2**64), str(10**30), "9" * 400, "9" * 4299, "1.5"]
ODD_TEXT = ["", "x", "fast", "é", "\u202eabc", "💥", "%s%n", "$(id)", "`id`", "../../x", "None", "True", "x" * 20_000]
BOTH = [*NUMBERS, "[]", "[[1]]", "[4, 4]", '[1, "x"]', "[" + ", ".join(["8"] * 500) + "]", "true", "false", "{}"]
TOML_VALUES = [
    *BOTH,
    "nan",
    "inf",
    "-inf",
    "1979-05-27",
    "07:32:00",
    "{a = 1}",
    "[{a = 1}]",
    '"\\u001b[2J"',
    "'''\n'''",
]
JSON_VALUES = [*BOTH, "NaN", "Infinity", "-Infinity", "null", '{"a": 1}', '[{"a": 1}]', '"\\u001b[2J"', '"\\ud800"']
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


def choose(rng: np.random.Generator, values: Any) -> Any:
    return values[int(rng.integers(len(values)))]


def valid_value(rng: np.random.Generator, name: str, kind: Any, default: Any) -> Any:
    """A value of a setting that has to be accepted."""
    if typing.get_origin(kind) is typing.Literal:
        return choose(rng, typing.get_args(kind))
    if name in SMALL:
        return SMALL[name]
    if isinstance(default, bool):
        return bool(rng.integers(2))
    if isinstance(default, float):
        return round(default * float(rng.uniform(0.5, 1.0)), 4) if default else 0.0
    return default


def valid_settings(rng: np.random.Generator, kind: type, share: float) -> dict[str, Any]:
    kinds = typing.get_type_hints(kind)
    return {
        field.name: valid_value(rng, field.name, kinds[field.name], field.default)
        for field in dataclasses.fields(kind)
        if field.name in SMALL or rng.random() < share
    }


def misspelt(rng: np.random.Generator, name: str) -> str:
    place = int(rng.integers(len(name)))
    return choose(rng, [name[:place] + name[place + 1 :], name[:place] + "é" + name[place:], name.upper(), name * 2])


# -- configs -----------------------------------------------------------------------------------------------------------


def config_text(rng: np.random.Generator, toml: bool) -> tuple[str, str, bytes, bool]:
    """(agent, family, the text of a config, must it be accepted?)."""
    agent, family = str(choose(rng, TRAINABLE)), str(choose(rng, FAMILIES))
    write = _toml if toml else json.dumps
    tables = {
        "agent_config": {k: write(v) for k, v in valid_settings(rng, agent_class(agent).config_type, 0.4).items()},
        "train": {k: write(v) for k, v in valid_settings(rng, TrainConfig, 0.3).items()},
    }
    top = {"agent": json.dumps(agent), "family": json.dumps(family)}
    if rng.random() < 0.3:
        return agent, family, _text(top, tables, toml).encode(), True
    for _ in range(int(rng.integers(1, 4))):
        table = tables[str(choose(rng, list(tables)))]
        kind = agent_class(agent).config_type if table is tables["agent_config"] else TrainConfig
        name, value = choose(rng, dataclasses.fields(kind)).name, choose(rng, TOML_VALUES if toml else JSON_VALUES)
        change = int(rng.integers(6))
        if change < 3:
            table[name] = value
        elif change == 3:
            table[misspelt(rng, name)] = value
        elif change == 4:
            top[str(choose(rng, ["agent", "family", "family_version", "sha256", "trian", "__class__"]))] = value
        else:
            tables[str(choose(rng, ["trian", "agent_config.x", "train2", "sha256"]))] = {name: value}
    text = _text(top, tables, toml).encode("utf-8", "surrogatepass")
    return agent, family, damaged(rng, text) if rng.random() < 0.2 else text, False


def damaged(rng: np.random.Generator, text: bytes) -> bytes:
    """Cut short, overwritten, repeated, nested without end, of another encoding, or nothing."""
    place = int(rng.integers(len(text)))
    noise = rng.integers(0, 256, 20, dtype=np.uint8).tobytes()
    return choose(
        rng,
        [
            text[:place],
            text[:place] + noise + text[place:],
            text * 2,
            b"[" * 100_000,
            b"a = " + b"[" * 3000 + b"]" * 3000,
            b'{"train": ' + b'{"a":' * 3000 + b"1" + b"}" * 3001,
            b"\xef\xbb\xbf" + text,
            text.decode("utf-8", "replace").encode("utf-16"),
            b"",
            b"\x00" * 100,
            b"[]",
            b"# " + b"x" * 2_000_000,
        ],
    )


def _toml(value: Any) -> str:
    return "[" + ", ".join(map(_toml, value)) + "]" if isinstance(value, tuple) else json.dumps(value)


def _text(top: dict[str, str], tables: dict[str, dict[str, str]], toml: bool) -> str:
    if toml:
        lines = [f"{_key(name)} = {value}" for name, value in top.items()]
        for title, table in tables.items():
            lines += [f"[{title}]", *(f"{_key(name)} = {value}" for name, value in table.items())]
        return "\n".join(lines) + "\n"
    rows = [f"{json.dumps(name)}: {value}" for name, value in top.items()]
    for title, table in tables.items():
        inside = ", ".join(f"{json.dumps(name)}: {value}" for name, value in table.items())
        rows.append(f"{json.dumps(title)}: {{{inside}}}")
    return "{" + ",\n".join(rows) + "}"


def _key(name: str) -> str:
    return name if name.isascii() and name.replace("_", "").isalnum() else json.dumps(name)


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[RunConfig]:
    """The configs that reached training, of which the agent was built and an iteration made if it is a small one."""
    reached: list[RunConfig] = []

    def build(config: RunConfig, out: Path) -> RunDirectory:
        family = make_family(config.family)
        learner = build_agent(config, family)
        refuse_too_large(learner, family, config.train)
        assert all(tensor.isfinite().all() for tensor in learner.state().values())
        steps = learner.meta_batch_size * learner.train_episodes * learner.rounds * family.horizon
        passes = max(getattr(config.agent_config, name, 1) for name in SETTINGS_TO_TRY)
        if steps <= STEPS_TO_TRY and passes <= 20:
            settings = dataclasses.replace(config.train, threads=1)
            done = iterate(learner, family, settings, 0)
            assert 0 < done.env_steps <= steps
            assert done.skipped or all(math.isfinite(value) for value in done.metrics.values())
        else:
            tasks = family.sample("train", min(learner.meta_batch_size, 20), np.random.default_rng(0))
            batch = TaskBatch(family, tasks, min(learner.train_episodes, 2), threads=1, privileged=learner.privileged)
            assert np.isfinite(batch.reset(seed=0)).all()
        reached.append(config)
        return RunDirectory(out)

    monkeypatch.setattr(training.train, "train", build)
    return reached


@pytest.mark.parametrize("toml", [True, False], ids=["toml", "json"])
def test_generated_configs(
    toml: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    built: list[RunConfig],
    cases: Callable[[int, int], int],
    figure: Callable[[str, str], None],
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / ("config.toml" if toml else "config.json")
    count = cases(12, 200)
    refused = 0
    for case in range(count):
        rng = np.random.default_rng([51, toml, case])
        agent, family, text, valid = config_text(rng, toml)
        file.write_bytes(text)
        before = len(built)
        with memory_limit(6 * GIBIBYTE):
            answer = ask(["train", agent, family, "--config", str(file), "--out", "run"])
        accepted = answer.code == 0 and len(built) == before + 1
        assert accepted or answer.is_complaint, (case, text[:500], answer)
        assert accepted or not valid, (case, text[:500], answer)
        assert files_in(tmp_path) == {file.name}, (case, text[:500])
        refused += not accepted
    assert 0 < refused < count
    figure(
        f"generated configs, {'TOML' if toml else 'JSON'}", f"{count - refused} accepted, {refused} refused in one line"
    )


# -- command lines -----------------------------------------------------------------------------------------------------

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
def reached(monkeypatch: pytest.MonkeyPatch, built: list[RunConfig]) -> list[argparse.Namespace]:
    """The command lines that reached a command; what is named there is looked up, and then nothing is done."""
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
