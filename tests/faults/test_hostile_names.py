"""Names that are code, paths or orders to a terminal: nothing is run, imported or written, and the answer is one line.

An audit hook of the interpreter sees every import, file, process and connection while a command runs. It cannot be
taken away again, so it looks away when `Watch` is not on.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from answers import ask, files_in

import evaluation.benchmark
import evaluation.film
import evaluation.headroom
import evaluation.preview
import evaluation.report  # noqa: F401  # all that the commands import, before the watch is on: libraries look around
from agents.catalogue import make_agent
from agents.maml import MamlConfig
from envs.families import make_family
from training.config import recipe_config, run_config_from_data
from training.train import train

CODE = (
    "os:system",
    "evil:Agent",
    "evil",
    "probes:ProbeLearner",
    "agents.maml:Maml",
    "__import__('os').system('touch pwned')",
    "$(touch pwned)",
    "`touch pwned`",
    "; touch pwned",
    "!!python/object/apply:os.system",
    "{0.__class__}",
    "%s%s%n",
)
PATHS = ("../../x", "/etc/passwd", "maml/../../x", "/dev/null/x", "~root", "..", ".", "C:\\x", "file:///etc/passwd")
ORDERS = (
    "maml\x1b[2J",
    "\x1b]0;title\x07",
    "a\nquickstudy: done",
    "a\x00b",
    "\x9b31m",
    "a\rb",
    "\x08\x08",
    "\udcff\udcfe",
)
LONG = ("n" * 300, "n" * 5000, "n/" * 2500)
NAMES = (*CODE, *PATHS, *ORDERS, *LONG)
ABROAD = {
    "os.system",
    "subprocess.Popen",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "os.forkpty",
    "os.spawn",
    "pty.spawn",
}
ABROAD |= {"socket.connect", "socket.bind", "pickle.find_class", "ctypes.dlopen", "webbrowser.open"}
CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.chmod", "os.truncate"}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Watch:
    """What happens in the interpreter while it is on that no answer to a hostile name may need."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.on = False
        self.seen: list[str] = []

    def __call__(self, event: str, details: tuple[Any, ...]) -> None:
        if self.on and (event in ABROAD or self._is_bait(event, details) or self._is_outside(event, details)):
            self.seen.append(f"{event} {details}")

    def _is_bait(self, event: str, details: tuple[Any, ...]) -> bool:
        if event == "import":
            return str(details[0]).partition(".")[0] in ("evil", "probes")
        return event == "compile" and "touch pwned" in str(details[0])

    def _is_outside(self, event: str, details: tuple[Any, ...]) -> bool:
        opened = event == "open" and isinstance(details[2], int) and details[2] & WRITES
        if not (opened or event in CHANGES) or isinstance(details[0], int) or os.fsdecode(details[0]) == os.devnull:
            return False
        return self.folder not in Path(os.path.abspath(os.fsdecode(details[0]))).parents


_watches: list[Watch] = []


def _hook(event: str, details: tuple[Any, ...]) -> None:
    for watch in _watches:
        watch(event, details)


@pytest.fixture
def watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    """In a folder with a module that a name might import; on from here to the end of the test."""
    if not _watches:
        sys.addaudithook(_hook)
    folder = tmp_path / "here"
    folder.mkdir()
    (tmp_path / "evil.py").write_text("from pathlib import Path\nPath('pwned').touch()\nclass Agent: pass\n")
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "evil", raising=False)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    make_agent(
        "maml", MamlConfig(), make_family("bandit"), seed=0
    )  # torch makes itself a folder when the first optimiser is made
    watch = Watch(folder)
    _watches[:] = [watch]
    watch.on = True
    yield watch
    watch.on = False


def refused(watch: Watch, line: list[str], there: set[str]) -> None:
    watch.on = True
    answer = ask(line)
    watch.on = False
    assert answer.is_complaint, (line, answer)
    assert watch.seen == [], (line, watch.seen)
    assert files_in(watch.folder) == there, line
    assert "evil" not in sys.modules


