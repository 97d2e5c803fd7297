"""`zoo search` as people run it: through its command line, killed, gone on with, and with workers from elsewhere."""

import csv
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from recipes import search, train
from recipes.parts.config_file import read_config
from zoo.errors import InputError

ROOT = Path(__file__).parents[3]
SMALL = ("--model", "vgg_nano", "--image-size", "16", "--epochs", "1", "--seeds", "0", "--vary", "pool", "width")
SPACE = """
from recipes.parts.search.candidates import Architecture
from recipes.parts.search.space import space
from zoo import vary

@space("mine")
def sample(hp, base):
    width = hp.Choice("width", {widths})
    return Architecture(spec=vary(base, width=width), learning_rate=hp.Choice("rate", [0.05, 0.1]))
"""


def command(*flags):
    return [sys.executable, "-m", "recipes.cli", "search", *map(str, flags)]


def environment(**more):
    return {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", **more}


def zoo_search(*flags, code=0, **more):
    done = subprocess.run(command(*flags), capture_output=True, text=True, env=environment(**more), timeout=900)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if not code else done.stderr


def results(folder):
    with (folder / "results.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def trials(folder):
    return json.loads((folder / "session.json").read_text())["trials"]


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small search that is over, and what it printed."""
    folder = tmp_path_factory.mktemp("small") / "search"
    return folder, zoo_search("--preset", "smoke", "--out", folder)


def test_the_smoke_preset_leaves_a_report_and_a_configuration(small):
    folder, printed = small
    assert printed.splitlines()[-1] == str(folder)
    assert "searching 1 hyperparameter, 4 combinations: width" in printed
    assert [row["status"] for row in results(folder)] == ["done", "done"]
    assert {"width"} == set(results(folder)[0]) & {"width", "dropout", "optimizer"}
    assert (folder / "search.png").stat().st_size > 10_000
    assert "# Search" in (folder / "report.md").read_text()
    best = max(trials(folder), key=lambda trial: trial["score"])
    config = read_config(train.Config, folder / "best.json")
    assert config.spec.stages[0].filters == best["outcome"]["settings"]["spec"]["stages"][0]["filters"]


@pytest.mark.slow
def test_the_same_command_has_nothing_left_to_do(small):
    folder, _ = small
    before = (folder / "session.json").read_text()
    printed = zoo_search("--preset", "smoke", "--out", folder)
    assert "0000  done" not in printed
    assert json.loads((folder / "session.json").read_text())["trials"] == json.loads(before)["trials"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--seed", "1"], "--seed was 0, is 1"),
        (["--objective", "loss"], '--objective was "accuracy", is "loss"'),
        (["--vary", "width", "dropout"], "dropout"),
        (["--vary", "dropout", "--extend"], "do not belong to it"),
    ],
)
def test_another_search_in_the_same_folder_is_refused(small, flags, message, capsys):
    folder, _ = small
    before = (folder / "session.json").read_text()
    assert search.main(["--preset", "smoke", "--out", str(folder), *flags]) == 2
    assert message in capsys.readouterr().err
    assert (folder / "session.json").read_text() == before


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--max-trials", "0"], "--max-trials is 1 or more"),
        (["--max-latency-ms", "0"], "--max-latency-ms is more than 0"),
        (["--workers", "0"], "--workers is 1 or more"),
        (["--address", "everywhere"], "HOST:PORT"),
        (["--fix", "optimizer"], "NAME=VALUE"),
        (["--model", "vgg_smal"], "Did you mean vgg_small"),
        (["--space", "finetune", "--backbone", "MobilNet"], "Did you mean MobileNet"),
        (["--space", "finetune", "--weights", "nowhere.h5"], "nowhere.h5"),
        (["--join", "here:8600"], "--join needs --out"),
        (["--report", "nowhere"], "holds no search"),
        (["--report", "nowhere", "--seed", "3"], "nothing else goes with it"),
    ],
)
def test_bad_flags_are_one_line(flags, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert search.main(flags) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_folder_with_something_else_is_left_alone(tmp_path, capsys):
    (tmp_path / "thesis.tex").touch()
    assert search.main(["--out", str(tmp_path)]) == 2
    assert "holds something else than a search" in capsys.readouterr().err


def test_what_is_wrong_with_the_space_is_said_before_a_folder_is_made(tmp_path, capsys):
    for flags, message in (
        (["--space", "architecure"], "Did you mean"),
        (["--vary", "colour"], "Unknown hyperparameter 'colour'"),
        (["--fix", "optimizer=adam"], "adamw"),
        (["--image-size", "4"], "at least 8 pixels a side"),
    ):
        assert search.main([*flags, "--out", str(tmp_path / "search")]) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "search").exists()


def test_the_default_folder_follows_from_what_is_searched():
    folder = search.folder_of(search.Config(space="my/space.py:wide", data="folder:/data/my flowers/"))
    assert folder == Path("runs/search-space-my-flowers").absolute()


def test_addresses_may_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "10.0.0.1")
    monkeypatch.setenv("KERASTUNER_ORACLE_PORT", "8600")
    assert search.from_environment(search.Config()).address == "10.0.0.1:8600"
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "tuner7")
    assert search.from_environment(search.Config()).join == "10.0.0.1:8600"
    with pytest.raises(InputError, match="--join needs --out"):
        search.folder_of(search.from_environment(search.Config()))


@pytest.mark.slow
def test_the_same_seed_gives_the_same_trials_with_the_same_scores(tmp_path):
    for name in ("one", "other"):
        zoo_search(*SMALL, "--max-trials", 8, "--engine", "bayesian", "--seed", 3, "--out", tmp_path / name)
    one, other = ([(trial["values"], trial["score"]) for trial in trials(tmp_path / name)] for name in ("one", "other"))
    assert one == other
    assert len(one) == 8


@pytest.mark.slow
@pytest.mark.parametrize(
    ("killed", "engine", "workers"), [("worker", "random", 1), ("chief", "grid", 2), ("all", "hyperband", 2)]
)
def test_whatever_is_killed_at_5_random_moments_no_trial_is_lost_or_repeated(tmp_path, killed, engine, workers):
    draw = random.Random(0)  # moments, not secrets
    folder = tmp_path / "search"
    flags = (*SMALL, "--max-trials", 20, "--engine", engine, "--workers", workers, "--out", folder)

    def start():
        return subprocess.Popen(command(*flags), env=environment(), stdout=subprocess.DEVNULL)

    def busy():
        pulses = [json.loads(path.read_text()) for path in (folder / "workers").glob("w*.json")]
        return [pulse for pulse in pulses if pulse["trial"]]

    process, ended, hit = start(), {}, set()
    while process.poll() is None:
        time.sleep(0.05)
        if len(hit) == 5 or not (folder / "session.json").exists():
            continue
        for trial in trials(folder):
            if trial["status"] == "done":
                # What has ended once stays as it is.
                assert ended.setdefault(trial["id"], trial["outcome"]) == trial["outcome"]
        for pulse in busy():
            if pulse["trial"] not in hit and draw.random() < 0.3:
                hit.add(pulse["trial"])
                time.sleep(draw.uniform(0, 2))
                victims = [pulse["process"]] if killed == "worker" else [process.pid]
                victims += [each["process"] for each in busy()] if killed == "all" else []
                for victim in victims:
                    try:
                        os.kill(victim, signal.SIGKILL)
                    except ProcessLookupError:  # it has ended by itself
                        hit.discard(pulse["trial"])
                if killed != "worker":
                    process.wait()
                    process = start()
                break
    assert process.returncode == 0
    assert len(hit) == 5
    found = trials(folder)
    assert [trial["status"] for trial in found] == ["done"] * len(found)
    assert len(found) == 20 or engine == "hyperband"
    assert all(trial["outcome"] == ended.get(trial["id"], trial["outcome"]) for trial in found)
    values = [json.dumps(trial["values"], sort_keys=True) for trial in found]
    assert len(set(values)) == len(values)
    assert len(results(folder)) == len(found)


@pytest.mark.slow
def test_a_space_that_has_grown_goes_on_where_it_was_told_to(tmp_path):
    file = tmp_path / "mine.py"
    flags = ("--space", file, *SMALL[:-3], "--max-trials", 20, "--engine", "grid", "--out", tmp_path / "search")
    file.write_text(SPACE.format(widths=[0.5, 1.0]))
    assert "4 combinations" in zoo_search(*flags)
    file.write_text(SPACE.format(widths=[0.5, 1.0, 2.0]))
    assert "--extend" in zoo_search(*flags, code=2)
    zoo_search(*flags, "--extend")
    found = [(trial["values"]["width"], trial["values"]["rate"]) for trial in trials(tmp_path / "search")]
    assert sorted(found) == [(width, rate) for width in (0.5, 1.0, 2.0) for rate in (0.05, 0.1)]
    file.write_text(SPACE.format(widths=[0.5]))
    assert "do not belong to it" in zoo_search(*flags, "--extend", code=2)


@pytest.mark.slow
def test_a_candidate_that_cannot_be_built_costs_itself_and_its_reason_is_in_the_table(tmp_path):
    file = tmp_path / "mine.py"
    broken = "    if width == 0.5: raise ZeroDivisionError('half')\n    return"
    file.write_text(SPACE.format(widths=[1.0, 0.5]).replace("    return", broken))
    out = ("--out", tmp_path / "search")
    assert "mine.py, line 9: ZeroDivisionError: half" in zoo_search("--space", file, *SMALL[:-3], *out, code=2)
    assert not (tmp_path / "search").exists()
    # What only shows when the network is built costs its trial.
    unknown = SPACE.format(widths=[1.0, 0.5]).replace(
        "width=width)", 'width=width, pool="no_such" if width == 0.5 else None)'
    )
    file.write_text(unknown)
    zoo_search("--space", file, *SMALL[:-3], "--engine", "grid", "--max-params", 10**9, *out)
    found = results(tmp_path / "search")
    assert sorted(row["status"] for row in found) == ["done", "done", "failed", "failed"]
    assert all("no_such" in row["reason"] for row in found if row["status"] == "failed")


@pytest.mark.slow
def test_workers_from_elsewhere_join_and_what_is_lost_with_them_is_done_by_others(tmp_path):
    folder = tmp_path / "search"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    flags = (*SMALL, "--max-trials", 12, "--engine", "random", "--address", address, "--out", folder)
    chief = subprocess.Popen(command(*flags), env=environment(), stdout=subprocess.DEVNULL)
    while not (folder / "session.json").exists():
        assert chief.poll() is None
        time.sleep(0.2)
    joined = subprocess.Popen(command("--join", address, "--out", folder), env=environment(), stdout=subprocess.DEVNULL)

    def taken():
        return [trial for trial in trials(folder) if not trial["worker"].startswith("worker-")]

    while not any(trial["status"] == "running" for trial in taken()):
        assert chief.poll() is None
        time.sleep(0.05)
    joined.kill()  # and with it, as it has no parent any more, its worker
    joined.wait()
    assert chief.wait(600) == 0
    found = trials(folder)
    assert [trial["status"] for trial in found] == ["done"] * 12
    assert len({json.dumps(trial["values"]) for trial in found}) == 12


def test_a_search_that_was_killed_before_it_began_can_begin(tmp_path, capsys):
    for name in (".under-way", "config.json", ".search-123.json"):
        (tmp_path / name).touch()
    # It gets as far as to look at the space.
    assert search.main(["--vary", "colour", "--out", str(tmp_path)]) == 2
    assert "Unknown hyperparameter 'colour'" in capsys.readouterr().err


def test_a_space_for_another_recipe_is_refused(small, capsys):
    folder, _ = small
    assert search.main(["--preset", "smoke", "--vary", "--space", "finetune", "--out", str(folder)]) == 2
    assert "holds a search for `zoo train`" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["my.pylons/a.py", ".pyenv/a.py:wide"])
def test_a_file_of_a_space_may_be_anywhere(name):
    assert search.whole_space(search.Config(space=name)) == str(Path.cwd() / name)
