"""A robot file that someone else wrote, loaded so that the worst of them costs a line and a few seconds.

MuJoCo's compiler can hang (a `<replicate>` of a billion), take all memory or crash. So a child process compiles the
file and simulates it, under limits of time and memory, and this process loads only what came out of that: the bytes of
a compiled model, through a pipe. Nothing is written to the disk.
"""

from __future__ import annotations

import math
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import mujoco

from envs import user_model_child as child_script
from envs.errors import UserError

SUFFIXES = (".xml", ".mjcf")
LEAST_MB = 256  # below it Python and MuJoCo themselves cannot start
KEPT = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")  # of the environment, for MuJoCo's own libraries
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
LONGEST = 400  # letters of what MuJoCo says


def load_model(path: str | os.PathLike[str], *, seconds: float = 8.0, memory_mb: int = 1024) -> mujoco.MjModel:
    """The model of an MJCF file with the files it names, which must lie in its folder or below.

    seconds: of wall-clock and of processor time, for all of it, starting Python included.
    memory_mb: megabytes of address space for compiling and simulating; the compiled model may take an eighth of them.
    Raises `UserError` where it is no plain .xml or .mjcf file, takes more than that, does not compile, or does not
    simulate 300 steps without a warning.
    """
    if seconds < 1 or memory_mb < LEAST_MB:
        raise UserError(f"loading {path} needs at least 1 s and {LEAST_MB} MB, got {seconds:g} s and {memory_mb} MB")
    path = Path(path)
    real = _plain_file(path)
    command = [sys.executable, "-I", child_script.__file__, str(real), str(math.ceil(seconds)), str(memory_mb)]
    try:
        child = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            cwd="/",
            env=_environment(),
            timeout=seconds,
            start_new_session=True,  # Ctrl-C ends this process, which then ends the child
        )
    except subprocess.TimeoutExpired as late:
        raise UserError(f"{path} {_late(late.stderr or b'', seconds)}") from None
    if child.returncode == child_script.REFUSED:
        raise UserError(f"{path}: {_line(child.stdout)}")
    if child.returncode != 0:
        raise _ended(path, child.returncode, child.stderr, seconds, memory_mb)
    return mujoco.MjModel.from_binary_path("user.mjb", {"user.mjb": child.stdout})


def _plain_file(path: Path) -> Path:
    """The path without links. Raises `UserError` unless an MJCF may be in it; it is not opened."""
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"{path} does not end in .xml or .mjcf: a robot is loaded from its MJCF file")
    try:
        str(path).encode()
        real = path.resolve(strict=True)
        mode = real.stat().st_mode
    except (UnicodeEncodeError, ValueError):
        raise UserError(f"{str(path)!r} cannot be loaded: a robot file needs a name in UTF-8") from None
    except (OSError, RuntimeError) as error:
        raise UserError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    if not stat.S_ISREG(mode):
        raise UserError(f"{path} is not a plain file: name the MJCF file itself")
    return real


def _environment() -> dict[str, str]:
    """The child's whole environment: one thread to a library, no OpenGL, little address space set aside."""
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    return kept | dict.fromkeys(ONE_THREAD, "1") | {"MUJOCO_GL": "disable", "MALLOC_ARENA_MAX": "1"}


def _ended(path: Path, code: int, said: bytes, seconds: float, memory_mb: int) -> Exception:
    """What to raise for a child that ended without an answer. `said` is its standard error."""
    if code == child_script.FAULT or b"quickstudy: started" not in said:
        return RuntimeError(f"the process that compiles {path} failed ({code}): {said.decode(errors='replace')}")
    if code in (-signal.SIGXCPU, -signal.SIGALRM):
        return UserError(f"{path} {_late(said, seconds)}")
    if code == -signal.SIGKILL or b"bad_alloc" in said:
        return UserError(f"{path} takes more than {memory_mb} MB of memory: make it smaller")
    what = f"crashes MuJoCo with signal {-code}" if code < 0 else f"ends MuJoCo with code {code}"
    return UserError(f"{path} {what} while {_stage(said)}: take elements out until it loads, then mend the last one")


def _late(said: bytes, seconds: float) -> str:
    return f"takes more than {seconds:g} s while {_stage(said)}: make it smaller, or its counts"


def _stage(said: bytes) -> str:
    return "it is simulated" if b"quickstudy: compiled" in said else "it is compiled"


def _line(text: bytes) -> str:
    """Printable text in one line of at most `LONGEST` letters."""
    letters = "".join(letter if letter.isprintable() else " " for letter in text.decode(errors="replace"))
    line = " ".join(letters.split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 3]}..."
