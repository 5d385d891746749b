"""Damaged files of results: each is refused with one line, or, where what it says is the same, so is the result."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tiny_benchmark import register

import evaluation.report
import quickstudy
from evaluation.results import Results

Outcome = tuple[int, str]  # exit code, what stands on stderr

CELL = "cells/probe.test.scratch.0.csv"
# The file that is damaged, and the command that reads it.
KINDS = {
    "episodes.csv": "report",
    "episodes.csv.gz": "report",
    "tasks.json": "report",
    "protocol.json": "report",
    "SHA256SUMS": "report",
    CELL: "benchmark",
    "cells/SHA256SUMS": "benchmark",
}


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """The preset `tiny`, and a report that reads everything and draws nothing."""

    def read_alone(directory: Path) -> Path:
        Results.read(directory)
        return directory

    register(monkeypatch.setitem)
    monkeypatch.setattr(evaluation.report, "write_report", read_alone)


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """Results as they should be; the damaged ones take their place one after another."""
    path = tmp_path / "whole"
    assert quickstudy.main(["benchmark", "tiny", "--out", str(path), "--threads", "1"]) == 0
    return path


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """Cut off somewhere, or with one to eight bits flipped."""
    if rng.random() < 0.5:
        return data[: rng.integers(len(data))]
    flipped = np.frombuffer(data, np.uint8).copy()
    for bit in rng.choice(8 * len(data), size=rng.integers(1, 9), replace=False):
        flipped[bit // 8] ^= 1 << bit % 8
    return flipped.tobytes()


def copy_of(whole: Path, file: str) -> Path:
    """Another folder with the same results, compressed where a compressed table is asked for."""
    path = whole.with_name("copy")
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(whole, path)
    if file.endswith(".gz"):
        plain = path / "episodes.csv"
        (path / file).write_bytes(gzip.compress(plain.read_bytes(), 9, mtime=0))
        plain.unlink()
    return path


def read(directory: Path, command: str, capsys: pytest.CaptureFixture[str]) -> Outcome:
    words = ["report", str(directory)] if command == "report" else ["benchmark", "tiny", "--out", str(directory)]
    code = quickstudy.main(words)
    return code, capsys.readouterr().err


def says_the_same(file: str, data: bytes, original: bytes) -> bool:
    """Is there nothing wrong with what a damaged file says of the results?

    Sums may have lost their last lines: nothing that they are about has changed. And the summary is computed anew, with
    its sum.
    """
    if file.endswith(".gz"):
        return gzip.decompress(data) == gzip.decompress(original)
    lines, before = ([line.replace(b" *", b"  ") for line in text.splitlines()] for text in (data, original))
    return file.endswith("SHA256SUMS") and all(
        line == other or other.endswith(b"  summary.json") for line, other in zip(lines, before, strict=False)
    )


@pytest.mark.parametrize("file", KINDS)
def test_damaged_results_are_never_taken_for_good_ones(
    file: str,
    whole: Path,
    cases: Callable[[int, int], int],
    figure: Callable[[str, str], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    count, refused, rng = cases(8, 200), 0, np.random.default_rng([51, len(file)])
    for _ in range(count):
        copy = copy_of(whole, file)
        original = (copy / file).read_bytes()
        data = damaged(original, rng)
        (copy / file).write_bytes(data)
        capsys.readouterr()
        code, complaint = read(copy, KINDS[file], capsys)
        if code == 0:
            assert says_the_same(file, data, original)
            assert complaint == ""
            assert (copy / "summary.json").read_bytes() == (whole / "summary.json").read_bytes()
        else:
            assert code == 2, complaint
            assert complaint.startswith("quickstudy: error: ")
            assert complaint.count("\n") == 1
            assert Path(file).name in complaint
            assert (copy / file).read_bytes() == data  # whether to throw it away is not ours to say
            refused += 1
    told = f"{refused} of {count} refused with one line"
    if refused < count:
        told += f", {count - refused} that say nothing else gave the same results"
    figure(f"damaged {file}", told)


@pytest.mark.parametrize("file", ["episodes.csv", "episodes.csv.gz", "tasks.json", "protocol.json", CELL])
def test_damaged_results_without_sums_are_never_a_traceback(
    file: str,
    whole: Path,
    cases: Callable[[int, int], int],
    figure: Callable[[str, str], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Tables from elsewhere have no sums: a flipped digit is then as good as another."""
    count, refused, rng = cases(8, 200), 0, np.random.default_rng([52, len(file)])
    for _ in range(count):
        copy = copy_of(whole, file)
        for sums in copy.rglob("SHA256SUMS"):
            sums.unlink()
        (copy / file).write_bytes(damaged((copy / file).read_bytes(), rng))
        capsys.readouterr()
        code, complaint = read(copy, KINDS[file], capsys)
        assert (code, complaint.count("\n")) in ((0, 0), (2, 1)), complaint
        refused += code == 2
    figure(f"damaged, without sums: {file}", f"{refused} of {count} refused with one line, none a traceback")
