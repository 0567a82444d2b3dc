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


@pytest.mark.parametrize("shape", [(2, 7), (2, 3, 4, 6), (2, 3, 1), (1, 2, 2, 2)])
@pytest.mark.parametrize("size, alpha, beta, bias", [(5, 2, 0.75, 1), (3, 0.5, -1, 2)])
@pytest.mark.parametrize("dtype, rtol", [("float64", 1e-12), ("float32", 1e-5)])
def test_is_the_formula(shape, size, alpha, beta, bias, dtype, rtol):
    x = np.random.default_rng(0).normal(size=shape)
    layer = zoo.LocalResponseNormalization(size, alpha, beta, bias, dtype=dtype)
    expected = exact(x, size, alpha, beta, bias)
    np.testing.assert_allclose(layer(x), expected, rtol=rtol)


def test_gradients_of_kernel_and_operations_agree():
    layer = zoo.LocalResponseNormalization(3, alpha=2.0)
    x = tf.random.normal([2, 3, 3, 5])
    gradients = []
    for values in (x, tf.reshape(x, [18, 5]), tf.cast(x, tf.float64)):
        one = (
            layer
            if values.dtype == tf.float32
            else zoo.LocalResponseNormalization(3, alpha=2.0, dtype="float64")
        )
        with tf.GradientTape() as tape:
            tape.watch(values)
            total = tf.reduce_sum(one(values) ** 3)
        gradients.append(np.reshape(tape.gradient(total, values), [18, 5]))
    assert np.abs(gradients[0]).max() > 0.1
    for other in gradients[1:]:
        np.testing.assert_allclose(gradients[0], other, rtol=1e-3, atol=1e-4)


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
