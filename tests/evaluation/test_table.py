"""The raw table reads back as written, and says where it is wrong."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from probes import ProbeTask

from envs.errors import UserError
from evaluation.table import COLUMNS, Episode, find_episodes, read_episodes, read_tasks, write_episodes, write_tasks

ROW = Episode("grasp", "1", "test", "maml", 0, 3, 2, "adapt", 120, 1.25, True)
LINE = "grasp,1,test,maml,0,3,2,adapt,0,120,1.25,1"
HEADER = "family,version,split,agent,seed,task,episode,role,start,env_steps,return,success"


def test_the_table_is_as_documented(tmp_path: Path) -> None:
    write_episodes(tmp_path / "episodes.csv", [ROW])
    assert (tmp_path / "episodes.csv").read_text() == f"{HEADER}\n{LINE}\n"
    assert read_episodes(tmp_path / "episodes.csv") == [ROW]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["SHA256SUMS", "episodes.csv"]


def test_rows_are_sorted_and_probes_stand_before_the_episode_that_follows(tmp_path: Path) -> None:
    def row(agent: str, task: int, episode: int, role: str, result: float, start: int = 0) -> Episode:
        return Episode("grasp", "1", "test", agent, 0, task, episode, role, 0, result, False, start)  # type: ignore[arg-type]

    rows = [
        row("rl2", 10, 0, "probe", 5.0),
        row("rl2", 2, 10, "probe", 4.0),
        row("rl2", 2, 0, "adapt", 3.0),
        row("rl2", 2, 0, "probe", 1.0, start=1),
        row("rl2", 2, 0, "probe", 2.0),
        row("maml", 99, 0, "probe", 0.0),
    ]
    write_episodes(tmp_path / "episodes.csv", rows)
    # 2 before 10 as numbers; two probes of one policy in the order of their starts.
    assert [row.episode_return for row in read_episodes(tmp_path / "episodes.csv")] == [0.0, 2.0, 1.0, 3.0, 4.0, 5.0]


@pytest.mark.parametrize(
    ("column", "value", "right"),
    [
        ("family", "", "a name"),
        ("split", "dev", "one of train, test, ood"),
        ("seed", "-1", "a whole number of 0 or more"),
        ("task", "1.0", "a whole number of 0 or more"),
        ("episode", "1_0", "a whole number of 0 or more"),
        ("role", "Probe", "one of adapt, probe"),
        ("start", "", "a whole number of 0 or more"),
        ("env_steps", "", "a whole number of 0 or more"),
        ("return", "many", "a number"),
        ("return", "nan", "a finite number"),
        ("return", "inf", "a finite number"),
        ("success", "True", "one of 0, 1"),
    ],
)
def test_a_wrong_value_is_named_with_its_place(tmp_path: Path, column: str, value: str, right: str) -> None:
    path = tmp_path / "episodes.csv"
    values = LINE.split(",")
    values[COLUMNS.index(column)] = value
    path.write_text(f"{HEADER}\n{LINE}\n{','.join(values)}\n")
    with pytest.raises(UserError) as error:
        read_episodes(path)
    assert str(error.value) == f"{path}, line 3, column '{column}': must be {right}, got '{value}'"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: the columns must be family,version"),
        (HEADER.replace("role,", "") + "\n", "line 1: the columns must be family,version"),
        (HEADER + "\n", "has no rows"),
        (f"{HEADER}\n{LINE}\n{LINE[:-10]}", "line 3: 12 columns expected, got 10"),
    ],
)
def test_a_broken_table_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "episodes.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_episodes(path)


def test_an_episode_that_stands_there_twice_is_refused(tmp_path: Path) -> None:
    path, probe = tmp_path / "episodes.csv", LINE.replace("adapt,0", "probe,1")
    for line in (LINE, probe):
        path.write_text("\n".join([HEADER, line, LINE.replace("maml", "rl2"), line.replace("1.25", "1.5")]) + "\n")
        role = line.split(",")[COLUMNS.index("role")]
        with pytest.raises(UserError, match=f"line 4: the {role} episode of line 2 once more"):
            read_episodes(path)


def test_tables_without_starts_are_read_and_probes_numbered_in_their_order(tmp_path: Path) -> None:
    """As earlier versions wrote them."""
    path, old = tmp_path / "episodes.csv", LINE.replace("adapt,0", "adapt")
    header = HEADER.replace("start,", "")
    probes = [old.replace("adapt", "probe").replace("1.25", f"{result}") for result in (3.0, 1.0, 2.0)]
    other = probes[0].replace("maml", "rl2")
    path.write_text("\n".join([header, *probes[:2], old, other, probes[2]]) + "\n")
    rows = read_episodes(path)
    assert [(row.agent, row.role, row.start, row.episode_return) for row in rows] == [
        ("maml", "probe", 0, 3.0),
        ("maml", "probe", 1, 1.0),
        ("maml", "adapt", 0, 1.25),
        ("rl2", "probe", 0, 3.0),
        ("maml", "probe", 2, 2.0),
    ]
    write_episodes(path, rows)
    assert path.read_text().startswith(HEADER)
    assert sorted(read_episodes(path), key=lambda row: row.order) == sorted(rows, key=lambda row: row.order)
    (tmp_path / "SHA256SUMS").unlink()
    path.write_text("\n".join([header, old, old]) + "\n")
    with pytest.raises(UserError, match="line 3: the adapt episode of line 2 once more"):
        read_episodes(path)


def test_a_missing_table_says_what_makes_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"run `quickstudy evaluate` or `quickstudy benchmark` first"):
        read_episodes(tmp_path / "episodes.csv")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\xff\xfe", "is not text: byte 0 is not UTF-8"),
        (HEADER.encode() + b"\n" + b"x" * 200_000 + b"\n", "line 2: not CSV"),
        (f"{HEADER}\n{LINE.replace('120', '9' * 5000)}\n".encode(), "a whole number of at most 18 digits, got '999"),
        (f"{HEADER}\n{LINE.replace('1.25', '1e308')}\n".encode(), "a number within 1e\\+100, got '1e308'"),
        (f"{HEADER}\n{LINE.replace('1.25', '1_0')}\n".encode(), "a number, got '1_0'"),
        (b"\0" * 99, "line 1: the columns must be"),
    ],
)
def test_no_bytes_are_too_odd(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "episodes.csv").write_bytes(data)
    with pytest.raises(UserError, match=message):
        read_episodes(tmp_path / "episodes.csv")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\xff\xfe", "is not text: byte 0 is not UTF-8"),
        (b"[" * 100_000, "nested too deep"),
        (b"\0", "line 1: not JSON"),
        (b'{"a": NaN}', "numbers must be finite, got NaN"),
        (b'{"a": 1e999}', "numbers must be finite, got 1e999"),
        (b"9" * 5000, "a whole number must have at most 18 digits, got 999"),
    ],
)
def test_no_json_is_too_odd(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "tasks.json").write_bytes(data)
    with pytest.raises(UserError, match=message):
        read_tasks(tmp_path / "tasks.json")


def test_a_compressed_table_is_the_same_table(tmp_path: Path) -> None:
    plain, compressed = tmp_path / "episodes.csv", tmp_path / "episodes.csv.gz"
    write_episodes(plain, [ROW])
    assert find_episodes(tmp_path) == plain
    compressed.write_bytes(gzip.compress(plain.read_bytes()))
    assert find_episodes(tmp_path) == plain
    plain.unlink()
    assert find_episodes(tmp_path) == compressed
    assert read_episodes(compressed) == [ROW]
    compressed.write_bytes(compressed.read_bytes()[:-12])
    with pytest.raises(UserError, match=r"episodes\.csv\.gz is not a whole gzip file"):
        read_episodes(compressed)
    compressed.write_text("family,version\n")
    with pytest.raises(UserError, match=r"episodes\.csv\.gz is not a whole gzip file"):
        read_episodes(compressed)
    compressed.unlink()
    assert find_episodes(tmp_path) == plain


def test_tasks_read_back(tmp_path: Path) -> None:
    write_tasks(tmp_path / "tasks.json", {"probe": {"test": [ProbeTask(0.5), ProbeTask(-1.0)], "ood": []}})
    assert read_tasks(tmp_path / "tasks.json") == {"probe": {"test": [{"goal_m": 0.5}, {"goal_m": -1.0}], "ood": []}}
    (tmp_path / "SHA256SUMS").unlink()
    (tmp_path / "tasks.json").write_text("[1]")
    with pytest.raises(UserError, match="must hold the tasks by family and split"):
        read_tasks(tmp_path / "tasks.json")
    (tmp_path / "tasks.json").write_text("{")
    with pytest.raises(UserError, match="line 1: not JSON"):
        read_tasks(tmp_path / "tasks.json")
