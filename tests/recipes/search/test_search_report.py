import csv
import json
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tensorboard import context
from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
from tensorboard.plugins import base_plugin
from tensorboard.plugins.hparams import api_pb2, backend_context, metadata

from recipes.parts.config_file import config_to_json
from recipes.parts.search.final_runs import verdict
from recipes.parts.search.hparams_logs import write_logs
from recipes.parts.search.importance import importances
from recipes.parts.search.job import Job
from recipes.parts.search.pareto import cost_of, pareto_front
from recipes.parts.search.records import Outcome, Trial
from recipes.parts.search.report import make_report, write_results
from recipes.parts.search.report_page import report_page
from recipes.parts.search.results_file import write_finals_csv, write_results_csv
from recipes.parts.search.search_figure import draw_search
from zoo.errors import InputError

JOB = Job(
    space="architecture",
    recipe="train",
    data="digits",
    model="vgg_tiny",
    engine="random",
    max_trials=30,
    max_params=1_000_000,
    fix={"optimizer": "sgd"},
    image_size=16,
    batch_size=32,
    augmentation="none",
    epochs=10,
    final_epochs=20,
    num_classes=10,
)
HOSTILE = "=cmd|' /C calc'!A0"


def trial(place, accuracy, *, objective="accuracy", latency=True, **values):
    """A trial that is done; its loss is 1 - accuracy, and it has a thousand parameters for each of its place."""
    parameters = 1000 * (place + 1)
    outcome = Outcome(
        status="done",
        validation={"accuracy": accuracy, "loss": 1 - accuracy, "macro_f1": accuracy - 0.01},
        epochs=10,
        parameters=parameters,
        multiply_adds=20 * parameters,
        latency_ms=parameters / 1e4 if latency else None,
        seconds=5.0,
        settings={"model": "vgg_tiny", "seed": place},
    )
    score = outcome.validation[objective]
    return Trial(id=f"{place:04d}", values=values, status="done", worker="w1", began=1e9, score=score, outcome=outcome)


def failed(number, reason, **values):
    return Trial(id=f"{number:04d}", status="failed", values=values, outcome=Outcome(status="failed", reason=reason))


def final(kind, seed, tested):
    outcome = Outcome(
        status="done",
        validation={"accuracy": tested + 0.01, "loss": 0.3},
        test={"accuracy": tested, "loss": 1 - tested},
        parameters=5000,
        latency_ms=0.5,
    )
    return Trial(id=f"{kind}-{seed}", status="done", score=tested + 0.01, outcome=outcome)


def several(count, *, names=("width",), objective="accuracy", finals=True):
    rng = np.random.default_rng(0)
    trials = [
        trial(index, float(rng.random()), objective=objective, **{name: float(rng.random()) for name in names})
        for index in range(count)
    ]
    runs = [final(kind, seed, 0.8 + seed / 100) for kind in ("winner", "default") for seed in range(3)]
    return [*trials, *(runs if finals else [])]


def rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# results.csv and best.json


def test_a_row_for_each_trial_in_the_order_in_which_they_began(tmp_path):
    trials = [
        trial(11, 0.75, width=0.5, pool="max"),
        failed(2, 'no\nmemory, "really"', width=1.0),
        Trial(id="0012", values={"pool": "avg"}, worker="w2", attempts=2),
        final("winner", 0, 0.9),
    ]
    write_results_csv(tmp_path / "results.csv", trials)
    write_finals_csv(tmp_path / "finals.csv", trials)
    first, second, third = rows(tmp_path / "results.csv")
    assert " ".join(first) == (
        "id status score accuracy loss macro_f1 epochs parameters multiply_adds latency_ms seconds attempts worker "
        "reason width pool"
    )
    assert first == {
        **dict.fromkeys(first, ""),
        "id": "0002",
        "status": "failed",
        "attempts": "1",
        "reason": 'no\\nmemory, "really"',
        "width": "1.0",
    }
    assert (second["id"], second["score"], second["parameters"], second["latency_ms"]) == (
        "0011",
        "0.75",
        "12000",
        "1.2",
    )
    assert (third["status"], third["attempts"], third["width"], third["pool"]) == ("running", "2", "", "avg")
    (winner,) = rows(tmp_path / "finals.csv")
    assert (winner["kind"], winner["seed"], winner["test_accuracy"]) == ("winner", "0", "0.9")


