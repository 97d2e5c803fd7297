"""Change a finished model: cut it, or replace its pooling, its classifier or its input.

`split` and `feature_extractor` share the layers of the model. The others copy it and leave it as it is.
"""

from zoo.surgery.channels import adapt_input_channels as adapt_input_channels
from zoo.surgery.cut import cuts as cuts
from zoo.surgery.cut import feature_extractor as feature_extractor
from zoo.surgery.cut import split as split
from zoo.surgery.head import replace_head as replace_head
from zoo.surgery.pooling import swap_pooling as swap_pooling
