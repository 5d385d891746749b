"""Compiles and tries a robot file in a process of its own, which may hang or crash. Run by `envs/user_model.py` alone.

Arguments: the file, seconds, megabytes. This process opens no file once it has imported MuJoCo: the system refuses it.
What MuJoCo asks for is a message on standard output, and the answer comes on standard input. A message is `HEADER` (its
kind, and how many bytes follow); `EXISTS` is answered with one byte, `READ` with `SIZE` and the file's bytes. The last
message is `MODEL` or `REFUSED`.
"""

import ctypes
import os
import re
import signal
import struct
import sys
import threading
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

FAULT = 70  # exit code of a fault in here
EXISTS, READ, STAGE, MODEL, REFUSED = b"e", b"r", b"s", b"m", b"x"
HEADER, SIZE = struct.Struct("<cQ"), struct.Struct("<Q")
STEPS = 300  # to be simulated without a warning
RESERVE = 16  # times the memory that it may take: address space, most of it for an arena that is hardly used
NO_MEMORY = "ould not allocate"  # in what MuJoCo says
MAX_NESTED = 300  # times that a file is open at once: it contains itself
BY_REFERENCE = re.compile(rb"""\bembed\s*=\s*(["'])\s*false\s*\1""")  # the attribute of a texture
MOST = {"nbody": 10_000, "ngeom": 50_000, "nq": 10_000, "nu": 10_000, "nsensordata": 100_000}


class Refused(Exception):
    """The file cannot be used; its text says why, in one line."""


def limit(seconds: int, megabytes: int) -> None:
    """Let the system end this process when it takes more, even where its parent is gone; it opens no file from now on.

    What it may keep in memory is watched by the parent.
    """
    import resource  # POSIX alone has it, and `envs/user_model.py` is imported everywhere

    limits = {
        resource.RLIMIT_AS: RESERVE * megabytes * 2**20,
        resource.RLIMIT_CPU: seconds,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: 0,
    }
    for kind, most in limits.items():
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        try:
            resource.setrlimit(kind, (most, most))
        except (ValueError, OSError):
            if kind != resource.RLIMIT_AS:  # macOS refuses to limit memory
                raise
    signal.alarm(seconds + 2)


def reserved(megabytes: int) -> str:
    return (
        f"it reserves more than the {RESERVE * megabytes} MB of memory that quickstudy allows: "
        "lower the memory, njmax or nconmax of its <size>, or its counts"
    )


class Parent:
    """The process that opens the files. Its methods may be called by several threads of MuJoCo's."""

    def __init__(self) -> None:
        self._requests, self._answers = os.fdopen(os.dup(1), "wb"), os.fdopen(os.dup(0), "rb")
        os.dup2(2, 1)  # what MuJoCo or a library prints is no message
        self._lock = threading.Lock()

    def exists(self, path: bytes) -> bool:
        with self._lock:
            self._send(EXISTS, path)
            return self._receive(1) == b"\1"

    def read(self, path: bytes) -> bytes:
        with self._lock:
            self._send(READ, path)
            return self._receive(SIZE.unpack(self._receive(SIZE.size))[0])

    def tell(self, kind: bytes, payload: Any) -> None:
        with self._lock:
            self._send(kind, payload)

    def _send(self, kind: bytes, payload: Any) -> None:
        self._requests.write(HEADER.pack(kind, len(payload)))
        self._requests.write(payload)
        self._requests.flush()

    def _receive(self, count: int) -> bytes:
        received = self._answers.read(count)
        if len(received) < count:
            os._exit(FAULT)  # the parent is gone
        return received


class _Resource(ctypes.Structure):
    """The beginning of `mjResource` in mjplugin.h."""

    _fields_ = (("name", ctypes.c_char_p), ("data", ctypes.c_void_p))


_Open = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(_Resource))
_Read = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(_Resource), ctypes.POINTER(ctypes.c_void_p))
_Close = ctypes.CFUNCTYPE(None, ctypes.POINTER(_Resource))


class _Provider(ctypes.Structure):
    """`mjpResourceProvider` in mjplugin.h."""

    _fields_ = (
        ("prefix", ctypes.c_char_p),
        ("open", _Open),
        ("read", _Read),
        ("close", _Close),
        ("mount", _Open),
        ("unmount", _Open),
        ("modified", ctypes.c_void_p),
        ("write", ctypes.c_void_p),
        ("data", ctypes.c_void_p),
    )


