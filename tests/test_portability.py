"""Where POSIX is missing the commands still answer, in one line where something cannot work."""

import errno
import subprocess
import sys
from pathlib import Path

import filelock
import pytest

import doctor
from envs.errors import UserError
from envs.user_model import load_model
from training.files import LOCK, locked

ROOT = Path(__file__).parent.parent
HIDDEN = """
import os, signal, sys
for module in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[module] = None
for name in ("O_NOFOLLOW", "O_NONBLOCK", "sysconf", "sched_getaffinity"):
    delattr(os, name)
for name in ("SIGALRM", "SIGXCPU", "SIGKILL", "alarm"):
    delattr(signal, name)
import quickstudy
sys.exit(quickstudy.main(sys.argv[1:]))
"""
TRAIN = (
    *("train", "rl2", "terrain-planar", "--steps", "200", "--meta-batch-size", "1", "--trials-per-task", "1"),
    *("--episodes-per-trial", "2", "--minibatches", "1", "--hidden-size", "4", "--evaluate-every", "0"),
)


def without_posix(folder: Path, *arguments: str) -> tuple[int, str, str]:
    """Exit code and output of a command in a Python that has what Windows has."""
    quiet = "ignore:only soft file lock"  # what filelock says of a Python without fcntl that is not Windows'
    line = [sys.executable, "-W", quiet, "-c", HIDDEN, *arguments]
    done = subprocess.run(line, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


def test_training_and_evaluation_work_without_posix(tmp_path: Path) -> None:
    assert without_posix(tmp_path, *TRAIN, "--out", "run")[::2] == (0, "")
    assert without_posix(tmp_path, "resume", "run", "--steps", "300")[::2] == (0, "")
    evaluate = ("evaluate", "run", "--tasks", "1", "--episodes", "2", "--threads", "1", "--out", "results")
    assert without_posix(tmp_path, *evaluate)[::2] == (0, "")
    assert not list(tmp_path.rglob(LOCK))


def test_a_robot_file_is_refused_in_one_line_where_a_process_cannot_be_limited(tmp_path: Path) -> None:
    (tmp_path / "robot.xml").write_text("<mujoco/>")
    code, _, err = without_posix(tmp_path, "preview", "robot.xml")
    assert (code, err.count("\n")) == (2, 1)
    assert "use Linux or macOS" in err
    assert load_model(tmp_path / "robot.xml").nbody == 1


def test_the_doctor_says_what_is_missing_without_posix(tmp_path: Path) -> None:
    code, out, _ = without_posix(tmp_path, "doctor")
    assert code == 0
    found = {line.split()[1]: line.split()[0] for line in out.splitlines() if line.startswith(("ok", "warning"))}
    assert (found["system"], found["locking"], found["writing"]) == ("warning", "warning", "ok")
    assert "Linux, macOS, or WSL on Windows" in out


def test_the_doctor_is_content_with_what_posix_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert [finding.state for check in (doctor.system, doctor.locking) for finding in check()] == ["ok", "ok"]
    assert not list(tmp_path.iterdir())


def test_a_lock_keeps_others_out_and_ends_with_the_process(tmp_path: Path) -> None:
    holder = "import sys\nfrom pathlib import Path\nfrom training.files import locked\n"
    holder += "with locked(Path(sys.argv[1]), 'busy'):\n    print('held', flush=True)\n    sys.stdin.read()\n"
    line = [sys.executable, "-c", holder, str(tmp_path)]
    with subprocess.Popen(line, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(UserError, match="busy"), locked(tmp_path, "busy"):
            pass
        process.kill()
    assert (tmp_path / LOCK).exists()
    with locked(tmp_path, "busy"):
        pass
    assert not (tmp_path / LOCK).exists()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(descriptor: int, *, blocking: bool) -> bool:
        raise OSError(number, "no locks")

    monkeypatch.setattr(filelock, "lock_descriptor", refuse)
    with locked(tmp_path, "busy"):
        assert (tmp_path / LOCK).exists()
    assert not (tmp_path / LOCK).exists()
    monkeypatch.chdir(tmp_path)
    assert [finding.state for finding in doctor.locking()] == ["warning"]
