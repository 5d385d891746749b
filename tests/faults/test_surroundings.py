"""Machines that lack something: no display, no OpenGL, no home, no git, an install that cannot be written.

Each case is a process of its own that trains for a few hundred steps and evaluates what it trained. Films need more:
what `render` lacks it says in one line.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODE = "import sys; sys.path.insert(0, sys.argv.pop(1)); import quickstudy; sys.exit(quickstudy.main(sys.argv[1:]))"
TRAIN = (
    *("train", "rl2", "bandit", "--steps", "200", "--meta-batch-size", "2", "--trials-per-task", "1", "--threads", "1"),
    *("--minibatches", "1", "--hidden-size", "4", "--evaluate-every", "100", "--evaluate-tasks", "2"),
)
EVALUATE = ("--tasks", "2", "--episodes", "2", "--threads", "1")
PR_CAPBSET_DROP, LAST_CAPABILITY = 24, 40
MUST_STAY = ("PATH", "LANG", "HOME", "TMPDIR")


@dataclass(frozen=True)
class Surroundings:
    """without: variables taken away; given: others. before: what the child does before it becomes quickstudy."""

    without: tuple[str, ...] = ()
    given: dict[str, str] = field(default_factory=dict)
    before: Callable[[], None] | None = None


def close_standard_output() -> None:
    os.close(1)


def delete_the_folder() -> None:
    """The one that the process stands in."""
    os.rmdir(os.getcwd())


def drop_privileges() -> None:
    """Root may write anywhere; without its capabilities the bits count for it as well."""
    for capability in range(LAST_CAPABILITY + 1):
        ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)


ASCII = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
CASES = {
    "no HOME folder": Surroundings(given={"HOME": "/nonexistent"}),
    "ASCII streams": Surroundings(given=ASCII),
    "a GL that is not there": Surroundings(without=("DISPLAY", "WAYLAND_DISPLAY"), given={"MUJOCO_GL": "osmesa"}),
    "no HOME, no USER": Surroundings(without=("HOME", "USER", "LOGNAME")),
    "no TMPDIR folder": Surroundings(given={"TMPDIR": "/nonexistent/tmp"}),
    "stdout closed": Surroundings(before=close_standard_output),
    "no TERM, no git": Surroundings(without=("TERM",), given={"PATH": "/nonexistent"}),
    "no variable at all": Surroundings(without=tuple(os.environ)),
}


def start(
    *arguments: str, folder: Path, around: Surroundings | None = None, root: Path = ROOT, stdout: int = subprocess.PIPE
) -> subprocess.Popen[bytes]:
    """quickstudy as a process of its own, from the tree at `root`."""
    around = around or Surroundings()
    environment = {name: value for name, value in os.environ.items() if name not in around.without}
    return subprocess.Popen(
        [sys.executable, "-P", "-c", CODE, str(root), *arguments],
        cwd=folder,
        env=environment | {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"} | around.given,
        preexec_fn=around.before,
        stdout=stdout,
        stderr=subprocess.PIPE,
    )


def ended(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    """Exit code and what stood on stderr."""
    _, err = process.communicate(timeout=300)
    return process.returncode, err.decode()


def trains_and_evaluates(folder: Path, around: Surroundings, root: Path = ROOT) -> None:
    """Into `folder`; nothing is said on stderr."""
    run, out = folder / "run", folder / "out"
    for line in ((*TRAIN, "--out", str(run)), ("evaluate", str(run), *EVALUATE, "--out", str(out))):
        assert ended(start(*line, folder=folder, around=around, root=root)) == (0, ""), line
    assert len((run / "progress.jsonl").read_text().splitlines()) == 3
    assert (out / "report.html").stat().st_size > 10_000
    assert (out / "episodes.csv").read_text().count("\n") > 10


def test_trains_and_evaluates(
    tmp_path: Path, cases: Callable[[int, int], int], figure: Callable[[str, str], None]
) -> None:
    names = list(CASES)[: cases(1, len(CASES))]
    for name in names:
        folder = tmp_path / name.replace(" ", "-")
        folder.mkdir()
        trains_and_evaluates(folder, CASES[name])
    figure("poor surroundings", f"trains and evaluates with each of {len(names)}: {'; '.join(names)}")


def test_an_install_that_cannot_be_written(
    tmp_path: Path, cases: Callable[[int, int], int], figure: Callable[[str, str], None]
) -> None:
    if not cases(0, 1):
        pytest.skip("with `make faults`")
    installed, folder = tmp_path / "installed", tmp_path / "mine"
    folder.mkdir()
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("assets", "envs", "agents", "training", "evaluation"):
        shutil.copytree(ROOT / name, installed / name, ignore=ignored)
    for name in ("quickstudy.py", "command_line.py", "doctor.py", "pyproject.toml"):
        shutil.copyfile(ROOT / name, installed / name)
    everything = sorted([installed, *installed.rglob("*")])
    for path in everything:
        path.chmod(path.stat().st_mode & ~0o222)
    around = Surroundings(given={"PYTHONDONTWRITEBYTECODE": ""}, before=drop_privileges)
    touch = subprocess.run(["touch", str(installed / "new")], preexec_fn=drop_privileges, check=False, stderr=-3)
    assert touch.returncode != 0, "the install could be written: the case shows nothing"
    try:
        trains_and_evaluates(folder, around, installed)
        assert sorted([installed, *installed.rglob("*")]) == everything
    finally:
        for path in everything:
            path.chmod(path.stat().st_mode | 0o200)
    figure("read-only install", "trains and evaluates; nothing written in it")


def test_training_outlives_whoever_looks_on(tmp_path: Path, figure: Callable[[str, str], None]) -> None:
    """`quickstudy train ... | head`: nobody reads any more, and the run is whole all the same."""
    read, write = os.pipe()
    process = start(*TRAIN, "--out", str(tmp_path / "run"), folder=tmp_path, stdout=write)
    os.close(write)
    os.close(read)
    code, err = ended(process)
    assert (code in (0, 141), err) == (True, "")
    assert (tmp_path / "run" / "checkpoints" / "iteration-00000003").is_dir()
    figure("broken pipe", "training goes on to its end")


def test_a_folder_that_was_deleted_is_one_line(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    process = start(*TRAIN, "--out", str(tmp_path / "run"), folder=gone, around=Surroundings(before=delete_the_folder))
    code, err = ended(process)
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("quickstudy: error: the folder that this runs in cannot be used")
    assert not (tmp_path / "run").exists()


def test_render_says_what_is_missing(
    tmp_path: Path, cases: Callable[[int, int], int], figure: Callable[[str, str], None]
) -> None:
    backends = ("osmesa", "disable", "nonsense", "glfw", "egl")[: cases(1, 5)]
    film, drawn = tmp_path / "film.mp4", 0
    for backend in backends:
        around = Surroundings(without=("DISPLAY", "WAYLAND_DISPLAY"), given={"MUJOCO_GL": backend})
        line = ("render", "maml/terrain-planar", "--episodes", "5", "--out", str(film))
        code, err = ended(start(*line, folder=tmp_path, around=around))
        if code == 0 and backend not in ("disable", "nonsense"):
            assert film.stat().st_size > 10_000
            film.unlink()
            drawn += 1
            continue
        assert (code, err.count("\n")) == (2, 1), err
        assert err.startswith("quickstudy: error: ")
        assert backend in err
        assert not film.exists()
    told = len(backends) - drawn
    figure("render without its OpenGL", f"{drawn} of {len(backends)} settings draw, {told} say in one line why not")
