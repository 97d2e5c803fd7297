"""What a search starts from, and what candidates of it cost before they are trained."""

from collections.abc import Callable, Mapping
from typing import Any

from keras_tuner import HyperParameters

from recipes.parts.classifier import load_network
from recipes.parts.networks import find_spec
from recipes.parts.search.exploring import sampled
from recipes.parts.search.finetune_space import Pretrained
from recipes.parts.search.job import Job
from recipes.parts.search.space import Space
from recipes.parts.search.static_costs import make_static_costs
from zoo import ModelSpec


def find_base(job: Job) -> ModelSpec | Pretrained:
    """What the function of a space starts from.

    Args:
        job: The search. Plugins are loaded.

    Returns:
        The spec of a model, or what is known of a backbone, which is built for that without its weights.
    """
    if job.recipe == "train":
        return find_spec(job.model)
    blocks = tuple(load_network(job.model, image_size=job.image_size, weights=None).ends)
    return Pretrained(name=job.model, blocks=blocks, epochs=job.epochs, augmentation=job.augmentation)


def static_budget(
    job: Job, space: Space, base: ModelSpec | Pretrained, hyperparameters: HyperParameters
) -> Callable[[Mapping[str, Any]], str]:
    """Return what tells whether a candidate is over a budget that can be counted.

    Args:
        job: The search.
        space: What makes candidates of values.
        base: What that starts from.
        hyperparameters: Of the space.

    Returns:
        A function from values to what is over, in a few words; "" if nothing is.

    Raises:
        InputError: If not even the default can be built, as for images that are too small.
    """
    limits = {"parameters": job.max_params, "multiply-adds": job.max_multiply_adds}
    static_costs = make_static_costs(job)
    if job.recipe == "train":  # a backbone has been built to find its blocks
        static_costs(sampled(space, base, {}, hyperparameters))

    def over(values: Mapping[str, Any]) -> str:
        if not any(limits.values()):
            return ""
        try:
            costs = static_costs(sampled(space, base, values, hyperparameters))
        except Exception:  # of whatever a space builds: the trial will fail with the same words, where they are seen
            return ""
        for (name, most), cost in zip(limits.items(), costs, strict=True):
            if most is not None and cost > most:
                return f"{cost:,} {name}"
        return ""

    return over
