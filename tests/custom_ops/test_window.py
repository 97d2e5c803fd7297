"""The window's checks, and its output size against a count of the windows and against TensorFlow."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from custom_ops import reference
from custom_ops.window import Window, make_window, output_length

lengths = st.integers(1, 40)
sizes = st.integers(1, 7)


@given(lengths, sizes, sizes)
def test_valid_output_length_counts_the_windows_that_fit(length, size, stride):
    starts = [start for start in range(0, length, stride) if start + size <= length]
    if not starts:
        with pytest.raises(ValueError, match="does not fit"):
            output_length(length, size, stride, "valid")
    else:
        assert output_length(length, size, stride, "valid") == len(starts)
        assert reference.output_size(length, size, stride, "valid") == len(starts)


@given(lengths, sizes, sizes)
def test_same_output_length_is_one_window_for_every_stride_begun(length, size, stride):
    starts = len(range(0, length, stride))
    assert output_length(length, size, stride, "same") == starts
    assert reference.output_size(length, size, stride, "same") == starts


@pytest.mark.parametrize(("length", "size", "stride"), [(7, 3, 2), (8, 3, 2), (9, 2, 4), (5, 4, 1), (6, 5, 3)])
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_windows_stand_where_tensorflow_puts_them(length, size, stride, padding):
    x = np.arange(length, dtype=np.float32).reshape(1, length, 1, 1)
    covered = [
        [position for _, position in reference.positions(index, length, size, stride, padding)]
        for index in range(reference.output_size(length, size, stride, padding))
    ]
    largest = tf.nn.max_pool2d(x, (size, 1), (stride, 1), padding.upper())
    smallest = -tf.nn.max_pool2d(-x, (size, 1), (stride, 1), padding.upper())
    np.testing.assert_array_equal(np.ravel(largest), [max(window) for window in covered])
    np.testing.assert_array_equal(np.ravel(smallest), [min(window) for window in covered])


def test_make_window_fills_in_and_keeps():
    assert make_window(2, None, "valid", 2) == Window((2, 2), (2, 2), "valid")
    assert make_window((3, np.int64(2)), [2, 1], "SAME", 2) == Window((3, 2), (2, 1), "same")
    assert make_window(3, 2, "same", 1) == Window((3, 1), (2, 1), "same")
    assert make_window((3,), (2,), "same", 1) == Window((3, 1), (2, 1), "same")
    assert Window((3, 2), (2, 2), "same").positions == 6
    assert Window((3, 3), (2, 2), "same").output_shape(None, 7) == (None, 4)


@pytest.mark.parametrize("value", [0, -1, 2.0, True, "2", (2,), (2, 2, 2), (2, 0), (2, 2.5), None, [2, True]])
def test_bad_pool_size_is_named(value):
    with pytest.raises(ValueError, match=r"`pool_size` must be a positive int .* Received: pool_size="):
        make_window(value, 1, "valid", 2)


@pytest.mark.parametrize("value", [0, 1.5, (1, -1)])
def test_bad_strides_are_named(value):
    with pytest.raises(ValueError, match=r"`strides` must be a positive int .* Received: strides="):
        make_window(2, value, "valid", 2)


@pytest.mark.parametrize("value", ["smae", None, 1])
def test_bad_padding_is_named(value):
    with pytest.raises(ValueError, match=r"`padding` must be 'valid' or 'same'\. Received: padding="):
        make_window(2, None, value, 2)
