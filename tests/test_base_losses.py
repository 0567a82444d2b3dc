"""Base losses: the targets they take, what they ignore, what they refuse."""

import numpy as np
import numpy.testing as npt
import pytest
import tensorflow as tf

from ensemble_heads import base_losses, losses, predictions
from ensemble_heads.keras_api import KERAS_3, keras
from tests import numpy_losses as oracle

SPARSE = "sparse_categorical_crossentropy"


def callable_per_example(y_true, y_pred):
    return tf.reduce_sum(tf.abs(tf.cast(y_true, y_pred.dtype) - y_pred), axis=-1)


class OwnLoss(keras.losses.Loss):
    """A user's loss object."""

    def call(self, y_true, y_pred):
        return callable_per_example(y_true, y_pred)


@pytest.mark.parametrize("target", [[1, 0, 2], [[1], [0], [2]], [1.0, 0.0, 2.0]])
def test_class_numbers_may_have_a_last_axis_of_one(target):
    z = np.random.normal(size=(3, 4))
    values = base_losses.make(SPARSE)(target, predictions.Prediction(z, "softmax"))
    p = oracle.softmax(z)[np.arange(3), np.ravel(target).astype(int)]
    npt.assert_allclose(values, -np.log(p), rtol=1e-10)


@pytest.mark.parametrize("base", ["binary_crossentropy", "mse", callable_per_example])
def test_targets_of_one_unit_may_lack_the_last_axis(base):
    prediction = predictions.Prediction(np.random.normal(size=(3, 1)), "sigmoid")
    flat = base_losses.make(base)(np.array([1.0, 0.0, 1.0]), prediction)
    deep = base_losses.make(base)(np.array([[1.0], [0.0], [1.0]]), prediction)
    assert flat.shape == (3,)
    npt.assert_array_equal(flat, deep)


def test_ignored_classes_are_masked_and_harmless():
    loss = losses.SparseCategoricalCrossentropy(ignore_class=-1)
    base = base_losses.make(loss)
    prediction = predictions.Prediction(np.random.normal(size=(3, 4)), "softmax")
    labels = np.array([2, -1, 0])
    npt.assert_array_equal(base.mask(labels, prediction), [True, False, True])
    values = base(labels, prediction).numpy()
    assert values[1] == 0 and (values[[0, 2]] > 0).all()


@pytest.mark.parametrize("from_logits", [False, True])
def test_smoothed_sparse_loss_equals_keras_dense_one(from_logits):
    logits = np.random.normal(size=(6, 4))
    labels = np.random.randint(0, 4, 6)
    given = logits if from_logits else oracle.softmax(logits)
    dense = keras.losses.CategoricalCrossentropy(from_logits, label_smoothing=0.1)
    sparse = losses.SparseCategoricalCrossentropy(from_logits, label_smoothing=0.1)
    expected = dense(np.eye(4)[labels], given)
    npt.assert_allclose(sparse(labels, given), expected, rtol=1e-6)
    again = losses.SparseCategoricalCrossentropy.from_config(sparse.get_config())
    npt.assert_allclose(again(labels[:, None], given), expected, rtol=1e-6)


def test_the_users_loss_object_is_not_changed():
    loss = OwnLoss(reduction="sum")
    base_losses.make(loss)
    assert loss.reduction == "sum"


# ---- Errors


def fit(base, target_shape, output_shape, link="linear"):
    prediction = predictions.Prediction(np.zeros(output_shape), link)
    return base_losses.make(base)(np.zeros(target_shape), prediction)


@pytest.mark.parametrize(
    "base, target, output, message",
    [
        ("categorical_crossentropy", (8,), (8, 4), r"\(8, 4\).*need `sparse.*\(8,\)"),
        ("categorical_crossentropy", (8, 1), (8, 4), r"\(8, 4\).*`sparse.*\(8, 1\)"),
        ("categorical_crossentropy", (8, 5), (8, 4), r"\(8, 4\).*\(8, 5\)"),
        (
            SPARSE,
            (8, 4),
            (8, 4),
            r"\(8,\).*\(8, 4\).*need `categorical_.*\(8, 4\)",
        ),
        (SPARSE, (8,), (8, 1), r"`binary_crossentropy`"),
        ("binary_crossentropy", (8,), (8, 3), r"\(8, 3\).*\(8,\)"),
        ("mse", (8, 2), (8, 3), r"`loss` mean_squared_error.*\(8, 3\).*\(8, 2\)"),
        (keras.losses.MeanAbsoluteError(), (8, 1), (8, 3), r"\(8, 3\).*\(8, 1\)"),
        (callable_per_example, (8, 2), (8, 3), r"callable_per.*\(8, 2\).*\(8, 3\)"),
        (lambda y, p: tf.reduce_mean(p), (8, 3), (8, 3), "one value per example"),
    ],
)
def test_loss_that_does_not_fit_names_both_shapes(base, target, output, message):
    with pytest.raises(ValueError, match=f"(?s){message}") as error:
        fit(base, target, output)
    assert "\n" not in str(error.value).split("Received")[0]


@pytest.mark.skipif(not KERAS_3, reason="losses of Keras 3")
def test_keras_losses_whose_targets_have_a_shape_of_their_own():
    logits = np.random.normal(size=(4, 6, 5)).astype("float32")
    target = np.random.randint(1, 5, (4, 2))
    made = base_losses.make(keras.losses.CTC())
    expected = keras.losses.CTC(reduction="none")(target, logits)
    values = made(target, predictions.Prediction(logits))
    npt.assert_allclose(values, expected, rtol=1e-6)
    assert made.by_example
    embedded = tf.math.l2_normalize(logits[:, 0], axis=-1)
    classes = np.array([0, 1, 0, 1])
    made = base_losses.make(keras.losses.Circle())
    expected = keras.losses.Circle(reduction="none")(classes, embedded)
    values = made(classes, predictions.Prediction(embedded))
    npt.assert_allclose(values, expected, rtol=1e-6)
    assert not made.by_example  # it compares the examples of a batch


def test_arguments_out_of_range():
    with pytest.raises(ValueError, match=r"`label_smoothing` must be in \[0, 1\)"):
        losses.SparseCategoricalCrossentropy(label_smoothing=1.0)
    with pytest.raises(ValueError, match="classes on the last axis"):
        base_losses.make(keras.losses.CategoricalCrossentropy(axis=1))
