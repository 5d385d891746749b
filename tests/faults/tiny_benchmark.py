"""quickstudy with a preset `tiny`, on the probe family.

As a program it imports everything once and then forks a process for each line that it is given, a table of JSON:
`words` of the command line, `said` and `complaint`, where its output goes, and `kill_in_write`. It answers with the
process's number, and once that has ended with its exit code and the seconds of processor time that it took.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent.parent), str(Path(__file__).parent.parent.parent)]

from sudden_death import kill_in_write  # noqa: E402

import quickstudy  # noqa: E402
from agents.catalogue import AGENTS  # noqa: E402
from envs.families import FAMILIES  # noqa: E402
from evaluation.presets import ARMS, PRESETS, Arm, Preset  # noqa: E402
from training import files  # noqa: E402


def register(put: Callable[[dict[str, Any], str, Any], None], **settings: Any) -> None:
    """Make the preset known. put(table, name, value): `monkeypatch.setitem` or `dict.__setitem__`."""
    put(FAMILIES, "probe", "probes:ProbeFamily")
    put(AGENTS, "scratch", "probes:ProbeLearner")
    put(ARMS, "scratch", Arm("scratch", weights=None))
    small = {"families": ("probe",), "arms": ("scratch", "random"), "tasks": 2, "episodes": 4, "film": ()}
    put(PRESETS, "tiny", Preset("tiny", **{**small, **settings}))


def live(words: list[str], said: str, complaint: str, at: int) -> None:
    """Be the command line, from beginning to end."""
    for descriptor, path in ((1, said), (2, complaint)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    kill_in_write(at, files)
    code = quickstudy.main(words)
    sys.stdout.flush()
    os._exit(code)  # taking down what was imported would take longer than all the rest


def serve() -> None:
    for line in sys.stdin:
        asked = json.loads(line)
        process = os.fork()
        if process == 0:
            live(asked["words"], asked["said"], asked["complaint"], asked["kill_in_write"])
        print(process, flush=True)
        _, status, used = os.wait4(process, 0)
        print(os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime, flush=True)


if __name__ == "__main__":
    import evaluation.benchmark
    import evaluation.report  # noqa: F401

    register(dict.__setitem__, seeds=3, tasks=2, episodes=12)
    gc.freeze()  # or each process copies what it only looks through
    serve()
