"""What `train --help` says of recipes, and flags whose values are too few or too large."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import quickstudy
from command_line import TASKS
from training.flags import typed
from training.recipes import RECIPES


def call(capsys: pytest.CaptureFixture[str], line: str) -> tuple[int, str, str]:
    try:
        code = quickstudy.main(line.split())
    except SystemExit as end:
        code = int(end.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize(("agent", "family"), [("rl2", "grasp"), ("maml", "terrain"), ("ppo-oracle", "terrain-planar")])
def test_help_tells_the_defaults_that_training_begins_with(
    capsys: pytest.CaptureFixture[str], agent: str, family: str
) -> None:
    code, out, _ = call(capsys, f"train {agent} {family} --help")
    recipe = RECIPES[agent, family]
    assert code == 0
    assert f"\nsettings of {agent} for {family}:\n" in out
    told = dict(re.findall(r"^  --([\w-]+).*\n.*\(default: (\S+) by the recipe, .* without\)$", out, flags=re.M))
    assert told == {
        name.replace("_", "-"): typed(value) for name, value in {**recipe.settings, "steps": recipe.steps}.items()
    }


@pytest.mark.parametrize("line", ["train rl2 --help", "train rl2 point --help", "train rl2 nowhere --help"])
def test_help_without_a_recipe_tells_the_agents_own_defaults(capsys: pytest.CaptureFixture[str], line: str) -> None:
    code, out, _ = call(capsys, line)
    assert code == 0
    assert "\nsettings of rl2:\n" in out
    assert "by the recipe" not in out


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("train maml grasp --hidden-sizes", "--hidden-sizes needs one value or more"),
        ("train maml grasp --hidden-sizes --inner-lr 0.1", "--hidden-sizes needs one value or more"),
        (f"render nowhere --task {TASKS}", f"--task: {TASKS} is too large: tasks are numbered from 0 to {TASKS - 1}"),
        ("render nowhere --task -1", "argument --task: '-1' is not a whole number"),
        ("headroom", "the following arguments are required: FAMILY"),
        ("headroom gasp", "no family is called 'gasp': did you mean 'grasp'?"),
        ("headroom grasp --splits tset", "invalid choice: 'tset'"),
        ("headroom grasp --seeds 0", "argument --seeds: must be 1 or more, got 0"),
        ("headroom grasp --budget 3", "there is no flag --budget"),
    ],
)
def test_a_mistake_is_answered_in_one_line_and_leaves_no_trace(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = call(capsys, line)
    assert code == 2
    assert says in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_the_last_task_that_can_be_named_is_not_too_large(capsys: pytest.CaptureFixture[str]) -> None:
    assert "'nowhere' is neither a run" in call(capsys, f"render nowhere --task {TASKS - 1}")[2]