def test_words_are_no_formulas_and_numbers_stay_numbers(tmp_path):
    values = {HOSTILE: "+1", "mention": "@SUM(A1)", "minus": "-2", "number": -2.5, "flag": False, "seconds": 3}
    write_results_csv(tmp_path / "results.csv", [trial(0, 0.5, **values), failed(1, HOSTILE)])
    first, second = rows(tmp_path / "results.csv")
    assert second["reason"] == f"'{HOSTILE}"
    taken = [first[name] for name in (f"'{HOSTILE}", "mention", "minus", "number", "flag", "hp/seconds", "seconds")]
    assert taken == ["'+1", "'@SUM(A1)", "'-2", "-2.5", "False", "3", "5.0"]


def test_hyperbands_own_columns_only_with_hyperband(tmp_path):
    write_results_csv(tmp_path / "results.csv", [trial(0, 0.5, width=1, **{"tuner/round": 1, "tuner/epochs": 3})])
    (row,) = rows(tmp_path / "results.csv")
    assert list(row)[-3:] == ["width", "tuner/epochs", "tuner/round"]


def test_best_and_finals_are_absent_without_any(tmp_path):
    write_results(tmp_path, JOB, several(3))
    best = max(range(3), key=lambda index: several(3)[index].score)
    assert json.loads((tmp_path / "best.json").read_text()) == {"model": "vgg_tiny", "seed": best}
    write_results(tmp_path, JOB, [failed(0, "out of memory")])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.md", "results.csv", "search.png", "tensorboard"]


# Pareto's front

measured = st.lists(st.tuples(st.integers(1, 6), st.integers(0, 6)), max_size=12)


@given(measured, st.sampled_from([1, -1]))
def test_front_is_what_no_other_beats(points, sign):
    trials = []
    for number, (parameters, score) in enumerate(points):
        trials.append(trial(number, float(score)))
        trials[-1].outcome.parameters = parameters
    front = pareto_front(trials, "parameters", sign=sign)
    beaten = {
        (cost, score)
        for cost, score in points
        for other, rival in points
        if (other <= cost and sign * rival > sign * score) or (other < cost and rival == score)
    }
    assert [(one.outcome.parameters, one.score) for one in front] == sorted(set(points) - beaten)


def test_unknown_costs_are_not_the_lowest():
    trials = [trial(0, 0.9, latency=False), trial(1, 0.8)]
    trials[1].outcome.parameters = 0
    assert pareto_front(trials, "latency_ms", sign=1) == trials[1:]
    assert pareto_front(trials, "parameters", sign=1) == trials[:1]
    assert cost_of(Trial(id="0000"), "parameters") is None


# search.png


@pytest.mark.parametrize(
    ("trials", "objective"),
    [
        ([], "accuracy"),
        (several(1, finals=False), "accuracy"),
        ([failed(index, "no") for index in range(3)], "accuracy"),
        ([trial(index, 0.5, latency=False, a=index) for index in range(12)], "accuracy"),
        (several(300, names=[f"a very long $name_{index}$ of a hyperparameter" for index in range(21)]), "accuracy"),
        (several(40, names=("\udcff\x1b[2J\n", "很长的名字"), objective="loss"), "loss"),
        ([trial(index, index / 9, **{"tuner/epochs": 3 ** (index % 4)}) for index in range(9)], "accuracy"),
    ],
    ids=["none", "one", "all failed", "equal", "many", "loss", "hyperband"],
)
def test_figure_of_any_search(tmp_path, trials, objective):
    draw_search(tmp_path / "search.png", trials, objective, importances(trials), title="a title\nof two lines")
    assert [path.name for path in tmp_path.iterdir()] == ["search.png"]
    with Image.open(tmp_path / "search.png") as picture:
        pixels = np.asarray(picture.convert("L"))
    assert pixels.shape[0] > 600
    # In each quarter something is drawn, a few words at least.
    for half in np.array_split(pixels, 2):
        for quarter in np.array_split(half, 2, axis=1):
            assert (quarter < 128).sum() > 200


