"""What quickstudy answers to one command line, and what an answer to a mistake has to look like."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import quickstudy

LONGEST = 2100  # characters of a complaint


@dataclass(frozen=True)
class Answer:
    """code: the exit code; of a command that ended with a fault of its own there is no answer but the exception."""

    code: int
    out: str
    err: str

    @property
    def is_complaint(self) -> bool:
        """Exit code 2 and one printable line that says who complains."""
        line = self.err.removesuffix("\n")
        return (
            self.code == 2
            and self.err.endswith("\n")
            and line.startswith("quickstudy: error: ")
            and len(line) > len("quickstudy: error: ")
            and len(line) <= LONGEST
            and line.isprintable()
            and "Traceback" not in line
        )


def ask(arguments: Sequence[str]) -> Answer:
    """Run a command line in this process. Whatever it raises but `SystemExit` is a fault, and passes."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = quickstudy.main(arguments)
        except SystemExit as end:
            code = int(end.code or 0)
    return Answer(code, out.getvalue(), err.getvalue())


def files_in(folder: Path) -> set[str]:
    """Everything below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@contextlib.contextmanager
def memory_limit(more: int) -> Iterator[None]:
    """This process may map so many bytes more than it has: a memory bomb is a `MemoryError`, not a dead machine."""
    import resource

    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (mapped + more, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
