"""Results are read only as they were written: what was altered, or leads elsewhere, is refused with one line."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from probes import ProbeTask

from envs.errors import UserError
from evaluation import sums
from evaluation.summarise import summarise_directory
from evaluation.summary import Protocol, read_summary, write_protocol
from evaluation.sums import SUMS_FILE, read_checked, read_sums, write_checked
from evaluation.table import Episode, read_episodes, read_tasks, write_episodes, write_tasks, write_text

ROWS = [Episode("probe", "1", "test", "maml", 0, 0, episode, "probe", 0, 1.25, True) for episode in (0, 1)]
PROTOCOL = Protocol(
    "small", "quickstudy", {"probe": "1"}, ("test",), ("maml",), 1, 1, False, 1, 0, (0,), {"probe": 10}, {}, {}
)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A folder as a benchmark leaves it."""
    folder = tmp_path / "results"
    write_protocol(folder, PROTOCOL)
    write_tasks(folder / "tasks.json", {"probe": {"test": [ProbeTask(0.5)]}})
    write_episodes(folder / "cells" / "probe.test.maml.0.csv", ROWS)
    write_episodes(folder / "episodes.csv", ROWS)
    summarise_directory(folder)
    return folder


def flip(path: Path, old: bytes = b"1.25", new: bytes = b"1.35") -> None:
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, 1))


def test_the_sums_are_those_of_sha256sum(results: Path) -> None:
    assert list(read_sums(results)) == ["episodes.csv", "protocol.json", "summary.json", "tasks.json"]
    program = shutil.which("sha256sum")
    if program is None:
        pytest.skip("this machine has no sha256sum")
    for folder in (results, results / "cells"):
        names = sorted(path.name for path in folder.iterdir() if path.is_file() and path.name != SUMS_FILE)
        made = subprocess.run([program, *names], cwd=folder, capture_output=True, check=True, text=True).stdout
        assert (folder / SUMS_FILE).read_text() == made
        subprocess.run([program, "-c", "--strict", SUMS_FILE], cwd=folder, capture_output=True, check=True)


def test_a_flipped_digit_is_refused_until_its_line_is_deleted(results: Path) -> None:
    flip(results / "episodes.csv")
    with pytest.raises(UserError) as error:
        read_episodes(results / "episodes.csv")
    assert str(error.value) == (
        f"{results / 'episodes.csv'} does not match SHA256SUMS beside it: restore it, or delete the line 'episodes.csv'"
        " there if the change was meant"
    )
    lines = (results / SUMS_FILE).read_text().splitlines(keepends=True)
    (results / SUMS_FILE).write_text("".join(line for line in lines if "episodes.csv" not in line))
    assert read_episodes(results / "episodes.csv")[0].episode_return == 1.35


def test_the_summary_is_checked_and_can_be_made_again(results: Path) -> None:
    before = (results / "summary.json").read_bytes()
    flip(results / "summary.json")
    with pytest.raises(UserError, match=r"summary\.json does not match SHA256SUMS"):
        read_summary(results)
    summarise_directory(results)
    assert (results / "summary.json").read_bytes() == before
    read_summary(results)


def test_a_folder_without_sums_is_read_and_gets_none(results: Path) -> None:
    (results / SUMS_FILE).unlink()
    summarise_directory(results)
    assert not (results / SUMS_FILE).exists()
    flip(results / "episodes.csv")
    assert read_episodes(results / "episodes.csv")[0].episode_return == 1.35


def test_a_compressed_table_has_the_sum_of_its_contents(results: Path) -> None:
    plain, compressed = results / "episodes.csv", results / "episodes.csv.gz"
    compressed.write_bytes(gzip.compress(plain.read_bytes(), mtime=0))
    flip(plain)
    other = gzip.compress(plain.read_bytes(), mtime=0)
    plain.unlink()
    assert read_episodes(compressed) == ROWS
    compressed.write_bytes(other)
    with pytest.raises(UserError, match=r"episodes\.csv\.gz does not match SHA256SUMS"):
        read_episodes(compressed)


def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sums, "LARGEST_BYTES", 1000)
    (tmp_path / "episodes.csv.gz").write_bytes(gzip.compress(b"0" * 1001))
    with pytest.raises(UserError, match="holds more than 1000 bytes"):
        read_episodes(tmp_path / "episodes.csv.gz")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "ends within a line"),
        (b"0" * 64 + b"  episodes.csv", "ends within a line"),
        (b"\xff\n", "not text"),
        (b"0" * 63 + b"  episodes.csv\n", "line 1 is not a SHA-256, two blanks and a name"),
        (b"0" * 64 + b"  ../episodes.csv\n", "line 1 is not a SHA-256, two blanks and a name"),
        (b"0" * 64 + b"  episodes.csv\n\n", "line 2 is not a SHA-256, two blanks and a name"),
    ],
)
def test_damaged_sums_are_refused(results: Path, data: bytes, message: str) -> None:
    (results / SUMS_FILE).write_bytes(data)
    with pytest.raises(UserError, match=f"SHA256SUMS is damaged.*{message}.*restore it, or delete it"):
        read_tasks(results / "tasks.json")


