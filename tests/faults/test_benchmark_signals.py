"""A benchmark that is stopped or killed again and again measures no cell twice, and ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from evaluation.sums import read_checked, read_sums

WITHIN_SECONDS = 5.0
TICK_SECONDS = 1.0 / os.sysconf("SC_CLK_TCK")
OPERATIONS = 40  # on the disk, in a life that is not cut short
MADE = ("episodes.csv", "protocol.json", "tasks.json", "summary.json", "SHA256SUMS", "cells/SHA256SUMS", "report.html")


class Lives:
    """One benchmark after another, each in as many processes as it takes."""

    def __init__(self, folder: Path, server: subprocess.Popen[str]) -> None:
        self.folder, self.server = folder, server
        self.number = 0
        begun = time.monotonic()
        self.go_on()
        self.finish()
        self.seconds = time.monotonic() - begun
        self.whole = self.made()
        self.number = 1

    @property
    def out(self) -> Path:
        return self.folder / str(self.number) / "out"  # the protocol names its last part

    def go_on(self, kill_in_write: int = 0) -> int:
        """Start a process, with the same words as the one before, and wait until it catches signals."""
        words = ["benchmark", "tiny", "--out", str(self.out), "--threads", "1"]
        asked = {
            "words": words,
            "said": str(self.folder / "said"),
            "complaint": str(self.folder / "complaint"),
            "kill_in_write": kill_in_write,
        }
        assert self.server.stdin is not None
        print(json.dumps(asked), file=self.server.stdin, flush=True)
        process = int(self._answer()[0])
        while not self._catches(process, signal.SIGTERM):
            time.sleep(0.001)
        return process

    def _answer(self) -> list[str]:
        assert self.server.stdout is not None
        return self.server.stdout.readline().split()

    def _catches(self, process: int, number: signal.Signals) -> bool:
        """Or has it ended?"""
        try:
            status = dict(line.split(":\t", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
        except FileNotFoundError:
            return True
        return status["State"].startswith("Z") or bool(int(status["SigCgt"], 16) >> (number - 1) & 1)

    def ended(self) -> tuple[int, str, float]:
        """Exit code of the process, what it complained about, and the seconds of processor time that it took."""
        code, seconds = self._answer()
        return int(code), (self.folder / "complaint").read_text(), float(seconds)

    def finish(self) -> None:
        assert self.ended()[:2] == (0, ""), (self.folder / "said").read_text()

    def made(self) -> dict[str, bytes]:
        return {name: (self.out / name).read_bytes() for name in MADE}

    def cells(self) -> dict[str, tuple[bytes, int]]:
        """Contents, and when they were written, of the finished cells: each matches its sum."""
        folder = self.out / "cells"
        paths = sorted(folder.glob("*.csv"))
        assert {path.name for path in paths} <= set(read_sums(folder))
        return {path.name: (read_checked(path), path.stat().st_mtime_ns) for path in paths}

    def begin_another(self) -> None:
        assert self.made() == self.whole
        litter = [path for path in self.out.rglob("*") if path.name.startswith(".")]
        assert litter == []
        self.number += 1

    def cut_short(self, stop: Callable[[], int]) -> bool:
        """Live once more, to the exit code that `stop` gives. Was it cut short? What was finished is as it was."""
        before = self.cells()
        code = stop()
        after = self.cells()
        assert {name: after[name] for name in before} == before
        if code == 0:
            self.begin_another()
        return code != 0

    def some_time(self, random: np.random.Generator) -> None:
        time.sleep(float(random.uniform(0.0, 0.6 * self.seconds)))


def send(process: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # it was quicker
        os.kill(process, number)


def processor_seconds(process: int) -> float:
    """That a process has taken so far; 0 for one that has ended."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) * TICK_SECONDS


@pytest.fixture(scope="module")
def lives(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lives]:
    if not Path("/proc/self/status").exists():
        pytest.skip("when a process catches signals is read from /proc")
    with subprocess.Popen(
        [sys.executable, str(Path(__file__).parent / "tiny_benchmark.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as server:
        yield Lives(tmp_path_factory.mktemp("benchmark"), server)


def test_a_benchmark_that_is_stopped_goes_on_with_the_same_command(
    lives: Lives, cases: Callable[[int, int], int], figure: Callable[[str, str], None]
) -> None:
    stops, random, slowest, stopped = cases(2, 20), np.random.default_rng(21), 0.0, 0

    def stop() -> int:
        nonlocal slowest
        number = (signal.SIGTERM, signal.SIGINT)[stopped % 2]
        process = lives.go_on()
        lives.some_time(random)
        before, sent = processor_seconds(process), time.monotonic()
        send(process, number)
        code, complaint, used = lives.ended()
        if code != 0:
            # By the clock where the machine has nothing else to do; one that is busy must not make the test fail.
            slowest = max(slowest, min(time.monotonic() - sent, used - before + TICK_SECONDS))
            line = f"quickstudy: stopped by {number.name}: finished cells are kept, the same command goes on\n"
            assert (code, complaint) == (128 + number, line)
        return code

    while stopped < stops:
        stopped += lives.cut_short(stop)
    lives.go_on()
    lives.finish()
    lives.begin_another()
    assert slowest < WITHIN_SECONDS
    figure(
        "SIGTERM and Ctrl-C: benchmark",
        f"{stops} of {stops} went on, the slowest stopped after {slowest:.1f} s, no finished cell measured again,"
        " same bytes",
    )


def test_a_benchmark_that_is_killed_goes_on_with_the_same_command(
    lives: Lives, cases: Callable[[int, int], int], figure: Callable[[str, str], None]
) -> None:
    kills, random, killed, in_write = cases(1, 20), np.random.default_rng(22), 0, 0

    def kill() -> int:
        if killed % 2:
            process = lives.go_on()
            lives.some_time(random)
            send(process, signal.SIGKILL)
        else:
            lives.go_on(kill_in_write=int(random.integers(1, OPERATIONS)))
        code, complaint, _ = lives.ended()
        assert (code in (0, -signal.SIGKILL), complaint) == (True, "")
        return code

    while killed < kills:
        cut = lives.cut_short(kill)
        in_write += cut and not killed % 2
        killed += cut
    lives.go_on()
    lives.finish()
    lives.begin_another()
    figure(
        "kill -9: benchmark",
        f"{kills} of {kills} went on, {in_write} of them in a write, no finished cell measured again, same bytes",
    )
