"""The chief of a search, asked as its service asks it, with outcomes written as workers write them."""

import json
from dataclasses import replace

import keras_tuner
import pytest

from recipes.parts.search.chief import BEGUN, IN_A_ROW, Chief
from recipes.parts.search.engine import make_engine
from recipes.parts.search.hyperparameters import count_combinations
from recipes.parts.search.job import Job
from recipes.parts.search.records import Outcome
from recipes.parts.search.session import OUTCOME, Session, read_session, read_trial, write_outcome

JOB = Job(
    space="made up",
    recipe="train",
    data="digits",
    model="vgg_nano",
    engine="grid",
    max_trials=6,
    image_size=16,
    batch_size=32,
    augmentation="none",
    epochs=1,
    final_epochs=1,
    num_classes=10,
)


class Search:
    """A chief that can be killed and started again, with workers that do what they are told."""

    def __init__(self, folder, *, job=JOB, values=4, budget=lambda values: "", seeds=()):
        self.folder, self.job, self.budget, self.seeds = folder, job, budget, seeds
        self.space = keras_tuner.HyperParameters()
        self.space.Choice("width", [0.5, 0.25, 1.0, 2.0, 4.0][:values])
        self.said = []
        self.start()

    def start(self, **changes):
        self.job = replace(self.job, **changes)
        engine = make_engine(self.job.engine, self.space, self.job.objective, 0, self.job.max_trials)
        if (self.folder / "session.json").exists():
            session = read_session(self.folder)
            engine.restore(session.engine)
            if changes:
                session.over = ""
        else:
            session = Session(folder=self.folder, combinations=count_combinations(self.space))
        self.chief = Chief(
            session, engine, self.job, over_budget=self.budget, final_seeds=self.seeds, say=self.said.append
        )

    def give(self, worker="worker-1"):
        return self.chief.create_trial(worker)

    def finish(self, given, **outcome):
        place = self.folder / "trials" / given.trial_id
        write_outcome(place, Outcome(**{"status": "done", "validation": {"accuracy": 0.5, "loss": 1.0}, **outcome}))

    def run(self, worker="worker-1", score=lambda values: values.get("width", 0.0)):
        """A worker that runs whatever there is, to the end."""
        ran = []
        while (given := self.give(worker)).status == "RUNNING":
            trial = read_trial(self.folder / "trials" / given.trial_id)
            ran.append((trial.id, trial.values))
            self.finish(given, validation={"accuracy": score(trial.values)})
            self.chief.end_trial(given)
        assert given.status == "STOPPED"
        return ran

    @property
    def trials(self):
        return {trial.id: trial for trial in self.chief.trials}


def test_all_trials_are_run_and_scored(tmp_path):
    search = Search(tmp_path)
    assert [values["width"] for _, values in search.run()] == [0.5, 0.25, 1.0, 2.0]
    assert search.chief.finished()
    assert not search.chief.stopping
    assert {trial.id: (trial.status, trial.score) for trial in search.chief.trials} == {
        "0000": ("done", 0.5),
        "0001": ("done", 0.25),
        "0002": ("done", 1.0),
        "0003": ("done", 2.0),
    }
    assert search.said == ["no more trials begin: all 4 combinations of the space have been tried"]
    assert read_session(tmp_path).trials == search.trials


@pytest.mark.parametrize("engine", ["grid", "random", "bayesian"])
def test_killed_at_every_moment_nothing_is_repeated_or_lost(tmp_path, engine):
    search = Search(tmp_path, job=replace(JOB, engine=engine), values=5)
    ended = []
    for number in range(100):
        given = search.give()
        if given.status != "RUNNING":
            break
        trial = read_trial(tmp_path / "trials" / given.trial_id)
        if number % 3 == 0:  # while it runs
            search.start()
        elif number % 3 == 1:  # when it has ended, and nobody was told
            search.finish(given, validation={"accuracy": trial.values["width"]})
            ended.append(trial.values["width"])
            search.start()
        else:
            search.finish(given, validation={"accuracy": trial.values["width"]})
            ended.append(trial.values["width"])
            search.chief.end_trial(given)
    assert sorted(ended) == [0.25, 0.5, 1.0, 2.0, 4.0]
    assert sorted(trial.score for trial in search.chief.trials) == sorted(ended)
    assert len({trial.values["width"] for trial in search.chief.trials}) == 5


