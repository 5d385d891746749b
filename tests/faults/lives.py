"""A run of the real command line that is cut short again and again, and what is left of it in the end."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training import checkpoint
from training.run import RunDirectory

DRIVER = Path(__file__).parent / "driver.py"
ENDLESS = 10**8

TRAIN = """
[train]
seed = 3
threads = 1
evaluate_every = {evaluate_every}
evaluate_tasks = 2
evaluate_rounds = 2
checkpoint_every = {checkpoint_every}
"""
SETTINGS = {
    "maml": ("meta_batch_size = 3\nepisodes_per_step = 2\nhidden_sizes = [8, 8]", 120),
    "rl2": ("meta_batch_size = 4\ntrials_per_task = 1\nhidden_size = 8\nhead_size = 8\nepisodes_per_trial = 2", 80),
    "ppo-robust": ("meta_batch_size = 4\nepisodes_per_task = 3\nhidden_sizes = [8]\nbatch_size = 40", 120),
    "ppo-oracle": ("meta_batch_size = 4\nepisodes_per_task = 3\nhidden_sizes = [8]\nbatch_size = 40", 120),
}
"""For each agent that trains: settings of a small one, and the environment steps of one of its iterations."""


@dataclass(frozen=True)
class Story:
    """One agent's run in `folder`/run, with a checkpoint every third iteration and an evaluation every seventh."""

    agent: str
    folder: Path

    @property
    def run(self) -> RunDirectory:
        return RunDirectory(self.folder / "run")

    @property
    def iteration_steps(self) -> int:
        return SETTINGS[self.agent][1]

    def config(self) -> Path:
        settings, steps = SETTINGS[self.agent]
        path = self.folder / "config.toml"
        table = TRAIN.format(evaluate_every=7 * steps, checkpoint_every=3 * steps)
        path.write_text(f'agent = "{self.agent}"\nfamily = "probe"\n[agent_config]\n{settings}\n{table}')
        return path

    def go_on(self, steps: int = ENDLESS, **environment: str) -> subprocess.Popen[str]:
        """Start the run, or resume it if it has begun."""
        if self.run.config_path.exists():
            words = ["resume", str(self.run.path), "--steps", str(steps)]
        else:
            words = self.train(self.run.path, steps)
        return launch(words, **environment)

    def train(self, out: Path, steps: int) -> list[str]:
        return ["train", self.agent, "probe", "--config", str(self.config()), "--steps", str(steps), "--out", str(out)]

    def wait_for_work(self, process: subprocess.Popen[str], seconds: float = 60.0) -> None:
        """Until this life has finished an iteration of its own."""
        before, end = self.lines(), time.monotonic() + seconds
        while self.lines() == before and process.poll() is None:
            assert time.monotonic() < end, "training did not begin"
            time.sleep(0.005)

    def lines(self) -> bytes:
        path = self.run.progress_path
        return path.read_bytes()[-200:] if path.exists() else b""

    def reached(self) -> int:
        """Environment steps at the last checkpoint; none before the first."""
        if not checkpoint.scan(self.run.checkpoints):
            return 0
        return checkpoint.latest(self.run.checkpoints, print).counters.env_steps

    def uninterrupted(self) -> RunDirectory:
        """The same run from the beginning to where the other one is now."""
        out = self.folder / "whole"
        process = launch(self.train(out, self.reached()))
        _, complaint = process.communicate()
        assert process.returncode == 0, complaint
        return RunDirectory(out)


def launch(words: list[str], **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(DRIVER), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
    )


def remains(run: RunDirectory) -> dict[str, Any]:
    """Everything that must be equal of two runs that went equally far: SHA-256 of the tensors, generators, counters and
    progress. Times are left out."""
    last = checkpoint.latest(run.checkpoints, print)
    about = json.loads((last.path / checkpoint.MANIFEST).read_text())
    rows = run.progress()
    for row in rows:
        del row["seconds"]
        row["metrics"] = {tag: value for tag, value in row["metrics"].items() if not tag.startswith("time/")}
    return {
        "tensors": hashlib.sha256((last.path / checkpoint.TENSORS).read_bytes()).hexdigest(),
        "generators": about["generators"],
        "counters": {name: value for name, value in vars(last.counters).items() if name != "seconds"},
        "progress": hashlib.sha256(json.dumps(rows).encode()).hexdigest(),
    }
