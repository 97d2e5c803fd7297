"""What a candidate costs, found before anything of it is trained."""

from collections.abc import Callable
from typing import TypeAlias

import keras

from recipes.parts.classifier import Network, build_untrained, load_network, with_head
from recipes.parts.search.candidates import Architecture, Candidate, FineTuning
from recipes.parts.search.job import Job
from zoo.cost.describe import describe
from zoo.spec import ModelSpec

StaticCosts: TypeAlias = Callable[[Candidate], tuple[int, int]]
"""From a candidate to its parameters and the multiply-adds of one image."""


def make_static_costs(job: Job) -> StaticCosts:
    """Return the function that tells what the candidates of a search cost. It builds them, but reads no weights.

    Args:
        job: The search. Plugins are loaded.

    Example:
        ```python
        static_costs = make_static_costs(job)
        parameters, multiply_adds = static_costs(candidate)
        ```
    """
    architectures: dict[ModelSpec, tuple[int, int]] = {}
    heads: dict[tuple[str | None, str], tuple[int, int]] = {}
    networks: list[Network] = []

    def static_costs(candidate: Candidate) -> tuple[int, int]:
        if isinstance(candidate, Architecture):
            spec = candidate.spec
            if spec not in architectures:
                built = build_untrained(spec, image_size=job.image_size, num_classes=job.num_classes)
                architectures[spec] = costs(built.model)
            return architectures[spec]
        if not networks:
            networks.append(load_network(job.model, image_size=job.image_size, weights=None))
        key = candidate.cut, candidate.head_pool
        if key not in heads:
            heads[key] = costs(_headed(networks[0], candidate, job.num_classes))
        return heads[key]

    return static_costs


def costs(model: keras.Model) -> tuple[int, int]:
    """The parameters of a model, and its multiply-adds for one image."""
    total = describe(model).total
    return total.parameters, total.multiply_adds


def _headed(network: Network, candidate: FineTuning, num_classes: int) -> keras.Model:
    return with_head(network, num_classes=num_classes, cut=candidate.cut, head_pool=candidate.head_pool).model
