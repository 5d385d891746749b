"""Damaged files of results: each is refused with one line, or, where what it says is the same, so is the result."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from answers import Answer, ask
from damage import damaged
from tiny_benchmark import register

import evaluation.report
import quickstudy
from evaluation.results import Results

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


@dataclass(frozen=True)
class Damaged:
    """A copy of results in which `file` holds `data` in place of `original`, and what quickstudy said of it."""

    copy: Path
    original: bytes
    data: bytes
    answer: Answer


def read_damaged(whole: Path, file: str, count: int, seed: int, *, sums: bool) -> Iterator[Damaged]:
    """So many copies, each with other damage, with their sums or without."""
    rng = np.random.default_rng([seed, len(file)])
    for _ in range(count):
        copy = copy_of(whole, file)
        for path in [] if sums else copy.rglob("SHA256SUMS"):
            path.unlink()
        original = (copy / file).read_bytes()
        data = damaged(original, rng)
        (copy / file).write_bytes(data)
        words = ["report", str(copy)] if KINDS[file] == "report" else ["benchmark", "tiny", "--out", str(copy)]
        yield Damaged(copy, original, data, ask(words))


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
    file: str, whole: Path, cases: Callable[[int, int], int], figure: Callable[[str, str], None]
) -> None:
    count, refused = cases(8, 200), 0
    for found in read_damaged(whole, file, count, 51, sums=True):
        if found.answer.code == 0:
            assert says_the_same(file, found.data, found.original)
            assert found.answer.err == ""
            assert (found.copy / "summary.json").read_bytes() == (whole / "summary.json").read_bytes()
        else:
            assert found.answer.is_complaint, found.answer
            assert Path(file).name in found.answer.err
            assert (found.copy / file).read_bytes() == found.data  # whether to throw it away is not ours to say
            refused += 1
    told = f"{refused} of {count} refused with one line"
    if refused < count:
        told += f", {count - refused} that say nothing else gave the same results"
    figure(f"damaged {file}", told)


@pytest.mark.parametrize("file", ["episodes.csv", "episodes.csv.gz", "tasks.json", "protocol.json", CELL])
def test_damaged_results_without_sums_are_never_a_traceback(
    file: str, whole: Path, cases: Callable[[int, int], int], figure: Callable[[str, str], None]
) -> None:
    """Tables from elsewhere have no sums: a flipped digit is then as good as another."""
    count, refused = cases(8, 200), 0
    for found in read_damaged(whole, file, count, 52, sums=False):
        assert found.answer.is_complaint or (found.answer.code, found.answer.err) == (0, ""), found.answer
        refused += found.answer.code == 2
    figure(f"damaged, without sums: {file}", f"{refused} of {count} refused with one line, none a traceback")