def test_a_lost_worker_gets_its_trial_back_and_loses_it_in_the_end(tmp_path):
    search = Search(tmp_path)
    first = search.give()
    for number in range(BEGUN):
        assert search.trials[first.trial_id].status == "running"
        search.chief.worker_lost("worker-1", f"was ended by signal SIGKILL, time {number}")
        again = search.give()
        if number + 1 < BEGUN:
            assert again.trial_id == first.trial_id
    assert again.trial_id != first.trial_id
    lost = search.trials[first.trial_id]
    assert (lost.status, lost.attempts) == ("failed", BEGUN)
    assert lost.outcome.reason == "2 workers lost, the last was ended by signal SIGKILL, time 1"
    assert "trial 0000 begins again" in search.said[0]


def test_what_a_lost_worker_had_finished_counts(tmp_path):
    search = Search(tmp_path)
    given = search.give()
    search.finish(given)
    for _ in range(BEGUN):
        search.chief.worker_lost("worker-1", "was lost")
    assert search.give().trial_id != given.trial_id
    assert search.trials[given.trial_id].status == "done"


def test_a_worker_that_is_gone_for_good_leaves_its_trial_to_others(tmp_path):
    search = Search(tmp_path)
    given = search.give("elsewhere-1")
    search.chief.give_up("elsewhere-1")
    assert search.trials[given.trial_id].status == "waiting"
    assert search.give("worker-1").trial_id == given.trial_id
    # It was only asleep, and ends the same trial; the other one's end is not heard any more.
    search.finish(given, validation={"accuracy": 0.7})
    search.chief.end_trial(given)
    search.finish(given, validation={"accuracy": 0.1})
    search.chief.end_trial(given)
    assert search.trials[given.trial_id].score == 0.7


def test_candidates_over_a_budget_are_neither_trials_nor_failures(tmp_path):
    search = Search(tmp_path, budget=lambda values: "5 parameters" if values["width"] in (0.5, 2.0) else "")
    assert [values["width"] for _, values in search.run()] == [0.25, 1.0]
    assert search.chief.session.replaced == 2
    assert all(trial.status == "done" for trial in search.chief.trials)
    assert search.said == ["no more trials begin: all 4 combinations of the space have been tried, and 2 over a budget"]


def test_a_budget_that_is_measured_makes_room_for_another_trial(tmp_path):
    search = Search(tmp_path, job=replace(JOB, max_trials=2))
    slow = search.give()
    search.finish(slow, status="over_budget", reason="9 ms")
    search.chief.end_trial(slow)
    assert len(search.run()) == 2
    assert slow.trial_id not in search.trials
    assert not (tmp_path / "trials" / slow.trial_id).exists()
    assert search.chief.session.replaced == 1


def test_a_worker_of_another_machine_that_comes_back_twice_has_lost_its_trial(tmp_path):
    search = Search(tmp_path)
    first = search.give("there-1")
    assert search.give("there-1").trial_id == first.trial_id
    assert search.give("there-1").trial_id != first.trial_id
    assert search.trials[first.trial_id].outcome.reason == "2 workers lost, the last on another machine"


def test_what_a_stranger_took_is_done_by_others(tmp_path):
    search = Search(tmp_path)
    given, own = search.give("stranger"), search.give("worker-1")
    search.chief.give_up_strangers(["worker-1"], seconds=60)
    assert search.trials[given.trial_id].status == "running"  # it may not have come to give a sign
    search.chief.give_up_strangers(["worker-1"], seconds=-1)
    assert search.trials[given.trial_id].status == "waiting"
    assert search.trials[own.trial_id].status == "running"
    assert search.give("worker-2").trial_id == given.trial_id


