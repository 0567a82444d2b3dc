"""Averages in log space against plain averages, and where plain ones break."""

import numpy as np
import numpy.testing as npt
import pytest
import tensorflow as tf

from ensemble_heads import predictions
from tests import numpy_losses

LINKS = ["softmax", "sigmoid", "exponential", "linear"]


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("shape", [(5, 3, 4), (5, 1, 4), (2, 3, 6, 4)])
def test_mean_of_probabilities_is_the_plain_mean(link, shape):
    z = np.random.normal(scale=3, size=shape)
    mean = predictions.mean_of_probabilities(z, link)
    expected = numpy_losses.LINKS[link](z).mean(1)
    npt.assert_allclose(mean.probabilities, expected, rtol=1e-12)
    npt.assert_allclose(mean.values, expected, rtol=1e-12)
    # The logits are a form of the same prediction.
    again = predictions.apply_link(mean.logits, link)
    npt.assert_allclose(again, expected, rtol=1e-12)


@pytest.mark.parametrize("link", LINKS)
def test_mean_of_logits_comes_before_the_link(link):
    z = np.random.normal(scale=3, size=(5, 3, 4))
    mean = predictions.mean_of_logits(z, link)
    npt.assert_allclose(mean.values, numpy_losses.LINKS[link](z.mean(1)), rtol=1e-12)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_heads_may_lie_on_any_axis_but_the_last(axis):
    z = np.random.normal(size=(4, 3, 2, 5))
    mean = predictions.mean_of_probabilities(z, "softmax", axis=axis)
    npt.assert_allclose(mean.values, numpy_losses.softmax(z).mean(axis), rtol=1e-12)


def test_logits_form_keeps_raw_values():
    z = np.random.normal(size=(5, 3, 4))
    mean = predictions.mean_of_probabilities(z, "softmax", form="logits")
    expected = np.log(numpy_losses.softmax(z).mean(1))
    npt.assert_allclose(mean.values, expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16])
@pytest.mark.parametrize("link", ["softmax", "sigmoid"])
@pytest.mark.parametrize("average", ["mean_of_probabilities", "mean_of_logits"])
def test_saturated_heads_give_finite_values_and_gradients(dtype, link, average):
    # Sure and agreeing, sure and contradicting, sure against undecided.
    rows = [[[1e4, -1e4], [1e4, -1e4]], [[1e4, -1e4], [-1e4, 1e4]]]
    rows.append([[1e4, -1e4], [0.0, 0.0]])
    z = tf.constant(rows, dtype)
    with tf.GradientTape() as tape:
        tape.watch(z)
        mean = getattr(predictions, average)(z, link)
        total = tf.reduce_sum(mean.logits)
    gradient = tape.gradient(total, z)
    assert mean.logits.dtype == tf.float32
    assert np.isfinite(mean.logits).all() and np.isfinite(mean.probabilities).all()
    assert np.isfinite(tf.cast(gradient, tf.float32)).all()
    if average == "mean_of_probabilities":
        expected = [[1, 0], [0.5, 0.5], [0.75, 0.25]]
        npt.assert_allclose(mean.probabilities, expected, atol=1e-6)


def test_narrow_inputs_are_averaged_in_float32():
    z = np.random.normal(size=(64, 3, 50)).astype("float32")
    low = tf.cast(z, tf.bfloat16)
    mean = predictions.mean_of_probabilities(low, "softmax").values
    exact = numpy_losses.softmax(tf.cast(low, tf.float64).numpy()).mean(1)
    npt.assert_allclose(mean, exact, rtol=1e-5)  # bfloat16 itself: 4e-3


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("form", ["probabilities", "logits"])
def test_from_values_undoes_values(link, form):
    z = np.random.normal(size=(6, 4))
    first = predictions.Prediction(z, link, form)
    again = predictions.Prediction.from_values(first.values, link, form)
    npt.assert_allclose(again.values, first.values, rtol=1e-9)
    npt.assert_allclose(again.probabilities, first.probabilities, rtol=1e-9)


def test_scale_gradient_changes_the_gradient_only():
    x = tf.constant([1.0, -2.0])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = predictions.scale_gradient(x, -1.5)
        total = tf.reduce_sum(y * y)
    npt.assert_array_equal(y, x)
    npt.assert_allclose(tape.gradient(total, x), -1.5 * 2 * x)


def test_unknown_link_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"`link` must be one of .*'softmax'.*tanh"):
        predictions.Prediction(np.zeros((1, 2)), "tanh")