class Compiler:
    """MuJoCo's compiler on a virtual file system that holds every path and asks the parent for each.

    MuJoCo names a file here by the path at which it would open it, so all its rules of where to look hold. Python's
    `mujoco.MjVfs` holds only files that are known before: the C library is called for the rest.
    """

    def __init__(self, library: Path, parent: Parent) -> None:
        self.refused = ""  # why the file cannot be used, if that was found while MuJoCo asked for a file
        self._parent = parent
        self._held: dict[int, Any] = {}  # what MuJoCo reads, by the address of its resource
        self._open: Counter[bytes] = Counter()
        self._mujoco = ctypes.CDLL(str(library))
        self._mujoco.mj_loadXML.restype = ctypes.c_void_p
        self._mujoco.mj_sizeModel.restype = ctypes.c_int64
        self._provider = _Provider()
        self._mujoco.mjp_defaultProvider(ctypes.byref(self._provider))
        self._provider.open, self._provider.read = _Open(self._opened), _Read(self._read)
        self._provider.close = _Close(self._closed)
        self._provider.mount = self._provider.unmount = _Open(lambda resource: 1)
        self._vfs = ctypes.c_void_p()
        self._mujoco.mj_defaultVFS(ctypes.byref(self._vfs))
        for name in (*os.listdir("/"), ".."):  # every absolute path begins with one of them
            self._mujoco.mj_mountVFS(ctypes.byref(self._vfs), os.fsencode(f"/{name}"), ctypes.byref(self._provider))

    def _opened(self, resource: Any) -> int:
        name = resource.contents.name
        self._open[name] += 1
        if self._open[name] > MAX_NESTED:
            self.refused = f"{os.path.basename(os.fsdecode(name))} is part of itself: attach another model"
        if self.refused or not self._parent.exists(name):
            self._open[name] -= 1
            return 0
        return 1

    def _read(self, resource: Any, out: Any) -> int:
        content = self._parent.read(resource.contents.name)
        if content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
            content = self._xml(resource.contents.name, content)
        held = ctypes.create_string_buffer(content, len(content) + 1)
        self._held[ctypes.addressof(resource.contents)] = held
        out[0] = ctypes.addressof(held)
        return len(content)

    def _closed(self, resource: Any) -> None:
        self._open[resource.contents.name] -= 1
        self._held.pop(ctypes.addressof(resource.contents), None)

    def _xml(self, name: bytes, text: bytes) -> bytes:
        """What MuJoCo gets of an XML file: no texture is left out of the model, to be read from its path later."""
        if b"<!ENTITY" in text:  # which MuJoCo would leave in names as it is written
            self.refused = f"{os.path.basename(os.fsdecode(name))} declares an XML entity: write its text in its place"
        return BY_REFERENCE.sub(rb"embed=\1true\1", text)

    def compile(self, path: str) -> Any:
        """The bytes of the compiled model, uint8. Raises `Refused`."""
        import numpy as np

        said = ctypes.create_string_buffer(1000)
        model = self._mujoco.mj_loadXML(os.fsencode(path), ctypes.byref(self._vfs), said, len(said))
        if self.refused:
            raise Refused(self.refused)
        if not model:
            text = said.value.decode(errors="replace")
            if NO_MEMORY in text:
                raise MemoryError
            raise Refused(f"MuJoCo does not compile it: {text}")
        pointer = ctypes.c_void_p(model)
        buffer = np.empty(self._mujoco.mj_sizeModel(pointer), np.uint8)
        self._mujoco.mj_saveModel(pointer, None, buffer.ctypes.data_as(ctypes.c_void_p), len(buffer))
        self._mujoco.mj_deleteModel(pointer)
        return buffer


def check(model: Any, size: int, megabytes: int) -> None:
    """Raise `Refused` for a model that is larger than this suite takes, or not whole; `size` in bytes."""
    for name, most in MOST.items():
        if getattr(model, name) > most:
            raise Refused(f"its {name} is {getattr(model, name)}: quickstudy takes at most {most}")
    if size > megabytes * 2**20 // 8:
        raise Refused(f"compiled it takes {size} bytes: quickstudy takes at most {megabytes * 2**20 // 8}")
    if (model.tex_adr == -1).any():  # whoever draws it would open the file
        raise Refused("a texture of it is by reference: leave embed out")


def simulate(mujoco: Any, model: Any) -> None:
    """Take `STEPS` steps without control. Raises `Refused` at the first warning or number that is not finite."""
    import numpy as np

    try:
        data = mujoco.MjData(model)
        for step in range(1, STEPS + 1):
            mujoco.mj_step(model, data)
            warned = np.flatnonzero(data.warning.number)
            after = f"after {step} steps ({step * model.opt.timestep:.3g} s) without control"
            if len(warned):
                kind = int(warned[0])
                text = mujoco.mju_warningText(kind, int(data.warning[kind].lastinfo))
                raise Refused(f"it does not simulate: {after}, {text}")
            if not all(np.isfinite(numbers).all() for numbers in (data.qpos, data.qvel, data.qacc, data.sensordata)):
                raise Refused(f"it does not simulate: {after}, its state or a sensor is not finite")
    except (ValueError, RuntimeError, mujoco.FatalError, mujoco.UnexpectedError) as error:
        if NO_MEMORY in str(error):
            raise MemoryError from None
        raise Refused(f"it does not simulate: {error}") from None


def main(path: str, seconds: int, megabytes: int) -> None:
    """Tell the parent the compiled model, or why there is none."""
    parent = Parent()
    import mujoco

    quiet = mujoco.MjLogConfig.get()
    quiet.logto_file = quiet.logto_console = False
    quiet.set()
    compiler = Compiler(next(Path(mujoco.__file__).parent.glob("libmujoco*")), parent)
    limit(seconds, megabytes)
    parent.tell(STAGE, b"compiled")
    try:
        content = compiler.compile(path)
        model = mujoco.MjModel.from_binary_path("user.mjb", {"user.mjb": content.tobytes()})
        check(model, len(content), megabytes)
        parent.tell(STAGE, b"simulated")
        simulate(mujoco, model)
    except Refused as refused:
        parent.tell(REFUSED, str(refused).encode(errors="replace"))
    except MemoryError:
        parent.tell(REFUSED, reserved(megabytes).encode())
    else:
        parent.tell(MODEL, content.data)


if __name__ == "__main__":
    code = FAULT
    try:
        main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
        code = 0
    except Exception:
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(code)  # without the tearing down of libraries that a bad model may have damaged
