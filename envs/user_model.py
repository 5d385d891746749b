"""A robot file that someone else wrote, loaded so that the worst of them costs a line and a few seconds.

MuJoCo's compiler can hang (a `<replicate>` of a billion), take all memory or crash. So a child process compiles the
file and simulates it, under limits of time and memory, and this process loads only what came out of that: the bytes of
a compiled model, through a pipe. The child cannot open files: it asks for each, and this process reads those that
`RobotFiles` allows. Nothing is written to the disk.
"""

from __future__ import annotations

import contextlib
import importlib.util
import math
import os
import selectors
import signal
import subprocess
import sys
import time
from typing import IO

import mujoco

from envs import user_model_child as child_script
from envs.errors import UserError
from envs.user_model_files import CHUNK, RobotFiles

LEAST_MB = 256  # below it Python and MuJoCo themselves cannot start
KEPT = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")  # of the environment, for MuJoCo's own libraries
ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
LONGEST = 400  # letters of what MuJoCo says
LOOK_SECONDS = 0.01  # between two looks at the memory of the child


def load_model(
    path: str | os.PathLike[str],
    *,
    seconds: float = 8.0,
    memory_mb: int = 1024,
    root: str | os.PathLike[str] | None = None,
) -> mujoco.MjModel:
    """The model of an MJCF or URDF file with the files it names.

    seconds: of wall-clock and of processor time, for all of it, starting Python included.
    memory_mb: megabytes of resident memory for compiling and simulating (Linux), and 16 times as many of address space;
    the compiled model may take an eighth of them.
    root: the folder in which all files of the robot must lie, by default the one in which `path` stands.
    Raises `UserError` where it is no plain .xml, .mjcf or .urdf file, names a file outside, takes more than that, does
    not compile, or does not simulate 300 steps without a warning; and where the system cannot limit a process, as
    Windows.
    """
    if seconds < 1 or memory_mb < LEAST_MB:
        raise UserError(f"loading {path} needs at least 1 s and {LEAST_MB} MB, got {seconds:g} s and {memory_mb} MB")
    if importlib.util.find_spec("resource") is None:
        raise UserError(
            f"cannot load {path}: a robot file is compiled by a process with limits of time and memory, and this system"
            " has none; use Linux or macOS"
        )
    files = RobotFiles(path, root)
    compiled = _Compilation(files, seconds, memory_mb).run()
    return mujoco.MjModel.from_binary_path("user.mjb", {"user.mjb": compiled})