def some(names: tuple[str, ...], count: int, whole: int) -> tuple[str, ...]:
    """All names with `make faults`; otherwise every so many."""
    return names if count >= whole else names[:: max(1, len(names) // count)]


def test_names_in_a_config_file(
    watch: Watch, cases: Callable[[int, int], int], figure: Callable[[str, str], None]
) -> None:
    file = Path("config.json")
    names = some(NAMES, cases(6, 1000), 1000)
    for name in names:
        for data in (
            {"agent": name, "family": "bandit"},
            {"agent": "maml", "family": name},
            {"agent": "maml", "family": "bandit", "family_version": name},
            {"agent": "maml", "family": "bandit", "agent_config": {"activation": name}},
            {"agent": "maml", "family": "bandit", "agent_config": {name: 1}},
            {"agent": "maml", "family": "bandit", "train": {"seed": name, "__class__": name}},
            {"agent": "maml", "family": "bandit", name: {"_target_": "os.system", "args": ["touch pwned"]}},
            {"agent": "maml", "family": "bandit", "agent_config": {"__reduce__": ["os.system", [name]]}},
        ):
            watch.on = False
            file.write_text(json.dumps(data), encoding="utf-8")
            refused(watch, ["train", "maml", "bandit", "--config", str(file), "--out", "run"], {"config.json"})
    figure("hostile names in a config", f"{8 * len(names)} refused in one line, nothing run or written")


def test_names_on_the_command_line(
    watch: Watch, cases: Callable[[int, int], int], figure: Callable[[str, str], None]
) -> None:
    names = some(NAMES, cases(6, 1000), 1000)
    count = 0
    for name in names:
        for line in (
            ["train", name, "bandit"],
            ["train", "maml", name],
            ["train", "maml", "bandit", "--activation", name],
            ["train", "maml", "bandit", "--steps", "1", "--config", name],
            ["preview", name],
            ["resume", name],
            ["evaluate", name],
            ["evaluate", "maml/terrain-planar", "--as", name],
            ["render", name],
            ["render", "maml/terrain-planar", "--against", name],
            ["benchmark", name, "--out", "new"],
            ["benchmark", "demo", "--families", name, "--out", "new"],
            ["benchmark", "demo", "--arms", name, "--out", "new"],
            ["benchmark", "demo", "--runs", name, "--out", "new"],
            ["headroom", name],
            ["report", name],
        ):
            refused(watch, line, set())
            count += 1
    for name in (*ORDERS, *LONG, ""):
        for line in (
            ["train", "maml", "bandit", "--steps", "1", "--out", name],
            ["preview", "bandit", "--count", "1", "--out", name],
            ["evaluate", "maml/terrain-planar", "--out", name],
            ["render", "maml/terrain-planar", "--out", name],
            ["benchmark", "quick", "--out", name],
            ["benchmark", "quick", "--out", "new", "--runs", name],
        ):
            refused(watch, line, set())
            count += 1
    for name in ("/proc/1/x", "/dev/null/x"):  # to try there is what was asked for
        for line in (
            ["train", "maml", "bandit", "--steps", "1", "--out", name],
            ["preview", "bandit", "--count", "1", "--out", f"{name}.png"],
            ["evaluate", "maml/terrain-planar", "--tasks", "1", "--episodes", "5", "--out", name],
            ["benchmark", "quick", "--out", name],
        ):
            assert ask(line).is_complaint, line
            count += 1
    figure("hostile names on the command line", f"{count} refused in one line, nothing run or written")


@pytest.mark.parametrize("name", [*CODE[:3], *PATHS[:2], *ORDERS[:2]])
def test_the_config_of_a_run(watch: Watch, name: str) -> None:
    for field in ("agent", "family"):
        watch.on = False
        run = Path("run")
        run.mkdir(exist_ok=True)
        data = {"agent": "maml", "family": "bandit"} | {field: name}
        (run / "config.json").write_text(json.dumps(data), encoding="utf-8")
        there = {"run", "run/config.json"}
        for line in (["evaluate", "run"], ["resume", "run"], ["render", "run"], ["benchmark", "quick", "--runs", "."]):
            refused(watch, [*line, *(["--out", "new"] if line[0] == "benchmark" else [])], there)


def test_a_run_whose_folder_gives_orders_to_the_terminal(watch: Watch) -> None:
    """Found in the folder that --runs names, not typed: it is spoken of in messages and must not act there."""
    watch.on = False
    runs = Path("runs")
    config = recipe_config("ppo-robust", "bandit").to_json() | {
        "agent_config": {"meta_batch_size": 2, "episodes_per_task": 1, "epochs": 1, "batch_size": 8},
        "train": {"steps": 1, "evaluate_every": 0, "threads": 1},
    }
    train(run_config_from_data(config, "test"), runs / "plain")
    (runs / "plain").rename(runs / "\x1b]0;title\x07")
    there = files_in(watch.folder)
    for line in (
        ["headroom", "bandit", "--runs", "runs", "--steps", "1", "--seeds", "1", "--out", "new"],
        ["benchmark", "quick", "--families", "bandit", "--arms", "ppo-robust", "--runs", "runs", "--out", "new"],
    ):
        refused(watch, line, there)


def test_the_watch_sees(watch: Watch) -> None:
    """What it must see it does see."""
    import subprocess

    subprocess.run(["true"], check=True)
    __import__("evil")
    Path("../pwned").touch()
    Path("inside").touch()
    watch.on = False
    events = [seen.split()[0] for seen in watch.seen]
    assert events.count("subprocess.Popen") == 1
    assert "import" in events
    assert [seen for seen in watch.seen if "../pwned" in seen]
    assert not [seen for seen in watch.seen if "inside" in seen]
