"""What Keras says of a layer that cannot be built, in one line."""

import re

# How Keras and `custom_ops` put it that a window finds no place in the feature map.
_TOO_SMALL = re.compile(r"zero or negative|would be negative|does not fit into an input|Negative dimension")


def reason_of(error: Exception) -> str:
    """Return the reason in an error of a layer's constructor or call.

    Keras wraps those of calls in a report with colours and all arguments. Where the feature map is too small,
    the reason ends with what to do.
    """
    text = re.sub(r"\x1b\[\d+m", "", str(error))
    paragraphs = text.split("\n\n")
    wrapped = text.startswith("Exception encountered when calling") and len(paragraphs) > 1
    reason = " ".join((paragraphs[1] if wrapped else paragraphs[0]).split())
    if _TOO_SMALL.search(reason):
        reason = (
            f"the feature map becomes smaller than 1 pixel here. Give larger images, or smaller strides, windows or "
            f"depth in this part or before it. Keras says: {reason}"
        )
    return reason
