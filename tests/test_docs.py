"""The documentation against the code: its Python runs, its commands parse, methods and files that it names exist."""

from __future__ import annotations

import inspect
import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

import quickstudy
from agents import catalogue
from agents.agent import Agent, Learner
from agents.catalogue import AGENTS
from command_line import parse
from envs.task import TaskFamily

ROOT = Path(__file__).parent.parent
FAMILY, AGENT = ROOT / "docs" / "adding-a-family.md", ROOT / "docs" / "adding-an-agent.md"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a language; "" for those that name none."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [text for named, text in found if named == language]


def methods(page: Path) -> list[tuple[str, list[str]]]:
    """(name, parameters) of each method that begins a row of a table."""
    rows = re.findall(r"^\| `(\w+)\(([^)`]*)\)` \|", page.read_text(encoding="utf-8"), re.MULTILINE)
    return [(name, re.findall(r"\w+", parameters)) for name, parameters in rows]


def lines(page: Path) -> list[str]:
    """What is typed after `quickstudy` in its blocks of commands."""
    typed = [line.partition(" #")[0].strip() for text in blocks(page, "") for line in text.splitlines()]
    return [line.removeprefix("quickstudy ") for line in typed if line.startswith("quickstudy ")]


@pytest.mark.parametrize(("page", "kinds"), [(FAMILY, (TaskFamily,)), (AGENT, (Agent, Learner))])
def test_methods_have_the_parameters_that_the_page_gives(page: Path, kinds: tuple[Any, ...]) -> None:
    named = methods(page)
    assert len(named) >= 7
    for name, parameters in named:
        kind = next(kind for kind in kinds if hasattr(kind, name))
        assert parameters == [p for p in inspect.signature(getattr(kind, name)).parameters if p != "self"], name
    if page == AGENT:
        asked = {name for kind in kinds for name, value in vars(kind).items() if inspect.isfunction(value)}
        assert {name for name in asked if name[0] != "_"} <= {name for name, _ in named}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_parse(page: Path) -> None:
    for line in lines(page):
        parse(shlex.split(line))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_results_go_to_no_folder_that_a_clone_brings(page: Path) -> None:
    for line in lines(page):
        out = getattr(parse(shlex.split(line)), "out", None)
        assert out is None or not (ROOT / out).exists(), line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_are_named_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"`((?:assets|agents|envs|training|evaluation|benchmarks|tests)/[\w/.-]+\.\w+)`", text):
        assert (ROOT / name).is_file(), name
    for name in re.findall(r"\]\(((?!http)[^)#]+)(?:#[\w-]+)?\)", text):
        assert (page.parent / name).exists(), name


def test_the_python_of_the_family_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_robot.xml").write_text("<mujoco/>")
    names: dict[str, Any] = {"__name__": "page"}
    for text in blocks(FAMILY, "python"):
        exec(compile(text, str(FAMILY), "exec", dont_inherit=True), names)
    assert names["model"].nbody == 1
    assert names["ReachTask"](0.25, 1.0).to_json() == {"goal_m": 0.25, "payload_kg": 1.0}


def test_the_agent_of_the_page_trains_and_adapts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (text,) = blocks(AGENT, "python")
    (tmp_path / "mine_of_the_page.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(AGENTS, "mine", "mine_of_the_page:Mine")
    monkeypatch.setattr(catalogue, "TRAINABLE", (*catalogue.TRAINABLE, "mine"))
    run, out = tmp_path / "run", tmp_path / "out"
    line = f"train mine point --steps 20000 --learning-rate 0.2 --evaluate-every 10000 --threads 1 --out {run}"
    assert quickstudy.main(line.split()) == 0
    assert quickstudy.main(f"evaluate {run} --tasks 8 --episodes 8 --threads 1 --out {out}".split()) == 0
    capsys.readouterr()
    summary = json.loads((out / "summary.json").read_text())
    (agent,) = summary["results"][0]["agents"]
    assert agent["gain"]["value"] > 0  # the best of four episodes is better than none
    sys.modules.pop("mine_of_the_page", None)
