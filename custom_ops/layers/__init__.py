"""Keras layers over the operators of `custom_ops.ops`, thin and serializable.

Global average and max pooling are Keras's own layers under the names of their ops.
"""

import keras

from custom_ops.layers.adaptive import AdaptiveAvgPooling1D as AdaptiveAvgPooling1D
from custom_ops.layers.adaptive import AdaptiveAvgPooling2D as AdaptiveAvgPooling2D
from custom_ops.layers.adaptive import AdaptiveMaxPooling1D as AdaptiveMaxPooling1D
from custom_ops.layers.adaptive import AdaptiveMaxPooling2D as AdaptiveMaxPooling2D
from custom_ops.layers.avg import AvgPooling1D as AvgPooling1D
from custom_ops.layers.avg import AvgPooling2D as AvgPooling2D
from custom_ops.layers.blur import BlurPooling1D as BlurPooling1D
from custom_ops.layers.blur import BlurPooling2D as BlurPooling2D
from custom_ops.layers.gated import GatedPooling1D as GatedPooling1D
from custom_ops.layers.gated import GatedPooling2D as GatedPooling2D
from custom_ops.layers.gem import GemPooling1D as GemPooling1D
from custom_ops.layers.gem import GemPooling2D as GemPooling2D
from custom_ops.layers.global_attention import GlobalAttentionPooling1D as GlobalAttentionPooling1D
from custom_ops.layers.global_attention import GlobalAttentionPooling2D as GlobalAttentionPooling2D
from custom_ops.layers.global_avg_max import GlobalAvgMaxPooling1D as GlobalAvgMaxPooling1D
from custom_ops.layers.global_avg_max import GlobalAvgMaxPooling2D as GlobalAvgMaxPooling2D
from custom_ops.layers.global_gem import GlobalGemPooling1D as GlobalGemPooling1D
from custom_ops.layers.global_gem import GlobalGemPooling2D as GlobalGemPooling2D
from custom_ops.layers.k_max import KMaxPooling1D as KMaxPooling1D
from custom_ops.layers.lip import LipPooling1D as LipPooling1D
from custom_ops.layers.lip import LipPooling2D as LipPooling2D
from custom_ops.layers.lp import LpPooling1D as LpPooling1D
from custom_ops.layers.lp import LpPooling2D as LpPooling2D
from custom_ops.layers.max import MaxPooling1D as MaxPooling1D
from custom_ops.layers.max import MaxPooling2D as MaxPooling2D
from custom_ops.layers.max_blur import MaxBlurPooling1D as MaxBlurPooling1D
from custom_ops.layers.max_blur import MaxBlurPooling2D as MaxBlurPooling2D
from custom_ops.layers.median import MedianPooling1D as MedianPooling1D
from custom_ops.layers.median import MedianPooling2D as MedianPooling2D
from custom_ops.layers.mixed import MixedPooling1D as MixedPooling1D
from custom_ops.layers.mixed import MixedPooling2D as MixedPooling2D
from custom_ops.layers.separable import SeparablePooling1D as SeparablePooling1D
from custom_ops.layers.separable import SeparablePooling2D as SeparablePooling2D
from custom_ops.layers.soft import SoftPooling1D as SoftPooling1D
from custom_ops.layers.soft import SoftPooling2D as SoftPooling2D
from custom_ops.layers.spatial_pyramid import SpatialPyramidPooling2D as SpatialPyramidPooling2D
from custom_ops.layers.stochastic import StochasticPooling1D as StochasticPooling1D
from custom_ops.layers.stochastic import StochasticPooling2D as StochasticPooling2D

GlobalAvgPooling1D = keras.layers.GlobalAveragePooling1D
GlobalAvgPooling2D = keras.layers.GlobalAveragePooling2D
GlobalMaxPooling1D = keras.layers.GlobalMaxPooling1D
GlobalMaxPooling2D = keras.layers.GlobalMaxPooling2D