def test_a_damaged_name_takes_no_file_off_the_list(results: Path) -> None:
    flip(results / SUMS_FILE, b"tasks.json", b"tacks.json")
    with pytest.raises(UserError) as error:
        read_tasks(results / "tasks.json")
    assert str(error.value) == (
        f"{results / SUMS_FILE} names 'tacks.json', which is not there, and not 'tasks.json': restore it, or delete"
        " that line"
    )
    read_episodes(results / "episodes.csv")
    (results / "tacks.json").touch()
    read_tasks(results / "tasks.json")


def test_every_moment_of_replacing_a_file_is_readable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever write a process is killed before, what it leaves is readable, and the same write mends the rest."""
    path = tmp_path / "protocol.json"
    real, left = sums.replace_file, [0]

    def killed(at: Path, data: bytes) -> None:
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        real(at, data)

    monkeypatch.setattr(sums, "replace_file", killed)
    for present in (None, b"old\n"):
        for named in (True, False):
            for writes in range(3):
                shutil.rmtree(tmp_path)
                tmp_path.mkdir()
                left[0] = 10
                if present is not None:
                    write_checked(path, present)
                if not named:
                    (tmp_path / SUMS_FILE).unlink(missing_ok=True)
                left[0] = writes
                if writes < (2 if present is None else 3):
                    with pytest.raises(KeyboardInterrupt):
                        write_checked(path, b"new\n")
                    assert not path.exists() or read_checked(path) in (present, b"new\n")
                left[0] = 10
                write_checked(path, b"new\n")
                assert read_checked(path) == b"new\n"
                assert (tmp_path / SUMS_FILE).read_text().count("\n") == 1
                assert sorted(file.name for file in tmp_path.iterdir()) == [SUMS_FILE, "protocol.json"]


def test_links_are_neither_read_nor_written(results: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.csv"
    shutil.copy(results / "episodes.csv", outside)
    (results / "episodes.csv").unlink()
    (results / "episodes.csv").symlink_to(outside)
    (tmp_path / "link").symlink_to(results)
    before = outside.read_bytes()
    with pytest.raises(UserError, match=r"episodes\.csv is a symbolic link"):
        read_episodes(results / "episodes.csv")
    with pytest.raises(UserError, match=r"episodes\.csv is a symbolic link"):
        write_episodes(results / "episodes.csv", ROWS[:1])
    with pytest.raises(UserError, match="link is a symbolic link"):
        read_tasks(tmp_path / "link" / "tasks.json")
    for name in ("report.html", "new.html"):
        with pytest.raises(UserError, match="link is a symbolic link"):
            write_text(tmp_path / "link" / name, "text")
    (results / SUMS_FILE).rename(tmp_path / SUMS_FILE)
    (results / SUMS_FILE).symlink_to(tmp_path / SUMS_FILE)
    with pytest.raises(UserError, match="SHA256SUMS is a symbolic link"):
        read_tasks(results / "tasks.json")
    assert outside.read_bytes() == before
    assert not (results / "new.html").exists()


def test_what_is_no_file_is_refused(results: Path) -> None:
    (results / "tasks.json").unlink()
    (results / "tasks.json").mkdir()
    with pytest.raises(UserError, match=r"tasks\.json is not a file"):
        read_tasks(results / "tasks.json")
    with pytest.raises(UserError, match=r"tasks\.json is not a file"):
        write_tasks(results / "tasks.json", {})
    (results / "episodes.csv").unlink()
    os.mkfifo(results / "episodes.csv")
    with pytest.raises(UserError, match=r"episodes\.csv is not a file"):
        read_episodes(results / "episodes.csv")
    with pytest.raises(UserError, match=r"there is no file .*x/tasks\.json"):
        read_tasks(results / "protocol.json" / "x" / "tasks.json")
    with pytest.raises(UserError, match=r"cannot write .*File exists|cannot write .*Not a directory"):
        write_text(results / "protocol.json" / "report.html", "text")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_named(results: Path) -> None:
    (results / "tasks.json").chmod(0)
    with pytest.raises(UserError, match=r"cannot read .*tasks\.json: Permission denied"):
        read_tasks(results / "tasks.json")
    results.chmod(0)
    try:
        with pytest.raises(UserError, match=r"cannot read .*: Permission denied"):
            read_tasks(results / "tasks.json")
    finally:
        results.chmod(0o700)
