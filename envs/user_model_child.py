"""Compiles and tries a robot file in a process of its own, which may hang or crash. Run by `envs/user_model.py` alone.

Arguments: the file, seconds, megabytes. It exits with 0 and the bytes of the compiled model on standard output, or with
`REFUSED` and a sentence there. Standard error says how far it came. Nothing but MuJoCo and what it needs is imported,
and the limits are set before the file is opened.
"""

import os
import resource
import signal
import stat
import sys
import traceback
from pathlib import Path
from typing import Any
from xml.parsers import expat

REFUSED, FAULT = 3, 70  # exit codes: of a file that cannot be used, of a fault in here
STEPS = 300  # to be simulated without a warning
MAX_XML_BYTES = 16_000_000
MAX_FILES = 10_000
MAX_DEPTH = 400  # elements within elements; MuJoCo's parser stops at 500
MOST = {"nbody": 10_000, "ngeom": 50_000, "nq": 10_000, "nu": 10_000, "nsensordata": 100_000}


class Refused(Exception):
    """The file cannot be used; its text says why, in one line."""


def limit(seconds: int, megabytes: int) -> None:
    """Let the system end this process when it takes more, even where its parent is gone."""
    limits = {
        resource.RLIMIT_AS: megabytes * 2**20,
        resource.RLIMIT_CPU: seconds,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: 0,
    }
    for kind, most in limits.items():
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        try:
            resource.setrlimit(kind, (most, most))
        except (ValueError, OSError):  # macOS refuses to limit memory
            continue
    signal.alarm(seconds + 2)


class Scan:
    """Reads an MJCF and what it includes as plain XML, before MuJoCo opens any file that they name.

    Raises `Refused` for what is not XML, declares entities, is too large, or names a file that is not a plain file in
    the folder of the model.
    """

    def __init__(self, path: Path) -> None:
        self.folder = path.parent
        self._seen: set[Path] = set()
        self._bytes = 0
        self._model(path, ())

    def _model(self, path: Path, within: tuple[Path, ...]) -> None:
        """One model with its includes: they share the folders that meshes and textures are looked for in.

        within: the models that it is a part of.
        """
        if path in within:  # MuJoCo would go round for ever
            raise Refused(f"{path.name} is part of itself: an asset of a model must be another model")
        if path in self._seen:
            return
        elements = self._elements(path, path.parent)
        folders: dict[str, list[str]] = {"mesh": [], "texture": []}
        for _, tag, attributes in elements:
            if tag == "compiler":
                for kind, found in folders.items():
                    found += [attributes[name] for name in (f"{kind}dir", "assetdir") if name in attributes]
        for where, tag, attributes in elements:
            for name, value in attributes.items():
                if name.startswith("file") and tag != "include":
                    kind = "texture" if tag == "texture" else "mesh"
                    inside = [""] if tag == "model" else folders[kind] or [""]
                    for folder in inside:
                        found_at = self._inside(where, path.parent / folder / value, value)
                        if tag == "model" and found_at:
                            self._model(found_at, (*within, path))

    def _elements(self, path: Path, base: Path) -> list[tuple[str, str, dict[str, str]]]:
        """(where, tag, attributes) of every element of a file and of those it includes, relative to `base`."""
        self._seen.add(path)
        if len(self._seen) > MAX_FILES:
            raise Refused(f"it includes more than {MAX_FILES} files")
        found: list[tuple[str, str, dict[str, str]]] = []
        parser = expat.ParserCreate()
        depth = 0

        def start(tag: str, attributes: dict[str, str]) -> None:
            nonlocal depth
            depth += 1
            if depth > MAX_DEPTH:
                raise Refused(f"{path.name} line {parser.CurrentLineNumber} is more than {MAX_DEPTH} elements deep")
            if tag == "compiler" or any(name.startswith("file") for name in attributes):
                found.append((f"{path.name} line {parser.CurrentLineNumber}", tag, attributes))

        def end(tag: str) -> None:
            nonlocal depth
            depth -= 1

        def entity(name: str, *rest: Any) -> None:
            raise Refused(f"{path.name} declares an XML entity, '{name}': write its text in its place")

        parser.StartElementHandler = start
        parser.EndElementHandler = end
        parser.EntityDeclHandler = entity
        try:
            parser.Parse(self._read(path), True)
        except expat.ExpatError as error:
            raise Refused(f"{path.name} is not XML: {error}") from None
        for where, tag, attributes in list(found):
            if tag == "include":
                included = self._inside(where, base / attributes.get("file", ""), attributes.get("file", ""))
                if included is None:
                    raise Refused(f"{where} includes '{attributes.get('file', '')}', which is not there")
                if included not in self._seen:
                    found += self._elements(included, base)
        return found

    def _read(self, path: Path) -> bytes:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            text = file.read(MAX_XML_BYTES - self._bytes + 1)
        self._bytes += len(text)
        if self._bytes > MAX_XML_BYTES:
            raise Refused(f"it holds more than {MAX_XML_BYTES} bytes of XML")
        return text

    def _inside(self, where: str, path: Path, name: str) -> Path | None:
        """The real path of a file that is named; None where there is none, which MuJoCo words best."""
        if not name:
            return None
        try:
            real = path.resolve()
            if not real.is_relative_to(self.folder):
                raise Refused(f"{where} names '{name}', which lies outside the model's folder: put it inside")
            mode = real.stat().st_mode
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RuntimeError) as error:
            raise Refused(f"{where} names '{name}', which cannot be read: {error}") from None
        if not stat.S_ISREG(mode):
            raise Refused(f"{where} names '{name}', which is not a plain file")
        return real


