"""A disk that is full, read-only or gone: the last good checkpoint stays, one line says why, nothing is left lying."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lives import Story, launch, remains
from rich.console import Console

from envs.errors import UserError
from training import checkpoint
from training import train as training
from training.run import RunConfig, make_run_config
from training.train import TrainConfig, resume, train

PAGE = 4096


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """`small_disk(pages)` is a file system of that many pages of 4 kB; again with another number, it is that large."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(pages: int, *options: str) -> Path:
        option = ",".join([f"size={pages * PAGE}", *(("remount",) if folder.is_mount() else ()), *options])
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", option, "tmpfs", folder], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"a small disk takes the right to mount one: {done.stderr.strip()}")
        return folder

    yield mount
    if folder.is_mount():
        subprocess.run(["umount", folder], check=True)


@pytest.fixture
def config(probe_family: str) -> RunConfig:
    """Ten iterations of RL2 with a checkpoint after each."""
    settings = {"meta_batch_size": 4, "trials_per_task": 1, "hidden_size": 16, "head_size": 16, "episodes_per_trial": 2}
    made = make_run_config("rl2", probe_family)
    return make_run_config(
        "rl2",
        probe_family,
        type(made.agent_config)(**settings),
        TrainConfig(steps=800, seed=3, threads=1, evaluate_every=0, checkpoint_every=80),
    )


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "RETRIES", (0.0, 0.05))


def quiet() -> Console:
    return Console(file=io.StringIO())


def litter(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if "unfinished" in path.name]


def one_line(error: BaseException) -> str:
    assert "\n" not in str(error)
    return str(error)


def test_a_full_disk_keeps_the_last_checkpoint_and_more_room_mends_it(
    tmp_path: Path,
    config: RunConfig,
    small_disk: Callable[..., Path],
    impatient: None,
    cases: Callable[[int, int], int],
    figure: Callable[[str, str], None],
) -> None:
    whole = remains(train(config, tmp_path / "whole", quiet()))
    size = sum(-(-path.stat().st_size // PAGE) for path in (tmp_path / "whole").rglob("*") if path.is_file())
    points = [int(pages) for pages in np.linspace(2, size - 2, cases(3, 20))]
    resumed = 0
    for pages in points:
        disk = small_disk(pages)
        with pytest.raises(UserError) as full:
            train(config, disk / "run", quiet())
        line = one_line(full.value)
        assert re.search(r"cannot write .*/run\S* (\(\d+ bytes\): )?.*No space left on device", line), line
        assert not litter(disk)
        if (disk / "run").exists():
            checkpoint.latest(disk / "run" / "checkpoints", pytest.fail)
            small_disk(20 * size)
            assert remains(resume(disk / "run", None, quiet())) == whole
            resumed += 1
        small_disk(20 * size)
        shutil.rmtree(disk / "run", ignore_errors=True)
    figure(
        "disk full",
        f"{len(points)} of {len(points)} points: one line, no litter; with room again {resumed} resumed to the same"
        f" bits, {len(points) - resumed} had not begun",
    )


def test_saving_is_tried_again_while_the_disk_is_full(
    tmp_path: Path, config: RunConfig, small_disk: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "RETRIES", (0.5, 1.0, 2.0))
    whole = remains(train(config, tmp_path / "whole", quiet()))
    disk = small_disk(4000)
    ballast = disk / "ballast"
    save, filled = checkpoint.save, []

    def save_on_a_disk_that_fills(folder: Path, tensors: Any, counters: Any, generators: Any) -> Path:
        if counters.iteration == 4 and not filled:
            free = shutil.disk_usage(disk).free
            filled.append(free)
            ballast.write_bytes(bytes(free - PAGE))
            threading.Timer(0.3, ballast.unlink).start()
        return save(folder, tensors, counters, generators)

    monkeypatch.setattr(checkpoint, "save", save_on_a_disk_that_fills)
    with (tmp_path / "said").open("w") as file:
        run = train(config, disk / "run", Console(file=file, width=500))
    said = [line for line in (tmp_path / "said").read_text().splitlines() if "trying again in" in line]
    assert len(said) == 1
    assert "No space left on device" in said[0]
    assert remains(run) == whole


def test_a_disk_that_turns_read_only(
    config: RunConfig, small_disk: Callable[..., Path], impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = small_disk(4000)
    run = train(config, disk / "run", quiet())
    before = remains(run)
    small_disk(4000, "ro")
    for attempt in (lambda: resume(run.path, 1600, quiet()), lambda: train(config, disk / "other", quiet())):
        with pytest.raises(UserError, match="Read-only file system") as refused:
            attempt()
        assert str(disk) in one_line(refused.value)
    assert remains(run) == before
    small_disk(4000, "rw")
    resume(run.path, 1600, quiet())


def test_a_folder_that_vanishes_while_training(
    tmp_path: Path, config: RunConfig, impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = checkpoint.save

    def save_where_nothing_is_left(folder: Path, tensors: Any, counters: Any, generators: Any) -> Path:
        if counters.iteration == 4:
            shutil.rmtree(folder.parent, ignore_errors=True)
        return save(folder, tensors, counters, generators)

    monkeypatch.setattr(checkpoint, "save", save_where_nothing_is_left)
    with pytest.raises(UserError, match="No such file or directory") as refused:
        train(config, tmp_path / "run", quiet())
    assert str(tmp_path / "run") in one_line(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_a_limit_on_the_size_of_files_is_one_line_too(tmp_path: Path) -> None:
    story = Story("rl2", tmp_path)
    words = story.train(story.run.path, 8000)
    process = launch(words, QUICKSTUDY_FILE_SIZE="3000")  # smaller than the weights
    said, complaint = process.communicate()
    assert process.returncode == 2, complaint
    assert complaint.startswith("quickstudy: error: cannot write")
    assert complaint.count("\n") == 1
    assert "File too large" in complaint
    assert not story.run.path.exists()  # not even the first checkpoint could be written
    assert not litter(tmp_path)
    assert said.count("trying again in") == 3
