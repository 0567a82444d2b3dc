"""Bootstrap weights that follow from the seed and the example."""

import math

import numpy as np
import numpy.testing as npt
import pytest
import tensorflow as tf

import ensemble_heads as eh
from ensemble_heads.keras_api import keras
from ensemble_heads.losses import random_numbers
from tests import loss_checks, numpy_losses, small_models

SPARSE = "sparse_categorical_crossentropy"


# ---- The numbers


def test_weights_are_poisson_numbers_of_mean_one():
    weights = np.array(random_numbers.bootstrap_weights(tf.range(20000), 4, seed=3))
    for head in weights.T:
        shares = [(head == count).mean() for count in range(5)]
        expected = [math.exp(-1) / math.factorial(count) for count in range(5)]
        npt.assert_allclose(shares, expected, atol=0.015)
        # The paper's 63 % of the examples, each 1 on average.
        npt.assert_allclose([(head > 0).mean(), head.mean()], [0.632, 1.0], atol=0.03)
    npt.assert_allclose(np.corrcoef(weights.T), np.eye(4), atol=0.03)


def test_weights_follow_from_seed_head_and_example_alone():
    ids = tf.constant([5, 900, 17, 5])
    weights = np.array(random_numbers.bootstrap_weights(ids, 50, seed=3))
    npt.assert_array_equal(weights[0], weights[3])
    npt.assert_array_equal(
        weights[2], random_numbers.bootstrap_weights(ids[2:3], 50, seed=3)[0]
    )
    # Fewer heads have the weights of the first ones.
    npt.assert_array_equal(
        weights[:, :7], random_numbers.bootstrap_weights(ids, 7, seed=3)
    )
    other = np.array(random_numbers.bootstrap_weights(ids, 50, seed=4))
    assert (weights != other).mean() > 0.4 and (weights[0] != weights[1]).mean() > 0.4


