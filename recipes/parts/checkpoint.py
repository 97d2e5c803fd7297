"""Where a staged run stands at the border of an epoch, in a file from which it goes on to the same weights."""

import json
import os
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from recipes.parts.freezing import own_generators
from recipes.parts.names import printable
from recipes.parts.run_folder import complete_or_absent
from recipes.parts.stage_events import StageResult
from zoo.errors import InputError

FILE = "checkpoint.npz"


@dataclass(kw_only=True)
class Checkpoint:
    """The state of a run. Arrays are named `<what>/<path>`."""

    stage: int
    """Index of the stage that runs, or comes next."""
    epoch: int
    """Epochs of it that are done."""
    ended: bool
    """Whether it takes no more of them."""
    results: list[StageResult]
    """What the stages did; the present one is among them if an epoch of it is done."""
    caching: dict[str, dict[str, Any]]
    """By its index, how each stage reads its images, which must not change half way."""
    stages: list[dict[str, Any]]
    """The stages, with what was measured for them: blocks of `auto`, and learning rates."""
    block_factors: dict[str, dict[str, float]]
    """By the index of an `auto` stage and the name of a block, the factor of its learning rate."""
    frozen: str
    """A hash of the weights that no stage has changed yet."""
    fingerprint: str
    """Of the data."""
    averaged: int = 0
    """Batches that the average of the weights has seen."""
    seconds: float = 0.0
    """That the present stage has taken."""
    arrays: dict[str, np.ndarray] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write the file, complete or absent."""
        state = json.dumps(
            {name: value for name, value in vars(self).items() if name not in ("arrays", "results")}
            | {"results": [asdict(result) for result in self.results]}
        )
        with complete_or_absent(path) as beside, beside.open("wb") as file:
            arrays: dict[str, Any] = {"state": np.frombuffer(state.encode(), np.uint8), **self.arrays}
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())

    @classmethod
    def load(cls, path: Path) -> "Checkpoint | None":
        """Read the file; None if there is none.

        Raises:
            InputError: If it is damaged.
        """
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files if name != "state"}
                state = json.loads(stored["state"].tobytes())
                state["results"] = [StageResult(**result) for result in state["results"]]
                return cls(**state, arrays=arrays)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(
                f"The checkpoint {printable(str(path))} is damaged ({error}): delete it, and the run begins anew"
            ) from None

    def require_data(self, fingerprint: str) -> None:
        """Raise `InputError` if the images are others."""
        if fingerprint != self.fingerprint:
            raise InputError(
                "The images are no longer those with which the run began: put them back, or start another run"
            )

    def put(self, what: str, values: Mapping[str, np.ndarray]) -> None:
        """Add arrays by their paths."""
        self.arrays.update({f"{what}/{path}": value for path, value in values.items()})

    def take(self, what: str) -> dict[str, np.ndarray]:
        """The arrays of one kind by their paths."""
        prefix = f"{what}/"
        return {name.removeprefix(prefix): value for name, value in self.arrays.items() if name.startswith(prefix)}


def values(variables: Sequence[keras.Variable]) -> dict[str, np.ndarray]:
    """Values of variables by their paths, which are made unique by their places where they are not."""
    return {name: variable.numpy().copy() for name, variable in zip(paths(variables), variables, strict=True)}


def assign(variables: Sequence[keras.Variable], stored: Mapping[str, np.ndarray]) -> None:
    """Give variables the values that `values` found.

    Raises:
        InputError: If these are values of other variables.
    """
    names = paths(variables)
    shapes = {name: tuple(variable.shape) for name, variable in zip(names, variables, strict=True)}
    if shapes != {name: value.shape for name, value in stored.items()}:
        odd = sorted(shapes.keys() ^ stored.keys())[:3]
        raise InputError(f"The checkpoint does not fit this model: {', '.join(map(printable, odd)) or 'other shapes'}")
    for name, variable in zip(names, variables, strict=True):
        variable.assign(stored[name])


def numbered(arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays that have no path, in their order."""
    return {f"{index:04d}": array for index, array in enumerate(arrays)}


def generator_states(model: keras.Model) -> list[keras.Variable]:
    """The states of the random generators of a model's layers, such as dropout has one."""
    layers = model._flatten_layers(include_self=False)
    return list({id(state): state for layer in layers for state in own_generators(layer)}.values())


def paths(variables: Sequence[keras.Variable]) -> list[str]:
    """The paths of variables, made unique by their places, the same in every process."""
    # The number tells apart what has the same path. What an optimizer or a generator is called depends on how many
    # there were before.
    return [f"{index:04d} {_without_counter(variable.path)}" for index, variable in enumerate(variables)]


def _without_counter(path: str) -> str:
    return re.sub(r"_\d+(?=/|$)", "", path)
