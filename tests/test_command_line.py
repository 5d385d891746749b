"""The command line: a mistake is one line and exit code 2, nothing is overwritten, and the commands fit together."""

import ast
import contextlib
import dataclasses
import io
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import doctor
import quickstudy
from agents.catalogue import AGENTS, TRAINABLE, agent_class
from command_line import FAMILY_HELP, PRESET_HELP, UNTRAINED, make_parser, whole_number
from envs.errors import UserError
from envs.families import FAMILIES, make_family
from evaluation.presets import PRESETS
from training.flags import TRAIN_CONFIG, run_config, settings_of
from training.loop import TrainConfig

ROOT = Path(__file__).parent.parent
COMMANDS = (
    *("families", "preview", "train", "resume", "evaluate", "render", "benchmark", "headroom", "report", "validate"),
    "doctor",
)
TINY = (
    *("--meta-batch-size", "2", "--trials-per-task", "1", "--episodes-per-trial", "2", "--minibatches", "1"),
    *("--hidden-size", "4", "--evaluate-every", "0", "--threads", "1"),
)


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of one command."""
    try:
        code = quickstudy.main(arguments)
    except SystemExit as end:
        code = int(end.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that a mistake is answered with."""
    code, _, err = call(capsys, *arguments)
    assert code == 2
    assert err.startswith("quickstudy: error: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    return err.removeprefix("quickstudy: error: ").strip()


# -- help --------------------------------------------------------------------------------------------------------------


def test_the_overview_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "--help")
    assert code == 0
    assert set(make_parser()[1]) == set(COMMANDS) == set(quickstudy.COMMANDS)
    assert all(f"    {name} " in out or f"    {name}\n" in out for name in COMMANDS)
    assert call(capsys) == (code, out, "")


