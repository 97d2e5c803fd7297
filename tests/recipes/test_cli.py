import subprocess
import sys
from pathlib import Path

import pytest

from recipes import cli, finetune
from recipes.cli import main
from recipes.finetune import PRESETS, Config
from recipes.parts.command_line import guarded, parse
from recipes.parts.stages import Stage, TrainingFailed
from zoo.errors import InputError


def config_from(*words):
    return parse(Config, words, prog="zoo finetune", description="", presets=PRESETS)


def test_help_lists_every_command(capsys):
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    for command in cli.COMMANDS:
        assert f"  {command} " in shown


def test_without_a_command_the_help_is_shown_and_the_code_says_so(capsys):
    assert main([]) == 2
    assert "usage: zoo" in capsys.readouterr().out


def test_an_unknown_command_names_the_closest(capsys):
    assert main(["fintune"]) == 2
    error = capsys.readouterr().err
    assert "Did you mean finetune" in error
    assert error.count("\n") == 1


def test_every_recipe_can_be_called_and_copied():
    for recipe in cli.RECIPES:
        assert recipe in cli.COMMANDS
        assert Path(cli.__file__).with_name(f"{cli.SCRIPTS.get(recipe, recipe)}.py").is_file()


def test_flags_change_a_preset():
    config = config_from("--preset", "smoke", "--seed", "4", "--no-deterministic", "--epochs", "2", "3")
    assert config.image_size == PRESETS["smoke"].image_size
    assert (config.seed, config.deterministic, config.epochs) == (4, False, (2, 3))


def test_flags_change_a_file(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"backbone": "VGG16", "stages": [{"name": "only", "unfreeze": "last:1"}], "seed": 3}')
    config = config_from("--config", str(path), "--seed", "5")
    assert (config.backbone, config.seed) == ("VGG16", 5)
    assert config.stages == (Stage(name="only", unfreeze="last:1"),)


def test_another_strategy_replaces_the_stages_of_a_file(tmp_path):
    path = tmp_path / "config.json"
    path.write_text('{"strategy": "full", "stages": [{"name": "only", "unfreeze": "last:1"}]}')

    def chosen(*words):
        follows = {"stages": ["strategy"]}
        return parse(Config, ["--config", str(path), *words], prog="", description="", presets={}, follows=follows)

    assert chosen().stages == chosen("--strategy", "full").stages == (Stage(name="only", unfreeze="last:1"),)
    assert chosen("--strategy", "linear_probe").stages == ()


def test_a_switch_that_may_be_left_open():
    assert config_from().deterministic is None
    assert config_from("--deterministic").deterministic is True
    assert config_from("--no-deterministic", "--seed", "3").deterministic is False
    assert config_from("--deterministic", "None", "--seed", "3").deterministic is None


def test_every_preset_is_a_configuration():
    assert {"smoke"} <= PRESETS.keys()
    for preset in PRESETS.values():
        finetune.check_config(preset, finetune.find(preset.backbone))


@pytest.mark.parametrize("words", [["--preset", "smok"], ["--config", "none.json"]])
def test_a_start_that_does_not_exist(words):
    with pytest.raises(InputError, match=r"smok|none\.json"):
        config_from(*words)


@pytest.mark.parametrize("words", [["--epochs", "many"], ["--no-such-flag"], ["--resize", "squash"]])
def test_flags_that_make_no_sense_exit_with_2(words, capsys):
    with pytest.raises(SystemExit) as stop:
        config_from(*words)
    assert stop.value.code == 2
    assert words[0] in capsys.readouterr().err


def test_exit_codes(capsys):
    def failing(error):
        def job():
            raise error

        return job

    assert guarded(lambda: None) == 0
    assert guarded(failing(InputError("wrong"))) == 2
    assert guarded(failing(TrainingFailed("diverged"))) == 1
    assert guarded(failing(KeyboardInterrupt())) == 130
    assert guarded(failing(OSError(28, "No space left on device", "model.keras"))) == 1
    assert guarded(failing(MemoryError())) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[:3] == ["error: wrong", "stopped: diverged", "interrupted"]
    assert lines[3] == "stopped: No space left on device: model.keras"
    assert "out of memory" in lines[4]
    with pytest.raises(ZeroDivisionError):
        guarded(failing(ZeroDivisionError()))


def test_copy_puts_a_script_that_runs_from_anywhere(tmp_path, capsys):
    assert main(["copy", "finetune", str(tmp_path / "mine.py")]) == 0
    assert "mine.py" in capsys.readouterr().out
    done = subprocess.run(
        [sys.executable, "mine.py", "--backbone", "nothing"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "Unknown backbone 'nothing'" in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "usage: zoo copy"),
        (["finetun", "new.py"], "Did you mean finetune"),
        (["finetune", "taken.py"], "exists already"),
        (["finetune", "no/such/folder.py"], "Cannot write"),
    ],
)
def test_copy_never_overwrites_and_says_what_is_wrong(words, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken.py").write_text("mine")
    assert main(["copy", *words]) == 2
    assert message in capsys.readouterr().err
    assert (tmp_path / "taken.py").read_text() == "mine"


@pytest.mark.parametrize(
    ("words", "code"), [(["list"], 0), (["no_such_command"], 2), (["describe", "no_such_model"], 2)]
)
def test_a_process_ends_with_its_code_and_all_that_it_said(words, code, capsys):
    done = subprocess.run([sys.executable, "-m", "recipes.cli", *words], capture_output=True, text=True, timeout=120)
    assert done.returncode == main(words) == code
    said = capsys.readouterr()
    assert (done.stdout, done.stderr) == (said.out, said.err)
    assert said.out or said.err
