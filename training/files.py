"""Files that are whole or not there, and JSON that says when it was altered.

A *sealed* table of JSON holds, beside its own keys, `sha256`: that of all the others. Whoever means to edit such a file
takes that line out.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock

from envs.errors import UserError

LOCK = ".lock"
"""The file that a process has a lock on while it writes into a folder."""
SEAL = "sha256"
NO_LINKS = getattr(os, "O_NOFOLLOW", 0)  # Windows has no such flag; links are refused by `refuse_link` all the same
BINARY = getattr(os, "O_BINARY", 0)  # without it Windows would change the line ends


def write_durably(path: Path, data: bytes) -> None:
    """Write a new file and wait until it is on the disk. Raises `OSError`."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk; Windows has no such call. Raises `OSError`."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, data: bytes) -> None:
    """Put a whole file in its place, or leave the old one; a link of that name is replaced, never followed.

    Raises `UserError` with the path and the bytes where it cannot be written; nothing is left beside it.
    """
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        unfinished.unlink(missing_ok=True)
        try:
            write_durably(unfinished, data)
            os.replace(unfinished, path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
        flush_folder(path.parent)
    except OSError as error:
        raise UserError(cannot_write(path, len(data), error)) from None


@contextlib.contextmanager
def locked(folder: Path, busy: str) -> Iterator[None]:
    """No other process writes into the folder meanwhile. Raises `UserError`, with the line `busy`, if one does.

    The system's own lock (`flock`, `LockFileEx`) is taken: it ends with the process, however that ends. It is on a file
    that is removed in the end: on network file systems one on the folder itself would be this machine's alone. A file
    system that has no locks is written to all the same.
    """
    path = folder / LOCK
    descriptor = _open_lock(path)
    try:
        try:
            free = filelock.lock_descriptor(descriptor, blocking=False)
        except OSError:  # of a file system, or of a Python, that has no locks
            free = True
        if not free or not _is_open_file(path, descriptor):  # gone: removed by who had it, and keeps nobody out
            raise UserError(busy)
        try:
            yield
        finally:
            with contextlib.suppress(PermissionError):  # Windows keeps the name of an open file
                path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _open_lock(path: Path) -> int:
    refuse_link(path)
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | NO_LINKS, 0o644)
    except OSError as error:
        raise UserError(cannot_write(path, 0, error)) from None


def _is_open_file(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def cannot_write(path: Path, size: int, error: OSError) -> str:
    """One line on a write that failed: the path, the bytes it takes, and what is left where the disk is full."""
    line = f"cannot write {path} ({size} bytes): {error.strerror or error}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        with contextlib.suppress(OSError):
            line += f", {shutil.disk_usage(path.parent).free} bytes are free"
    return line


def read_bytes(path: Path) -> bytes:
    """What is in a file that is no link. Raises `OSError`."""
    with open(os.open(path, os.O_RDONLY | NO_LINKS | BINARY), "rb") as file:
        return file.read()


def refuse_link(path: Path) -> None:
    """Raises `UserError` where a path of our own making is a link: it could lead anywhere."""
    if path.is_symlink():
        raise UserError(f"{path} is a symbolic link; runs and results are read from and written to real files only")


def read_table(path: Path) -> dict[str, Any]:
    """The table in a JSON file, without its seal. Raises `UserError` where it is unreadable, altered or a link."""
    refuse_link(path)
    try:
        data = json.loads(read_bytes(path))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise UserError(f"{path} is damaged: it is not valid JSON") from None
    if not isinstance(data, dict):
        raise UserError(f"{path} is damaged: it does not hold a table")
    return unsealed(data, str(path))


def write_table(path: Path, data: dict[str, Any]) -> None:
    """Write a sealed table of JSON in the place of what is there. Raises `UserError`."""
    replace_file(path, sealed(data))


def sealed(data: dict[str, Any]) -> bytes:
    """The text of a table of JSON with its seal."""
    return (json.dumps({**data, SEAL: _digest(data)}, indent=2) + "\n").encode()


def unsealed(data: dict[str, Any], where: str) -> dict[str, Any]:
    """A table without its seal. Raises `UserError` where there is one that does not fit; none is an edited table."""
    rest = {name: value for name, value in data.items() if name != SEAL}
    if SEAL in data and data[SEAL] != _digest(rest):
        raise UserError(
            f"{where} is damaged: its contents do not match its {SEAL}; if you edited it, take the line '{SEAL}' out"
        )
    return rest


def _digest(data: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True, separators=(",", ":"), default=str).encode()).hexdigest()