def test_version_is_that_of_pyproject(capsys: pytest.CaptureFixture[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert call(capsys, "--version") == (0, f"quickstudy {project['version']}\n", "")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches(capsys: pytest.CaptureFixture[str], command: str) -> None:
    code, out, err = call(capsys, command, "--help")
    assert (code, err) == (0, "")
    assert f"usage: quickstudy {command}" in out
    assert f"example:\n  quickstudy {command}" in out
    assert "exit codes: 0 done" in out


def test_help_needs_neither_torch_nor_mujoco() -> None:
    check = (
        "import sys, quickstudy\ntry: quickstudy.main(['train', 'maml', 'grasp', '--help'])\nexcept SystemExit: pass\n"
    )
    check += "print([name for name in ('torch', 'mujoco', 'stable_baselines3', 'matplotlib') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert "--inner-lr FLOAT" in done.stdout


@pytest.mark.parametrize("agent", TRAINABLE)
def test_help_of_train_lists_the_agents_settings_as_they_are(agent: str) -> None:
    config_type = agent_class(agent).config_type
    listed = settings_of(AGENTS[agent])
    assert [setting.name for setting in listed] == [field.name for field in dataclasses.fields(config_type)]
    for setting, field in zip(listed, dataclasses.fields(config_type), strict=True):
        default = " ".join(map(str, field.default)) if isinstance(field.default, tuple) else str(field.default)
        assert setting.default == default
        assert setting.meaning, f"{agent}: {setting.flag} has no line of meaning"
    assert {setting.name for setting in settings_of(TRAIN_CONFIG)} == {
        field.name for field in dataclasses.fields(TrainConfig)
    }


def test_help_names_what_there_is() -> None:
    assert all(name in FAMILY_HELP for name in FAMILIES)
    assert all(agent in AGENTS and agent not in TRAINABLE for agent in UNTRAINED)
    assert set(re.findall(r"(\w+):", PRESET_HELP)) == set(PRESETS)


# -- mistakes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("trian maml grasp", "no command is called 'trian': did you mean 'train'?"),
        ("xyzzy", "no command is called 'xyzzy': there are families, preview"),
        ("--verbose", "the following arguments are required: COMMAND"),
        ("families --jsn", "there is no flag --jsn: did you mean --json?"),
        ("families gasp", "no family is called 'gasp': did you mean 'grasp'?"),
        ("families grasp terrain", "'terrain' is one argument too many"),
        ("preview", "the following arguments are required: FAMILY"),
        ("preview gasp", "no family is called 'gasp': did you mean 'grasp'?"),
        ("preview grasp --split tset", "invalid choice: 'tset'"),
        ("preview grasp --count 0", "argument --count: must be 1 or more, got 0"),
        ("preview grasp --count many", "argument --count: 'many' is not a whole number"),
        ("preview grasp --out sheet.pdf", "a preview is a .png, .jpg or .webp file, got 'sheet.pdf'"),
        ("train maml", "the following arguments are required: FAMILY"),
        ("train mamml grasp", "no agent is called 'mamml': did you mean 'maml'?"),
        ("train random grasp", "'random' has no training of its own: train one of maml"),
        ("train maml terrian", "no family is called 'terrian': did you mean 'terrain'?"),
        ("train maml terrain-planar --iner-lr 0.1", "there is no flag --iner-lr: did you mean --inner-lr?"),
        ("train maml terrain-planar --ouput x", "there is no flag --ouput: did you mean --out?"),
        ("train maml terrain-planar --max-kl fast", "--max-kl: could not convert string to float: 'fast'"),
        ("train maml terrain-planar --inner-lr nan", "inner-lr must be from 1e-08 to 10000, got nan"),
        ("train maml terrain-planar --inner-lr", "Missing value for argument '--inner-lr'"),
        ("train maml terrain-planar --outer adam", "invalid choice 'adam' for argument '--outer'"),
        ("train maml terrain-planar --steps -5", "argument --steps: '-5' is not a whole number"),
        ("train maml terrain-planar --steps 0", "argument --steps: must be 1 or more, got 0"),
        ("train maml terrain-planar --seed 1.5", "argument --seed: '1.5' is not a whole number"),
        ("train maml terrain-planar --seed 1e30", "argument --seed: 1e30 is too large"),
        ("train ppo-robust terrain-planar --target-kl x", "Error parsing --target-kl: no type matching {None}|FLOAT"),
        ("train maml terrain-planar --evaluate-tasks 0", "evaluate_tasks must be at least 1, got 0"),
        ("train maml terrain-planar --keep 1.5", "Error parsing --keep: '1.5' is not a whole number"),
        ("train maml terrain-planar --threads 100000", "train.threads must be at most 1024, got 100000"),
        ("train maml terrain-planar more", "'more' is one argument too many"),
        ("train maml terrain-planar --config missing.toml", "cannot read missing.toml: No such file"),
        ("resume nowhere", "nowhere is not a run"),
        ("evaluate nowhere", "'nowhere' is neither a run directory nor a shipped agent"),
        ("evaluate nowhere --episodes 0", "argument --episodes: must be 1 or more, got 0"),
        ("render nowhere --out film.avi", "'film.avi' must end in .mp4 or .webp or .gif"),
        ("render nowhere", "'nowhere' is neither a run directory nor a shipped agent"),
        ("render maml/grasp --episodes 3", "--episodes 3 does not fit: maml plays rounds of 5; give 5 or more"),
        (
            "render rl2/grasp --episodes 3 --against ppo",
            "--episodes 3 does not fit: rl2 plays rounds of 1 and ppo plays rounds of 10; give a multiple of 10",
        ),
        ("render maml/grasp --episodes 15 --against ppo", "--episodes 15 does not fit: maml plays rounds of 5 and ppo"),
        ("resume nowhere --threads 2000", "argument --threads: 2000 is too large: use 1024 at most"),
        ("benchmark demo", "the following arguments are required: --out"),
        ("benchmark dmo --out there", "no preset is called 'dmo': did you mean 'demo'?"),
        ("report nowhere", "nowhere"),
        ("validate quick", "invalid choice: 'quick'"),
    ],
)
def test_a_mistake_is_answered_in_one_line_and_leaves_no_trace(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert says in complaint(capsys, *line.split())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "number"), [("0", 0), ("12", 12), ("1_000", 1000), ("2.5e3", 2500), ("9" * 15, 10**15 - 1)]
)
def test_numbers_are_read_exactly(text: str, number: int) -> None:
    assert whole_number(text) == number


