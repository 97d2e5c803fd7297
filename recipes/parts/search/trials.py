"""What runs the candidates of a search, one after the other, in a process that lives for many of them."""

from pathlib import Path
from typing import Protocol

from recipes.parts.dataset import DataSet
from recipes.parts.search.attempt import OnEpoch, OnFilling
from recipes.parts.search.job import Job
from recipes.parts.search.records import Outcome, Trial
from recipes.parts.search.space import Space


class Trials(Protocol):
    """Runs trials. Each gives what it would give in a process of its own."""

    data: DataSet
    """All images of the search."""

    def run(self, trial: Trial, folder: Path, on_epoch: OnEpoch, on_filling: OnFilling) -> Outcome:
        """Train a candidate, or go on with one in a round of Hyperband. The test split is not looked at.

        Args:
            trial: Whose values make the candidate.
            folder: Of the trial, for its files; those of other trials are beside it.
            on_epoch: Told of each epoch.
            on_filling: Told, every batch, that frozen layers run.

        Returns:
            What came of it; failures as well, but for what ends a process.
        """
        ...

    def final(self, trial: Trial, folder: Path, seed: int, on_epoch: OnEpoch, on_filling: OnFilling) -> Outcome:
        """Train once more on the full budget, and measure on the test split.

        Args:
            trial: `trial.final` says whether its values make the candidate (`winner`) or the default of the recipe is
                trained (`default`).
            folder: Of the trial. It becomes the folder of a run, which `zoo evaluate`, `predict` and `export` take. Its
                `config.json` has the seed of the search, from which the split follows.
            seed: Decides initial weights, the order of images and augmentation; not the split.
            on_epoch: Told of each epoch.
            on_filling: Told, every batch, that frozen layers run.

        Returns:
            What came of it; failures as well, but for what ends a process.
        """
        ...


def make_trials(job: Job, space: Space, folder: Path) -> Trials:
    """Read the data, and load what trials share.

    Args:
        job: The search. TensorFlow has been started, and plugins are loaded.
        space: What makes candidates of values.
        folder: Of the search; large images are kept in a file there.

    Raises:
        InputError: If there is something wrong with the data, the model or the space.

    Example:
        ```python
        trials = make_trials(job, load_space(job.space), folder)
        outcome = trials.run(trial, folder / "trials" / trial.id, on_epoch=print, on_filling=lambda: None)
        ```
    """
    if job.recipe == "train":
        from recipes.parts.search.train_trials import TrainTrials

        return TrainTrials(job, space, folder)
    from recipes.parts.search.finetune_trials import FinetuneTrials

    return FinetuneTrials(job, space, folder)