def test_a_worker_does_not_wait_for_all_that_is_over_a_budget(tmp_path, monkeypatch):
    monkeypatch.setattr("recipes.parts.search.chief.REPLACING_SECONDS", 0.0)
    search = Search(tmp_path, budget=lambda values: "too much")
    assert search.give().status == "IDLE"
    monkeypatch.setattr("recipes.parts.search.chief.REPLACING_SECONDS", 1.0)
    assert search.give().status == "STOPPED"
    assert search.chief.session.replaced == 4


def test_an_outcome_that_was_cut_off_by_a_loss_of_power_is_none(tmp_path):
    search = Search(tmp_path)
    given = search.give()
    (tmp_path / "trials" / given.trial_id / OUTCOME).write_text("")
    search.start()
    assert search.trials[given.trial_id].status == "waiting"
    assert search.give().trial_id == given.trial_id


def test_final_runs_come_when_all_trials_have_ended_and_again_if_another_one_wins(tmp_path):
    search = Search(tmp_path, job=replace(JOB, max_trials=2), seeds=(0, 1))
    first, second = search.give("worker-1"), search.give("worker-2")
    assert search.give("worker-3").status == "IDLE"
    for given, score in ((first, 0.9), (second, 0.8)):
        search.finish(given, validation={"accuracy": score})
        search.chief.end_trial(given)
    assert search.run() == [
        ("winner-0", {"width": 0.5}),
        ("default-0", {}),
        ("winner-1", {"width": 0.5}),
        ("default-1", {}),
    ]
    assert search.chief.finished()
    search.start()
    assert search.chief.finished()
    search.start(max_trials=3)
    assert not search.chief.finished()
    assert search.run() == [
        ("0002", {"width": 1.0}),
        ("winner-0", {"width": 1.0}),
        ("winner-1", {"width": 1.0}),
    ]


def test_scores_that_are_no_numbers_are_failures(tmp_path):
    search = Search(tmp_path)
    given = search.give()
    search.finish(given, validation={})
    search.chief.end_trial(given)
    assert search.trials[given.trial_id].status == "failed"


def test_a_search_without_one_trial_that_works_stops_and_says_why(tmp_path):
    search = Search(tmp_path, job=replace(JOB, max_trials=50, engine="random"), values=5)
    for _ in range(IN_A_ROW):
        given = search.give()
        search.finish(given, status="failed", reason="no such layer")
        search.chief.end_trial(given)
    assert search.give().status == "STOPPED"
    assert search.chief.finished()
    assert "the first 5 trials failed, the last one with: no such layer" in search.chief.stopping


def test_time_that_is_over_lets_trials_end_and_none_begin(tmp_path):
    search = Search(tmp_path, job=replace(JOB, max_total_seconds=1e-9))
    assert search.give().status == "STOPPED"
    assert search.chief.finished()
    assert "--max-total-seconds" in search.said[0]


def test_an_error_in_the_service_ends_the_search_instead_of_hanging_it(tmp_path, capsys):
    def fails(values):
        raise ZeroDivisionError("of all things")

    search = Search(tmp_path, budget=fails)
    assert search.give().status == "STOPPED"
    assert search.chief.finished()
    assert search.chief.stopping == "ZeroDivisionError: of all things"


def test_ids_from_the_network_are_names_of_trials_and_nothing_else(tmp_path):
    search = Search(tmp_path)
    given = search.give()
    given.trial_id = "../../etc"
    search.chief.end_trial(given)
    assert list(search.trials) == ["0000"]
    assert not search.chief.stopping


def test_a_session_is_whole_or_as_it_was(tmp_path, monkeypatch):
    search = Search(tmp_path)
    search.give()
    before = (tmp_path / "session.json").read_text()
    search.chief.session.engine = {"not": float("nan")}
    with pytest.raises(ValueError, match="not JSON compliant"):
        search.chief.session.save()
    assert (tmp_path / "session.json").read_text() == before
    assert json.loads(before)["trials"][0]["id"] == "0000"
    assert not (tmp_path / "trials" / "0000" / OUTCOME).exists()
