"""What suggests the trials of a search, whoever makes it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from recipes.parts.search.job import EngineName
from recipes.parts.search.records import Objective

if TYPE_CHECKING:
    import keras_tuner

HYPERBAND_EPOCHS = 27
"""What Hyperband divides a trial into: 3 x 3 x 3, so that a first round trains for 1/27, 1/9, 1/3 or all of it."""


@dataclass(frozen=True)
class Wait:
    """There is nothing to begin until a running trial has ended."""


@dataclass(frozen=True)
class Exhausted:
    """There is nothing more to begin, and nothing runs."""


class Engine(Protocol):
    """Suggests trials, and learns from what comes of them.

    A trial runs from `suggest` until it is told or taken back. An engine is not made for several threads at once.

    Example:
        ```python
        engine = make_engine("bayesian", hyperparameters, objective="accuracy", seed=0, max_trials=30)
        while isinstance(values := engine.suggest(f"{number:04d}"), dict):
            engine.tell(f"{number:04d}", train(values))
            number += 1
        ```
    """

    def suggest(self, trial_id: str) -> dict[str, Any] | Wait | Exhausted:
        """Begin a trial.

        Args:
            trial_id: Its name, which no other trial has. After `Wait` or `Exhausted` it is still free.

        Returns:
            The values of the hyperparameters that are active, by name: int, float, bool or str. No two trials have
            the same, but for later rounds of Hyperband. Names of the engine's own begin with `tuner/`.
        """
        ...

    def tell(self, trial_id: str, score: float | None) -> None:
        """End a trial.

        Args:
            trial_id: Of a running trial.
            score: Of the objective; None, or a number that is not finite, if the trial failed.
        """
        ...

    def take_back(self, trial_id: str) -> None:
        """End a trial that is over a budget: it counts as none, and makes room for another one with other values."""
        ...

    def state(self) -> dict[str, Any]:
        """All that the engine knows, as plain JSON."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where another engine of the same kind was, which was made with the same arguments.

        What is suggested from now on is what the other one would have. Running trials still run. `max_trials` may be
        another one than before; random, grid and Hyperband engines then go on all the same.

        Args:
            state: What `state` gave.
        """
        ...

    def extend(self, space: "keras_tuner.HyperParameters") -> None:
        """Go on with a larger space.

        Args:
            space: One for which `recipes.parts.search.space_changes.can_extend` holds. Trials so far are taken to have
                had the defaults of hyperparameters that are new.
        """
        ...


def make_engine(
    name: EngineName,
    space: "keras_tuner.HyperParameters",
    objective: Objective,
    seed: int,
    max_trials: int,
    max_epochs: int = HYPERBAND_EPOCHS,
) -> Engine:
    """Make an engine that has suggested nothing yet.

    Args:
        name: `random`: values drawn at random; `bayesian`: values that a Gaussian process expects most of (Snoek et
            al. 2012); `hyperband`: many short trials, of which the best go on (Li et al. 2018); `grid`: all values,
            one after the other, and ten of each range without steps.
        space: All hyperparameters, as `recipes.parts.search.exploring.explore` finds them.
        objective: What scores measure.
        seed: Not negative. The same seed gives the same trials, if scores are the same and come in the same order.
        max_trials: Trials to begin, failed ones included. With Hyperband trials that go on in a later round are
            counted as well, but when so many have begun it still finishes what it has begun.
        max_epochs: Of Hyperband: the value of `tuner/epochs` that stands for a whole trial.

    Returns:
        The engine.

    Reference:
        - [Snoek et al., Practical Bayesian Optimization of Machine Learning
          Algorithms](https://arxiv.org/abs/1206.2944)
        - [Li et al., Hyperband](https://arxiv.org/abs/1603.06560)
    """
    # Imports KerasTuner, and with it TensorFlow, which has to be started first.
    from recipes.parts.search.kerastuner_engine import KerasTunerEngine, make_oracle

    oracle = make_oracle(name, space, objective, seed=seed, max_trials=max_trials, max_epochs=max_epochs)
    return KerasTunerEngine(name, oracle)
