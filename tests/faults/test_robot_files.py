"""Whatever a robot file holds, the path that loads it gives a model or one line, soon, and its process lives."""

from __future__ import annotations

import ctypes
import resource
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import mujoco
import numpy as np
import pytest
from robot_files import BOMBS, mutant

from envs.errors import UserError
from envs.user_model import load_model

MOST_SECONDS = 10.0
MOST_GROWTH = 8e6  # bytes of resident memory, over all files


def resident() -> int:
    """Bytes of resident memory, without what is free and kept for later: a suite's process keeps the most it needed."""
    if sys.platform == "linux" and hasattr(ctypes.CDLL(None), "malloc_trim"):
        ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def outcome(path: Path, **limits: float) -> str:
    """`model`, or the line. Everything else that a file may do to this process fails the test."""
    begin = time.monotonic()
    try:
        model = load_model(path, **limits)  # type: ignore[arg-type]
    except UserError as error:
        line = str(error)
        assert line.isprintable()
        assert str(path) in line
        assert len(line) < 500 + len(str(path))
        found = line
    else:
        data = mujoco.MjData(model)
        for _ in range(10):
            mujoco.mj_step(model, data)
        assert np.isfinite(data.qpos).all()
        found = "model"
    assert time.monotonic() - begin < MOST_SECONDS
    return found


def contents(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, Path]]:
    """A folder for robot files, and one that is both where temporary files go and the current one: it stays empty."""
    robots, here = tmp_path / "robots", tmp_path / "here"
    robots.mkdir()
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("TMPDIR", str(here))
    yield robots, here
    assert not contents(here), "something was left behind"


def test_mutants(
    places: tuple[Path, Path], cases: Callable[[int, int], int], figure: Callable[[str, str], None]
) -> None:
    robots, _ = places
    path = robots / "robot.xml"
    seen: Counter[str] = Counter()
    slowest, before = 0.0, 0
    count = cases(13, 500)
    for number in range(count):
        kind, text = mutant(number)
        path.write_bytes(text)
        begin = time.monotonic()
        found = outcome(path)
        slowest = max(slowest, time.monotonic() - begin)
        seen["loaded" if found == "model" else "refused"] += 1
        seen["crashed"] += "crashes MuJoCo" in found or "ends MuJoCo" in found
        assert path.read_bytes() == text, kind
        if number == 5:
            before = resident()
    growth = resident() - before
    assert contents(robots) == {"robot.xml"}
    assert growth < MOST_GROWTH
    assert min(seen["loaded"], seen["refused"]) >= count // 10, "the mutants are all good, or all hopeless"
    figure(
        "mutated robot files",
        f"{count} of {count} a model ({seen['loaded']}) or one line ({seen['refused']}, of which MuJoCo crashed in "
        f"{seen['crashed']}); slowest {slowest:.1f} s, memory {growth / 1e6:+.1f} MB",
    )


def test_bombs(places: tuple[Path, Path], cases: Callable[[int, int], int], figure: Callable[[str, str], None]) -> None:
    robots, _ = places
    count = cases(4, len(BOMBS))
    limits = {"seconds": 2.0} if count == 4 else {}
    before = resident()
    slowest = 0.0
    for bomb in BOMBS[:count]:
        folder = robots / bomb.__name__
        folder.mkdir()
        path = bomb(folder)
        files = contents(folder)
        begin = time.monotonic()
        found = outcome(path, **limits)
        slowest = max(slowest, time.monotonic() - begin)
        assert found != "model", bomb.__name__
        assert contents(folder) == files
        shutil.rmtree(folder)
    assert resident() - before < MOST_GROWTH
    figure("robot files made to hang, crash or lie", f"{count} of {count} one line; slowest {slowest:.1f} s")
