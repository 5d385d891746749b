"""The files that a robot file may have: MuJoCo asks for each of them here, and opens none itself.

MuJoCo decides which path a name means: the folder of the model or of an included part, `meshdir`, `strippath` and so
on. What it then asks for is followed to where it really lies, and read if it is a plain file in the folder of the
model or below. The rule in full is in docs/reliability.md.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from envs.errors import UserError

SUFFIXES = (".xml", ".mjcf", ".urdf")
_ARCHIVE = "is an archive: unpack it and name the model file in it"
_MESH = "is a mesh: name the MJCF or URDF file that uses it"
_USD = "is a USD scene: name an MJCF or URDF file"
OTHER_SUFFIXES = {
    ".mjb": "is a compiled model, which MuJoCo trusts without checks: name the MJCF or URDF file it was compiled from",
    ".xacro": "is a template: expand it with xacro and name the URDF file",
    ".sdf": "is SDFormat, which MuJoCo does not read: name an MJCF or URDF file",
    **dict.fromkeys((".mjz", ".zip", ".tar", ".gz", ".tgz"), _ARCHIVE),
    **dict.fromkeys((".usd", ".usda", ".usdc", ".usdz"), _USD),
    **dict.fromkeys((".stl", ".obj", ".msh", ".dae", ".skn"), _MESH),
}
MAX_REQUESTS = 100_000
CHUNK = 2**20  # bytes
LONGEST = 160  # letters of a path in a message


def is_robot_file(name: str) -> bool:
    """Whether a name on the command line means a file rather than a family."""
    path = Path(name)
    if path.suffix.lower() in (*SUFFIXES, *OTHER_SUFFIXES):
        return True
    return any(separator in name for separator in (os.sep, os.altsep) if separator) or os.path.lexists(path)


class RobotFiles:
    """What one robot file may have read.

    path: the robot file. root: the folder in which all its files must lie, by default the one that it stands in.
    Raises `UserError` where it cannot be a robot file, or `root` does not hold it.
    """

    def __init__(self, path: str | os.PathLike[str], root: str | os.PathLike[str] | None = None) -> None:
        self.shown = Path(path)
        self.path = _plain_file(self.shown)
        self.root = Path(os.path.realpath(self.path.parent))
        self._store = _store(self.path, self.root)
        if root is not None:
            folder = Path(os.path.realpath(root))
            if not folder.is_dir() or not self.root.is_relative_to(folder):
                raise UserError(f"{path} does not lie in the root folder {root}: name a folder that holds it")
            self.root = folder
        self._requests = 0

    def exists(self, name: bytes) -> bool:
        """Whether there is something at a path that MuJoCo may ask for later. Nothing is opened. Raises `UserError`."""
        self._requests += 1
        if self._requests > MAX_REQUESTS:
            raise UserError(f"{self.shown} asks for files more than {MAX_REQUESTS} times: make it smaller")
        return os.path.isabs(name) and os.path.exists(name)

    def open(self, name: bytes, most: int) -> BinaryIO:
        """A file that MuJoCo reads, of at most `most` bytes. Raises `UserError` for one that may not be read."""
        words = f"{self.shown}: its file {self._words(name)}"
        try:
            real = Path(os.path.realpath(os.fsdecode(name), strict=True))
            if not self._inside(real):
                where = f"{self.root}: put it inside, or name a folder that holds both as root"
                raise UserError(f"{words} lies outside {where}")
            before = real.stat()
            if not stat.S_ISREG(before.st_mode):
                raise UserError(f"{words} is not a plain file")
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
            file = os.fdopen(os.open(real, flags), "rb", buffering=0)
        except OSError as error:
            raise UserError(f"{words} cannot be read: {error.strerror or error}") from None
        now = os.fstat(file.fileno())
        if not os.path.samestat(before, now) or now.st_size > most:
            file.close()
            raise UserError(f"{words} holds more than {most} bytes, or changed while it was opened")
        return file

    def _inside(self, real: Path) -> bool:
        if real.is_relative_to(self.root) or real == Path(os.path.realpath(self.path)):
            return True
        return self._store is not None and real.parent == self._store

    def _words(self, name: bytes) -> str:
        """A file's path from the root folder, and where it leads to if it is, or lies below, a link."""
        path = os.fsdecode(name)
        real = os.path.realpath(path)
        said = _printable(os.path.relpath(path, self.root) if Path(path).is_relative_to(self.root) else path)
        return f"'{said}'" if real == os.path.normpath(path) else f"'{said}' (a link to '{_printable(real)}')"


def _printable(path: str) -> str:
    """At most `LONGEST` letters of a name that somebody else chose, in one line."""
    letters = "".join(letter if letter.isprintable() else "?" for letter in path)
    return letters if len(letters) <= LONGEST else f"...{letters[3 - LONGEST :]}"


def _plain_file(path: Path) -> Path:
    """The absolute path, whose last part may be a link. Raises `UserError` unless a model may be in it."""
    wrong = OTHER_SUFFIXES.get(path.suffix.lower())
    try:
        str(path).encode()
        absolute = Path(os.path.abspath(path))
        if absolute.is_dir():
            raise UserError(f"{path} is a folder: name the model file in it{_example(absolute)}")
        if wrong:
            raise UserError(f"{path} {wrong}")
        if path.suffix.lower() not in SUFFIXES:
            raise UserError(f"{path} does not end in {', '.join(SUFFIXES)}: name the robot's MJCF or URDF file")
        mode = absolute.stat().st_mode
    except (UnicodeEncodeError, ValueError):
        raise UserError(f"{str(path)!r} cannot be loaded: a robot file needs a name in UTF-8") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    if not stat.S_ISREG(mode):
        raise UserError(f"{path} is not a plain file: name the robot's MJCF or URDF file itself")
    return absolute


def _example(folder: Path) -> str:
    names = (name for name in sorted(os.listdir(folder)) if name.lower().endswith(SUFFIXES) and name.isprintable())
    first = next(names, None)
    return f", such as {first}" if first else ""


def _store(path: Path, folder: Path) -> Path | None:
    """The folder of a robot file's target, where the robot file is a link out of its folder into a store of files.

    A folder that holds the robot's own folder is no store: everything beside a download would be.
    """
    if not path.is_symlink():
        return None
    store = Path(os.path.realpath(path)).parent
    return None if folder.is_relative_to(store) else store
