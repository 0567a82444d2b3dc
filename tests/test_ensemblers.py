"""Ensemblers: the average, layers of the user's, and the gradient multiplier."""

import numpy as np
import numpy.testing as npt
import pytest
import tensorflow as tf

import ensemble_heads as eh
from ensemble_heads import base_losses, ensemblers
from ensemble_heads.keras_api import keras
from tests import numpy_losses, small_models
from tests.small_models import Weighting


@pytest.mark.parametrize("of", ["probabilities", "logits"])
def test_mean_in_a_model_is_the_average_it_says(of):
    model = small_models.dense_model(3, ensembler=eh.ensemblers.Mean(of))
    x, _ = small_models.classification_data()
    features = model.trunk(x)
    raw = np.stack([np.array(head(features)) for head in model.heads], 1)
    expected = numpy_losses.combine(raw.astype("float64"), "softmax", of)
    npt.assert_allclose(model.predict(x, verbose=0), expected, rtol=1e-5)


def test_mean_on_plain_tensors_needs_the_link_only_for_logits():
    p = numpy_losses.softmax(np.random.normal(size=(5, 3, 4))).astype("float32")
    npt.assert_allclose(eh.ensemblers.Mean()(p), p.mean(1), rtol=1e-6)
    geometric = np.exp(np.log(p).mean(1))
    geometric /= geometric.sum(-1, keepdims=True)
    mean = eh.ensemblers.Mean("logits")(p, link="softmax")
    npt.assert_allclose(mean, geometric, rtol=1e-5)


def test_mean_works_in_float32_under_every_policy():
    assert eh.ensemblers.Mean().compute_dtype == "float32"
    assert eh.ensemblers.Mean(dtype="float64").compute_dtype == "float64"


def test_layers_of_the_users_see_the_single_models_form():
    class Largest(keras.layers.Layer):
        def call(self, inputs):
            return tf.reduce_max(inputs, axis=1)

    x, _ = small_models.classification_data()
    probabilities = small_models.dense_model(3, ensembler=Largest())
    heads = np.array(probabilities.head_predictions(x))
    npt.assert_allclose(heads.sum(-1), 1.0, rtol=1e-5)
    # Three distributions' maxima do not sum to 1, and are handed on as they are.
    npt.assert_allclose(probabilities.predict(x, verbose=0), heads.max(1), rtol=1e-5)
    raw = small_models.dense_model(3, link="linear", ensembler=Largest())
    expected = np.array(raw.head_predictions(x)).max(1)
    npt.assert_allclose(raw.predict(x, verbose=0), expected, rtol=1e-4, atol=1e-6)


def test_layers_of_the_users_work_at_a_fixed_batch_size():
    class Average(keras.layers.Layer):
        def call(self, inputs):
            return tf.reduce_mean(inputs, axis=1)

    inputs = keras.Input((4,), batch_size=8)
    hidden = keras.layers.Dense(8, name="shared")(inputs)
    single = keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(hidden))
    model = eh.multi_head(single, "shared", ensembler=Average())
    x = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    npt.assert_allclose(model(x), np.mean(model.head_predictions(x), 1), rtol=1e-5)


