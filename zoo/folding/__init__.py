"""Batch norm folded into the layers around it, for faster inference."""

from zoo.folding.fold import fold_batch_norm as fold_batch_norm
from zoo.folding.plan import FoldingPlan as FoldingPlan
from zoo.folding.plan import folding_plan as folding_plan