def test_a_complaint_about_a_flag_reads_the_same_where_boxes_cannot_be_drawn() -> None:
    for encoding in ("utf-8", "ascii"):
        with (
            contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO(), encoding=encoding)),
            pytest.raises(UserError, match=r"^Error parsing --max-kl: could not convert string to float: 'fast'$"),
        ):
            run_config("maml", "terrain-planar", None, ["--max-kl", "fast"], ())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("agent = ", "is not valid TOML"),
        ('agent = "rl2"', "is for agent 'rl2', but the command line says 'maml'"),
        ("[agent_config]\ninner_lrate = 0.1", "did you mean 'agent_config.inner_lr'?"),
        ('[agent_config]\ninner_lr = "fast"', "agent_config.inner_lr"),
        ("[train]\nsteps = 0", "train.steps must be at least 1, got 0"),
        ("[trian]\nsteps = 10", "no setting is called 'trian': did you mean 'train'?"),
        ("inner_lr = 0.1", "'inner_lr' stands at the top level, and belongs in the table [agent_config]"),
        ("steps = 10", "'steps' stands at the top level, and belongs in the table [train]"),
        ("[train]\ninner_lr = 0.1", "'inner_lr' stands in [train], and belongs in the table [agent_config]"),
        ("[agent_config]\nseed = 1", "'seed' stands in [agent_config], and belongs in the table [train]"),
        ("[train]\nsteps = 10.5", "train.steps: input should be a valid integer, got 10.5"),
        ("[train]\nkeep = true", "train.keep: input should be a valid integer, got True"),
        ('[train]\nkeep = "3"', "train.keep: input should be a valid integer, got '3'"),
    ],
)
def test_a_mistake_in_a_file_is_answered_in_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, says: str
) -> None:
    file = tmp_path / "config.toml"
    file.write_text(text, encoding="utf-8")
    answer = complaint(capsys, "train", "maml", "terrain-planar", "--config", str(file), "--out", str(tmp_path / "run"))
    assert says in answer
    assert str(file) in answer
    assert not (tmp_path / "run").exists()