@pytest.mark.parametrize("weight", [-1.5, 0.0, 0.5])
def test_parametric_ensembler_gets_a_multiplier_in_place_of_a_factor(weight):
    """Section 3: the ensembler's own weights see the plain loss, heads N lambda."""
    model = small_models.dense_model(3, ensembler=Weighting())
    x, y = small_models.classification_data()
    base = base_losses.make("sparse_categorical_crossentropy")
    loss = eh.losses.Ensembling(weight)
    scores = model.ensembler.trainable_variables
    kernels = [head.trainable_variables[-1] for head in model.heads]

    def gradients(function):
        with tf.GradientTape(persistent=True) as tape:
            total = tf.reduce_sum(function())
        return [tape.gradient(total, variables) for variables in (scores, kernels)]

    def prediction(factor=None):
        return model.forward(x, training=True, ensembler_gradient=factor)[0]

    factor = loss.ensembler_gradient(3)
    assert factor == 3 * weight
    own, heads = gradients(lambda: loss(base, y, prediction(factor)))
    plain = gradients(lambda: base(y, prediction().ensemble))
    auxiliary = gradients(
        lambda: sum(base(y, head) for head in prediction().heads.heads())
    )
    npt.assert_allclose(own[0], plain[0][0], rtol=1e-5)
    for got, of_ensemble, of_heads in zip(heads, plain[1], auxiliary[1]):
        expected = factor * of_ensemble + (1 - weight) * of_heads
        npt.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)
    assert np.abs(plain[0][0]).max() > 1e-4


def test_parametric_ensembler_trains_and_changes():
    model = small_models.dense_model(2, ensembler=Weighting())
    x, y = small_models.classification_data()
    loss = "sparse_categorical_crossentropy"
    model.compile("adam", loss, ensemble_loss=eh.losses.Ensembling(0.0))
    before = model.ensembler.get_weights()[0]
    model.fit(x, y, epochs=2, verbose=0)
    assert np.abs(model.ensembler.get_weights()[0] - before).max() > 1e-4


def test_one_ensembler_per_output():
    layers = {"label": Weighting(), "size": eh.ensemblers.Mean()}
    model = small_models.several_outputs_model(dict, ensembler=layers)
    assert model.ensembler["label"] is layers["label"]
    with pytest.raises(ValueError, match="one layer per output.*'label', 'size'"):
        small_models.several_outputs_model(dict, ensembler=Weighting())


def test_unknown_ensemblers_and_wrong_shapes():
    with pytest.raises(ValueError, match=r"one of \[.*'mean'.*\].*ensembler='median'"):
        ensemblers.get("median")
    with pytest.raises(ValueError, match='"probabilities" or "logits".*of=.odds'):
        eh.ensemblers.Mean("odds")
    with pytest.raises(ValueError, match=r"\(None, 2, 4\).*\(None, 4\).*\(None, 8\)"):
        small_models.dense_model(2, ensembler=keras.layers.Flatten(name="flat"))
    with pytest.raises(NotImplementedError, match="must implement `combine"):
        ensemblers.Ensembler()(np.zeros((1, 2, 3)))


class OfSeveralFeatures(eh.ensemblers.Ensembler):
    """One number for all heads, from the means of two tensors of other shapes."""

    uses_features = True

    def build(self, input_shape):
        self.dense = keras.layers.Dense(1, kernel_initializer="ones")
        self.dense.build((None, 2))
        super().build(input_shape)

    def combine(self, heads, training=None, features=None):
        means = [tf.reduce_mean(one, -1) for one in tf.nest.flatten(features)]
        logits = tf.reduce_mean(heads.logits, axis=1)
        return heads.with_logits(logits + self.dense(tf.stack(means, axis=-1)))


def test_an_ensembler_of_ones_own_may_see_several_features():
    inputs = keras.Input((4,)), keras.Input((5,))
    late = keras.layers.Dense(3, activation="relu", name="shared")(inputs[0])
    joined = keras.layers.Concatenate()([late, inputs[1]])
    single = keras.Model(inputs, keras.layers.Dense(1)(joined))
    model = eh.multi_head(single, "shared", 2, seed=0, ensembler=OfSeveralFeatures())
    model.compile(keras.optimizers.SGD(0.01), "mse")
    x = [np.random.normal(size=(8, size)).astype("float32") for size in (4, 5)]
    before = model.ensembler.get_weights()[0]
    history = model.fit(x, x[0][:, :1], epochs=5, verbose=0).history["loss"]
    assert history[-1] < history[0]
    assert np.abs(model.ensembler.get_weights()[0] - before).max() > 1e-4