# report.md


@pytest.mark.parametrize(
    ("winner", "default", "objective", "said"),
    [
        ([0.95, 0.96, 0.97], [0.92, 0.93, 0.94], "accuracy", "The search helped"),
        ([0.95, 0.96, 0.97], [0.92, 0.93, 0.951], "accuracy", "ranges overlap"),
        ([0.95, 0.96], [0.92, 0.95], "accuracy", "ranges overlap"),
        ([0.9, 0.9], [0.9, 0.9], "accuracy", "ranges overlap"),
        ([0.90, 0.91], [0.92, 0.93], "accuracy", "The search did not help: the default is better in every run"),
        ([0.95, 0.96, 0.97], [0.92, 0.93, 0.94], "loss", "The search helped"),
        ([0.95], [], "accuracy", ""),
        ([], [], "accuracy", ""),
    ],
)
def test_verdict(winner, default, objective, said):
    finals = [final("winner", seed, value) for seed, value in enumerate(winner)]
    finals += [final("default", seed, value) for seed, value in enumerate(default)]
    told = verdict([*several(3, finals=False), *finals], objective)
    assert told.startswith(said) if said.startswith("The") else said in told
    assert bool(told) == bool(said)


def test_verdict_tells_ranges_the_mean_difference_and_what_chance_does():
    told = verdict(
        [*(final("winner", seed, 0.95 + seed / 100) for seed in range(3)), final("default", 0, 0.9)], "accuracy"
    )
    assert "test accuracy of 0.9500 to 0.9700, the default of 0.9000; on average the winner has 0.0600 more" in told
    assert "in 1 of 4 such comparisons" in told


def test_page():
    trials = several(14, names=("width", "depth|of_*stages*"))
    trials += [failed(20, "out of `memory`"), failed(21, "out of `memory`"), failed(22, ""), Trial(id="0023")]
    page = report_page(JOB, trials, importances(trials), replaced=3, seconds=432.0)
    assert "# Search of the space architecture on digits" in page
    assert "18 trials, 14 done, 3 failed, 1 running, best validation accuracy 0." in page
    assert "3 candidates were over a budget" in page
    assert "7 min 12 s" in page
    assert "The best 10 of 14" in page
    assert "**The search did not help, as far as 3 runs each can tell" in page
    assert "| 2 | out of \\`memory\\` | 0020, 0021 |" in page
    assert "| 1 | its score is not a finite number | 0022 |" in page
    assert "depth\\|of\\_\\*stages\\*" in page
    # Every table is whole: as many cells in a row as in its heading.
    lines = page.replace("\\|", "").splitlines()
    for index, line in enumerate(lines):
        if line.startswith("|"):
            first = next(at for at in range(index, -1, -1) if not lines[at].startswith("|")) + 1
            assert line.count("|") == lines[first].count("|")


def test_page_without_anything():
    page = report_page(JOB, [], importances([]), replaced=0, seconds=None)
    assert "0 trials" in page
    assert "No trial is done" in page


# TensorBoard


def read_back(folder):
    """What TensorBoard's HParams page finds in a folder: the experiment, and the last value of each measure."""
    runs = plugin_event_multiplexer.EventMultiplexer()
    runs.AddRunsFromDirectory(str(folder))
    runs.Reload()
    provider = data_provider.MultiplexerDataProvider(runs, str(folder))
    page = backend_context.Context(base_plugin.TBContext(data_provider=provider))
    request = context.RequestContext()
    found = page.hparams_metadata(request, "")
    experiment = page.experiment_from_metadata(
        request, "", True, found, page.hparams_from_data_provider(request, "", limit=None)
    )
    scalars = provider.read_last_scalars(request, experiment_id="", plugin_name="scalars")
    return experiment, found, scalars


