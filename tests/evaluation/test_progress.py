"""What a long benchmark says of itself where nobody sees a bar."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from evaluation import progress
from evaluation.progress import GridProgress


def test_a_file_gets_a_line_a_cell_and_a_line_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    out = StringIO()
    with GridProgress(Console(file=out), ["short", "kept", "long"], [100, 50, 300]) as grid:
        grid.begin(0)
        clock[0] = 30.0
        grid.advance(100)
        grid.end("done")
        grid.kept(1)
        grid.begin(2)
        for seconds in (60.0, 89.0, 91.0, 120.0, 140.0, 190.0):
            clock[0] = seconds
            grid.advance(50)
        grid.end("done")
    assert out.getvalue().splitlines() == [
        "[1/3] short  done (30 s, 1 min 45 s left)",
        "[2/3] kept   kept",
        "[3/3] long   50%, 55 s left",
        "[3/3] long   done (2 min 40 s)",
    ]