def test_nothing_is_overwritten(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    picture, folder = tmp_path / "tasks.png", tmp_path / "mine"
    picture.write_text("precious")
    folder.mkdir()
    (folder / "thesis.txt").write_text("precious")
    assert "is there already" in complaint(capsys, "preview", "terrain-planar", "--out", str(picture))
    assert "use another --out" in complaint(capsys, "train", "maml", "terrain-planar", "--out", str(folder))
    assert picture.read_text() == (folder / "thesis.txt").read_text() == "precious"
    assert len(list(tmp_path.iterdir())) == 2
    assert len(list(folder.iterdir())) == 1


def test_a_fault_of_our_own_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(args: object) -> int:
        raise RuntimeError("a fault")

    monkeypatch.setitem(quickstudy.COMMANDS, "families", broken)
    with pytest.raises(RuntimeError, match="a fault"):
        quickstudy.main(["families"])


def test_ctrl_c_ends_with_130(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(args: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setitem(quickstudy.COMMANDS, "families", interrupted)
    assert call(capsys, "families")[0] == 130


@pytest.mark.parametrize(("signal_number", "code"), [(2, 130), (15, 143)])
def test_interrupted_training_ends_with_the_signals_code(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, signal_number: int, code: int
) -> None:
    from training.signals import Interrupted

    def interrupted(args: object) -> int:
        raise Interrupted(signal_number)

    monkeypatch.setitem(quickstudy.COMMANDS, "resume", interrupted)
    assert call(capsys, "resume", "run")[0] == code


def test_folders_from_elsewhere_are_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "ROOT", Path("/somewhere/else"))
    assert "is imported from" in complaint(capsys, "families")


# -- the commands ------------------------------------------------------------------------------------------------------


def test_families_tells_everything_twice(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "families", "--json")
    assert code == 0
    described = json.loads(out)
    assert [family["name"] for family in described] == list(FAMILIES)
    _, table, _ = call(capsys, "families")
    for family in described:
        assert family["horizon"] > 0
        assert family["control_rate_hz"] == pytest.approx(family["horizon"] / family["episode_seconds"])
        assert family["name"] in table
        for parameter in family["parameters"]:
            assert parameter["values"]["train"] == parameter["values"]["test"]
            assert parameter["name"] in table


@pytest.mark.parametrize("name", ["grasp", "bandit-10x20"])
def test_families_tells_of_one_alone(capsys: pytest.CaptureFixture[str], name: str) -> None:
    (described,) = json.loads(call(capsys, "families", name, "--json")[1])
    family = make_family(name)
    assert (described["name"], described["horizon"]) == (name, family.horizon)
    assert (described["observation_size"], described["action_size"]) == (family.observation_size, family.action_size)
    assert described["reward_terms"] == list(family.reward_terms)
    _, text, _ = call(capsys, "families", name)
    assert text.count("  version ") == 1
    assert all(parameter.name in text for parameter in family.parameters)


def test_flags_override_the_file_and_the_file_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("[agent_config]\ninner_lr = 0.3\ninner_steps = 2\n[train]\nsteps = 500\nseed = 4\n")
    config = run_config("maml", "point", file, ["--inner-steps", "3", "--keep", "5", "--first-order"], ())
    default = agent_class("maml").config_type()
    assert config.agent_config == dataclasses.replace(default, inner_lr=0.3, inner_steps=3, first_order=True)
    assert config.train == TrainConfig(steps=500, seed=4, keep=5)


@pytest.mark.parametrize("number", ["1000", "1e3", "1_000", "1000.0"])
@pytest.mark.parametrize("suffix", [".toml", ".json"])
def test_a_whole_number_means_the_same_on_the_command_line_and_in_a_file(
    tmp_path: Path, number: str, suffix: str
) -> None:
    file = tmp_path / f"config{suffix}"
    if suffix == ".toml":
        file.write_text(f"[agent_config]\nhidden_sizes = [{number}]\n[train]\ncheckpoint_every = {number}\n")
    else:
        whole = number.replace("_", "")
        file.write_text(f'{{"agent_config": {{"hidden_sizes": [{whole}]}}, "train": {{"checkpoint_every": {whole}}}}}')
    read = run_config("maml", "point", file, [], ())
    assert read == run_config("maml", "point", None, ["--hidden-sizes", number, "--checkpoint-every", number], ())
    assert (read.agent_config.hidden_sizes, read.train.checkpoint_every) == ((1000,), 1000)
    values = (*read.agent_config.hidden_sizes, read.train.checkpoint_every)
    assert all(type(value) is int for value in values)


def test_none_means_the_same_on_the_command_line_and_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[agent_config]\ntarget_kl = "None"\n')
    settings = [
        run_config("ppo-robust", "point", *given, ()) for given in ((file, []), (None, ["--target-kl", "None"]))
    ]
    assert settings[0] == settings[1]
    assert settings[0].agent_config.target_kl is None


@pytest.mark.parametrize(("suffix", "text"), [(".toml", "[train]\nseed = 7\n"), (".json", '{"train": {"seed": 7}}')])
def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path: Path, suffix: str, text: str) -> None:
    file = tmp_path / f"config{suffix}"
    file.write_text(text, encoding="utf-8-sig")
    assert file.read_bytes().startswith(b"\xef\xbb\xbf")
    assert run_config("maml", "point", file, [], ()).train.seed == 7


def test_train_resume_evaluate_report(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run, results = tmp_path / "run", tmp_path / "results"
    train = ("train", "rl2", "terrain-planar", "--steps", "400", "--seed", "3", *TINY, "--out", str(run))
    code, out, err = call(capsys, *train)
    assert (code, err) == (0, "")
    assert f"quickstudy evaluate {run}" in out
    config = json.loads((run / "config.json").read_text())
    assert (config["train"]["seed"], config["train"]["steps"], config["agent_config"]["hidden_size"]) == (3, 400, 4)

    assert "resume" in complaint(capsys, *train)
    assert "give a larger --steps" in complaint(capsys, "resume", str(run))
    assert call(capsys, "resume", str(run), "--steps", "600")[0] == 0
    steps = [json.loads(line)["env_steps"] for line in (run / "progress.jsonl").read_text().splitlines()]
    assert steps == [400, 800]

    evaluate = ("evaluate", str(run), "--tasks", "2", "--episodes", "2", "--threads", "1", "--out", str(results))
    assert call(capsys, *evaluate)[0] == 0
    table = (results / "episodes.csv").read_bytes()
    header, *rows = table.decode().splitlines()
    assert header == "family,version,split,agent,seed,task,episode,role,start,env_steps,return,success"
    assert {row.split(",")[7] for row in rows} == {"adapt", "probe"}

    summary = (results / "summary.json").read_bytes()
    (results / "summary.json").unlink()
    assert call(capsys, "report", str(results))[0] == 0
    assert (results / "summary.json").read_bytes() == summary
    assert (results / "episodes.csv").read_bytes() == table
    assert "<html" in (results / "report.html").read_text(encoding="utf-8")


def test_the_config_of_a_run_makes_it_again(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    train = ("train", "rl2", "terrain-planar", "--steps", "200")
    assert call(capsys, *train, *TINY, "--out", str(first))[0] == 0
    assert call(capsys, *train, "--config", str(first / "config.json"), "--out", str(second))[0] == 0
    weights = [next(run.glob("checkpoints/*1/tensors.safetensors")).read_bytes() for run in (first, second)]
    assert weights[0] == weights[1]


# -- the doctor --------------------------------------------------------------------------------------------------------


def test_doctor_ends_with_1_exactly_when_something_is_broken(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def well() -> object:
        yield doctor.Finding("one", "ok", "fine")
        yield doctor.Finding("two", "warning", "slow", "mend two")

    def faints() -> object:
        raise ImportError("no such library")

    monkeypatch.setattr(doctor, "CHECKS", (well,))
    code, out, _ = call(capsys, "doctor")
    assert code == 0
    assert "mend two" in out
    monkeypatch.setattr(doctor, "CHECKS", (faints, well))
    code, out, _ = call(capsys, "doctor")
    assert code == 1
    assert "no such library" in out
    assert "broken: faints" in out
    assert "mend two" in out


def test_doctor_compares_versions_with_pyproject(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {finding.state for finding in doctor.packages()} == {"ok"}
    monkeypatch.setattr("importlib.metadata.version", lambda name: "2.99.0" if name == "torch" else "0.0.1")
    torch = next(finding for finding in doctor.packages() if finding.subject == "torch")
    assert torch.state == "broken"
    assert "torch" in torch.mend


def test_doctor_says_where_nothing_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert [finding.state for finding in doctor.writing()] == ["ok"]

    def refuse(*args: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryDirectory", refuse)
    assert [finding.state for finding in doctor.writing()] == ["broken"]
    assert not list(tmp_path.iterdir())


def test_every_function_of_a_command_has_its_parser() -> None:
    tree = ast.parse((ROOT / "quickstudy.py").read_text(encoding="utf-8"))
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert {command.__name__ for command in quickstudy.COMMANDS.values()} <= defined