def compiled(mujoco: Any, path: Path, megabytes: int) -> Any:
    """The model, as MuJoCo compiles it, with every texture in it. Raises `Refused`."""
    try:
        model = mujoco.mj_embedAssets(mujoco.MjModel.from_xml_path(str(path)))
    except (ValueError, RuntimeError, mujoco.FatalError, mujoco.UnexpectedError) as error:
        if "unknown exception" in str(error):  # what its allocations throw
            raise MemoryError from None
        text = error.object.decode(errors="replace") if isinstance(error, UnicodeDecodeError) else error
        raise Refused(f"MuJoCo does not compile it: {text}") from None
    for name, most in MOST.items():
        if getattr(model, name) > most:
            raise Refused(f"its {name} is {getattr(model, name)}: at most {most} are taken")
    size = mujoco.mj_sizeModel(model)
    if size > megabytes * 2**20 // 8:
        raise Refused(f"compiled it takes {size} bytes: at most {megabytes * 2**20 // 8} are taken")
    return model


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
        raise Refused(f"it does not simulate: {error}") from None


def main(path: Path, seconds: int, megabytes: int) -> int:
    """Write the compiled model to standard output, or why there is none; returns the exit code."""
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what MuJoCo or a library prints is no part of the answer
    limit(seconds, megabytes)
    import mujoco
    import numpy as np

    quiet = mujoco.MjLogConfig.get()
    quiet.logto_file = quiet.logto_console = False
    quiet.set()
    print("quickstudy: started", file=sys.stderr, flush=True)
    try:
        Scan(path)
        model = compiled(mujoco, path, megabytes)
        print("quickstudy: compiled", file=sys.stderr, flush=True)
        simulate(mujoco, model)
        buffer = np.empty(mujoco.mj_sizeModel(model), dtype=np.uint8)
        mujoco.mj_saveModel(model, None, buffer)
    except Refused as refused:
        answer.write(str(refused).encode(errors="replace"))
    except MemoryError:
        answer.write(f"it takes more than {megabytes} MB of memory: make it smaller".encode())
    else:
        answer.write(buffer.data)
        answer.flush()
        return 0
    answer.flush()
    return REFUSED


if __name__ == "__main__":
    code = FAULT
    try:
        code = main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
    except Exception:
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(code)  # without the tearing down of libraries that a bad model may have damaged