class _Compilation:
    """A child process that compiles a robot file, and what it has said so far."""

    def __init__(self, files: RobotFiles, seconds: float, memory_mb: int) -> None:
        self._files, self._seconds, self._memory_mb = files, seconds, memory_mb
        self._stage = ""  # what it does now, where it has begun
        self._said = bytearray()  # its standard error
        self._model: bytes | None = None

    def run(self) -> bytes:
        """The bytes of the compiled model. Raises `UserError`."""
        path = str(self._files.path)
        command = [sys.executable, "-I", child_script.__file__, path]
        command += [str(math.ceil(self._seconds)), str(self._memory_mb)]
        deadline = time.monotonic() + self._seconds
        pipe = subprocess.PIPE
        with (
            subprocess.Popen(
                command,
                stdin=pipe,
                stdout=pipe,
                stderr=pipe,
                bufsize=0,
                cwd="/",
                env=_environment(),
                start_new_session=True,  # Ctrl-C ends this process, which then ends the child
            ) as child,
            contextlib.ExitStack() as ended,
        ):
            ended.callback(child.kill)
            self._serve(child, deadline)
            try:
                code = child.wait(max(deadline - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                raise self._late() from None
        if self._model is None:
            raise self._ended(code)
        return self._model

    def _serve(self, child: subprocess.Popen[bytes], deadline: float) -> None:
        """Answer the child until it ends. Raises `UserError` where it takes too much or asks for what is not its."""
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        with selectors.DefaultSelector() as selector:
            selector.register(child.stdout, selectors.EVENT_READ)
            selector.register(child.stderr, selectors.EVENT_READ)
            while selector.get_map():
                if time.monotonic() > deadline:
                    raise self._late()
                if _resident(child.pid) > self._memory_mb * 2**20:
                    raise self._too_large()
                for key, _ in selector.select(LOOK_SECONDS):
                    if key.fileobj is child.stderr:
                        text = os.read(key.fd, CHUNK)
                        self._said = (self._said + text)[-CHUNK:]
                        over = not text
                    else:
                        over = not self._answer(child.stdout, child.stdin)
                    if over:
                        selector.unregister(key.fileobj)

    def _answer(self, messages: IO[bytes], answers: IO[bytes]) -> bool:
        """Read one message of the child and do what it asks; False at the end."""
        header = _read(messages, child_script.HEADER.size)
        if len(header) < child_script.HEADER.size:
            return False
        kind, size = child_script.HEADER.unpack(header)
        payload = bytes(_read(messages, size))
        with contextlib.suppress(BrokenPipeError):  # it has died: how is known at its end
            if kind == child_script.EXISTS:
                answers.write(b"\1" if self._files.exists(payload) else b"\0")
            elif kind == child_script.READ:
                self._send(payload, answers)
        if kind == child_script.STAGE:
            self._stage = payload.decode()
        elif kind == child_script.REFUSED:
            raise UserError(f"{self._files.shown}: {_line(payload)}")
        elif kind == child_script.MODEL:
            self._model = payload
        return True

    def _send(self, name: bytes, answers: IO[bytes]) -> None:
        """The size of a file, and its bytes."""
        with self._files.open(name, most=self._memory_mb * 2**20) as file:
            left = os.fstat(file.fileno()).st_size
            answers.write(child_script.SIZE.pack(left))
            while left:
                part = memoryview(file.read(min(left, CHUNK)))
                if not part:
                    raise UserError(f"{self._files.shown}: one of its files became shorter while it was read")
                left -= len(part)
                while part:
                    part = part[answers.write(part) :]

    def _late(self) -> UserError:
        return UserError(
            f"{self._files.shown} takes more than the {self._seconds:g} s that quickstudy allows, while it is "
            f"{self._stage or 'started'}: make it smaller, or its counts"
        )

    def _too_large(self) -> UserError:
        return UserError(
            f"{self._files.shown} takes more than the {self._memory_mb} MB of memory that quickstudy allows a robot "
            "file: make it smaller, or raise memory_mb of load_model"
        )

    def _ended(self, code: int) -> Exception:
        """What to raise for a child that ended without an answer."""
        path = self._files.shown
        if code == child_script.FAULT or not self._stage:
            said = self._said.decode(errors="replace")
            return RuntimeError(f"the process that compiles {path} failed ({code}): {said}")
        if code in (-signal.SIGXCPU, -signal.SIGALRM):
            return self._late()
        if code == -signal.SIGKILL:  # by the system, for want of memory
            return self._too_large()
        if b"bad_alloc" in self._said:
            return UserError(f"{path}: {child_script.reserved(self._memory_mb)}")
        what = f"crashes MuJoCo with signal {-code}" if code < 0 else f"ends MuJoCo with code {code}"
        return UserError(
            f"{path} {what} while it is {self._stage}: take elements out until it loads, then mend the last one"
        )


def _environment() -> dict[str, str]:
    """The child's whole environment: one thread to a library, no OpenGL, little address space set aside."""
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    return kept | dict.fromkeys(ONE_THREAD, "1") | {"MUJOCO_GL": "disable", "MALLOC_ARENA_MAX": "1"}


def _resident(process: int) -> int:
    """Bytes of memory that a process holds; 0 where the system does not tell (it has no /proc) or it has ended."""
    try:
        with open(f"/proc/{process}/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def _read(stream: IO[bytes], size: int) -> bytearray:
    """`size` bytes, or fewer where the stream ends."""
    data = bytearray(size)
    filled = 0
    while filled < size and (count := stream.readinto(memoryview(data)[filled:])):  # type: ignore[attr-defined]
        filled += count
    return data[:filled]


def _line(text: bytes) -> str:
    """Printable text in one line of at most `LONGEST` letters."""
    letters = "".join(letter if letter.isprintable() else " " for letter in text.decode(errors="replace"))
    line = " ".join(letters.split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 3]}..."
