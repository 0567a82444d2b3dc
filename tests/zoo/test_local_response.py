"""Local response normalisation: its formula, at the edges too, and its errors."""

import numpy as np
import pytest
import tensorflow as tf

import zoo
from ensemble_heads.keras_api import keras


def exact(x, size, alpha, beta, bias):
    out = np.zeros_like(x)
    for channel in range(x.shape[-1]):
        total = 0.0
        for other in range(channel - size // 2, channel + size // 2 + 1):
            if 0 <= other < x.shape[-1]:
                total += x[..., other] ** 2
        out[..., channel] = x[..., channel] / (bias + alpha / size * total) ** beta
    return out


@pytest.mark.parametrize("shape", [(2, 7), (2, 3, 4, 6), (2, 3, 1)])
@pytest.mark.parametrize("size, alpha, beta, bias", [(5, 2, 0.75, 1), (3, 0.5, -1, 2)])
def test_is_the_formula_in_float64(shape, size, alpha, beta, bias):
    x = np.random.default_rng(0).normal(size=shape)
    layer = zoo.LocalResponseNormalization(size, alpha, beta, bias, dtype="float64")
    expected = exact(x, size, alpha, beta, bias)
    np.testing.assert_allclose(layer(x), expected, rtol=1e-12)


def test_is_tensorflows_with_alpha_over_size():
    x = tf.random.normal([2, 4, 4, 9]) * 50
    layer = zoo.LocalResponseNormalization()
    theirs = tf.nn.local_response_normalization(
        x, depth_radius=2, bias=1.0, alpha=1e-4 / 5, beta=0.75
    )
    np.testing.assert_allclose(layer(x), theirs, rtol=1e-5)
    assert np.abs(np.array(theirs) - x).max() > 0.1


def test_squares_do_not_overflow_in_half_precision():
    keras.mixed_precision.set_global_policy("mixed_float16")
    layer = zoo.LocalResponseNormalization()
    outputs = layer(tf.constant([[1000.0, -2000.0]]))  # squares beyond 65504
    assert outputs.dtype == tf.float16
    expected = exact(np.array([[1000.0, -2000.0]]), 5, 1e-4, 0.75, 1.0)
    np.testing.assert_allclose(outputs, expected, rtol=2e-3)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"size": 4}, "`size` must be an odd positive integer. Received: size=4"),
        ({"size": 0}, "`size` must be an odd positive integer"),
        ({"alpha": -1.0}, "`alpha` must not be negative. Received: alpha=-1.0"),
        ({"bias": 0}, "`bias` must be positive. Received: bias=0"),
    ],
)
def test_errors(options, message):
    with pytest.raises(ValueError, match=message):
        zoo.LocalResponseNormalization(**options)