@pytest.mark.parametrize(
    "dtype", ["float16", "float32", "float64", "uint8", "int64", "bool", "str"]
)
def test_fingerprints_tell_examples_apart(dtype):
    rows = np.arange(300)
    x = np.stack([rows % 2, rows // 2 % 2, rows // 4], 1)
    x = x.astype(dtype) if dtype != "bool" else (x[:, :2] > 0)[:4]
    marks = np.array(random_numbers.fingerprints(tf.constant(x)))
    assert marks.dtype == np.uint32 and len(set(marks)) == len(x)
    order = np.random.permutation(len(x))
    npt.assert_array_equal(
        random_numbers.fingerprints(tf.constant(x[order])), marks[order]
    )


def test_fingerprints_mind_places_and_inputs():
    x = np.array([[1.0, 2.0], [2.0, 1.0]], "float32")
    assert len(set(np.array(random_numbers.fingerprints(x)))) == 2
    first, second = (
        np.array(random_numbers.fingerprints({"a": a, "b": b}))
        for a, b in ((x, x[::-1]), (x[::-1], x))
    )
    assert (first != second).all()
    many = np.random.normal(size=(5000, 3)).astype("float32")
    assert len(set(np.array(random_numbers.fingerprints(many)))) > 4995


# ---- The loss


def test_value_and_gradient_are_the_weighted_sum():
    z, target = loss_checks.draw_logits(), loss_checks.draw_target("one_hot")
    examples = tf.constant([4, 8, 15, 16])
    weights = np.array(random_numbers.bootstrap_weights(examples, 3, seed=23))
    assert 0 in weights and weights.max() > 1
    plain = loss_checks.CROSS_ENTROPIES["softmax"][2]

    def function(z):
        p = numpy_losses.softmax(z)
        return sum(weights[:, i] * plain(target, p[:, i]) for i in range(3))

    loss = eh.losses.Bagging(23)
    base = "categorical_crossentropy"
    got = loss_checks.value_and_gradient(
        loss, base, target, z, "softmax", observed=examples
    )
    loss_checks.assert_equals_numpy(got, function, z)


@pytest.mark.parametrize("settings", [{}, {"jit_compile": True}])
def test_an_example_keeps_its_weights_in_every_batch(settings):
    model = small_models.dense_model(3)
    x, y = small_models.classification_data(12)
    loss = eh.losses.Bagging(5)
    still = keras.optimizers.SGD(0.0)
    model.compile(still, SPARSE, ensemble_loss=loss, **settings)
    own = -np.log(np.array(model.head_predictions(x))[np.arange(12), :, y])
    weights = random_numbers.bootstrap_weights(random_numbers.fingerprints(x), 3, 5)
    expected = (np.array(weights) * own).sum(1)
    for size in (1, 5, 12):
        order = np.random.permutation(12)
        history = model.fit(x[order], y[order], batch_size=size, verbose=0).history
        npt.assert_allclose(history["loss"], expected.mean(), rtol=1e-4)
    npt.assert_allclose(model.evaluate(x, y, verbose=0), own.sum(1).mean(), rtol=1e-4)


@pytest.mark.parametrize("dtype", ["int64", "str"])
@pytest.mark.parametrize("kind", ["dict", "list", "tensor"])
def test_numbers_of_examples_outlast_augmentation(kind, dtype):
    given = keras.Input((6,), name="x")
    inputs = {"dict": {"x": given}, "list": [given], "tensor": given}[kind]
    hidden = keras.layers.Dense(7, name="shared")(given)
    outputs = keras.layers.Dense(4, activation="softmax")(hidden)
    model = eh.multi_head(keras.Model(inputs, outputs), "shared", 3)
    x, y = small_models.classification_data(12)
    ids = np.arange(100, 112).astype(dtype)
    loss = eh.losses.Bagging(5, id_key="id")
    model.compile(keras.optimizers.SGD(0.0), SPARSE, ensemble_loss=loss)
    marks = random_numbers.fingerprints(tf.constant(ids))
    weights = np.array(random_numbers.bootstrap_weights(marks, 3, 5))
    for shift in (0.0, 0.3):
        moved = x + np.float32(shift)
        own = -np.log(np.array(model.head_predictions({"x": moved})))
        own = own[np.arange(12), :, y]
        data = tf.data.Dataset.from_tensor_slices(({"x": moved, "id": ids}, y))
        history = model.fit(data.batch(4), verbose=0).history
        npt.assert_allclose(history["loss"], (weights * own).sum(1).mean(), rtol=1e-4)
    with pytest.raises(ValueError, match="`id_key` must be a key.*id_key='id'.*'x'"):
        model.fit({"x": x}, y, verbose=0)


@pytest.mark.parametrize("kind", ["dict", "list", "tensor"])
def test_numbers_of_examples_are_left_out_of_all_else(kind):
    def network():
        given = keras.Input((6,), name="x")
        inputs = {"dict": {"x": given}, "list": [given], "tensor": given}[kind]
        hidden = keras.layers.Dense(7, name="shared")(given)
        outputs = keras.layers.Dense(4, activation="softmax")(hidden)
        return keras.Model(inputs, outputs)

    model = eh.multi_head(network(), "shared", 3)
    x, y = small_models.classification_data(12)
    numbered = {"id": np.arange(12), "x": x}  # before the input, by name as well
    data = tf.data.Dataset.from_tensor_slices((numbered, y)).batch(4)
    taught = eh.losses.Distillation(network())
    model.compile("sgd", SPARSE, ensemble_loss=taught)
    assert np.isfinite(model.fit(data, verbose=0).history["loss"]).all()
    expected = np.array(model({"x": x}))
    for found in (model(numbered), model.predict(data, verbose=0)):
        npt.assert_allclose(found, expected, atol=1e-6)
    heads = model.head_predictions({"x": x})
    npt.assert_allclose(model.head_predictions(numbered), heads, atol=1e-6)
    chosen = eh.greedy_heads(model, ({"x": x}, y))
    assert eh.greedy_heads(model, data) == chosen


def test_arguments():
    with pytest.raises(ValueError, match="`seed` must be an integer of at least 0"):
        eh.losses.Bagging(-1)
    model = small_models.dense_model(2)
    model.compile("sgd", SPARSE, ensemble_loss=eh.losses.Bagging(1, "id"))
    x, y = small_models.classification_data()
    with pytest.raises(ValueError, match="`id_key` must be a key of the inputs"):
        model.fit(x, y, verbose=0)