def test_tensorboard_finds_the_experiment(tmp_path):
    trials = [
        trial(0, 0.5, width=0.5, pool="max", flip=True),
        trial(1, 0.75, width=2, pool="avg\udcff"),
        failed(2, "x"),
    ]
    trials += [Trial(id="0003", values={"width": 9.0}), final("winner", 0, 0.9)]
    write_results(tmp_path, JOB, trials)
    experiment, found, scalars = read_back(tmp_path / "tensorboard")
    infos = {info.name: info for info in experiment.hparam_infos}
    assert set(infos) == {"width", "pool", "flip"}
    assert (infos["width"].domain_interval.min_value, infos["width"].domain_interval.max_value) == (0.5, 2.0)
    assert infos["flip"].type == api_pb2.DATA_TYPE_BOOL
    measures = {info.name.tag for info in experiment.metric_infos}
    assert {"validation/accuracy", "validation/loss", "cost/parameters", "cost/latency_ms"} <= measures
    assert set(found) == {"0000", "0001", "0002"}
    ends = {
        run: metadata.parse_session_end_info_plugin_data(tags[metadata.SESSION_END_INFO_TAG]).status
        for run, tags in found.items()
    }
    good, bad = api_pb2.STATUS_SUCCESS, api_pb2.STATUS_FAILURE
    assert ends == {"0000": good, "0001": good, "0002": bad}
    assert scalars["0001"]["validation/accuracy"].value == 0.75
    assert scalars["0001"]["validation/accuracy"].step == 10


def test_a_report_that_is_made_again_duplicates_no_log(tmp_path):
    trials = several(2)
    write_logs(tmp_path, trials)
    logs = {path: path.stat() for path in tmp_path.rglob("*") if path.is_file()}
    write_logs(tmp_path, [*trials, trial(7, 0.9)])
    again = {path: path.stat() for path in tmp_path.rglob("*") if path.is_file()}
    assert len(logs) == 2
    assert len(again) == 3
    assert all(again[path].st_ino == stat.st_ino for path, stat in logs.items())


# From a session


def write_session(folder, trials, **changes):
    state = {
        "format": 1,
        "trials": [asdict(one) for one in trials],
        "engine": {},
        "space": None,
        "space_sha256": "",
        "number": 5,
        "replaced": 2,
        "combinations": None,
        "seconds": 60.0,
        "over": "",
        **changes,
    }
    (folder / "session.json").write_text(json.dumps(state))
    (folder / "search.json").write_text(json.dumps(config_to_json(JOB)))


def test_makes_the_report_of_a_session(tmp_path):
    write_session(tmp_path, [*several(3), Trial(id="0004")])
    assert make_report(tmp_path) == tmp_path / "report.md"
    page = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "2 candidates were over a budget" in page
    names = {"best.json", "finals.csv", "report.md", "results.csv", "search.png", "tensorboard"}
    assert {path.name for path in tmp_path.iterdir()} == {*names, "session.json", "search.json"}


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "holds no search"), ("{", "is damaged"), ('{"format": 1}', "is damaged"), ("[]", "is damaged")],
)
def test_a_folder_that_holds_no_session(tmp_path, content, said):
    if content is not None:
        (tmp_path / "session.json").write_text(content)
    with pytest.raises(InputError, match=said):
        make_report(tmp_path)


def test_no_id_leads_out_of_the_folder(tmp_path):
    one = trial(0, 0.5)
    one.id = "../../elsewhere"
    write_session(tmp_path, [one])
    with pytest.raises(InputError, match="is not the id of a trial"):
        make_report(tmp_path)


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "results.csv").mkdir()
    with pytest.raises(InputError, match="Cannot write"):
        write_results(tmp_path, JOB, several(1))
