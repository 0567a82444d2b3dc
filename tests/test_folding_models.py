"""Folding of whole models: shared layers, masks, nested and multi-headed models."""

import numpy as np
import pytest
import tensorflow as tf

from ensemble_heads import folding
from ensemble_heads.keras_api import keras
from ensemble_heads.multi_head_model import MultiHeadModel
from ensemble_heads.multi_head_wrapper import MultiHeadWrapper
from tests.folding_checks import (
    check_equal,
    draw_inputs,
    folds,
    norm,
    randomise,
    reasons,
)

layers = keras.layers


def test_shared_layers_fold_when_all_calls_agree():
    one, two = keras.Input((8,)), keras.Input((8,))
    dense, same = layers.Dense(5, name="dense"), norm("same")
    agree = [layers.ReLU()(same(dense(x))) for x in (one, two)]
    folds(keras.Model([one, two], agree))
    differ = [layers.ReLU()(norm(f"n{i}")(dense(x))) for i, x in enumerate((one, two))]
    model = keras.Model([one, two], differ)
    folds(model, left=2)
    assert "is shared, and its calls do not agree" in reasons(model)["n0"]
    partly = [layers.ReLU()(same(dense(one))), layers.ReLU()(dense(two))]
    folds(keras.Model([one, two], partly), left=1)


def test_shared_norms():
    one, two = keras.Input((8,)), keras.Input((5,))
    shared = norm("shared")
    outputs = [layers.ReLU()(shared(layers.Dense(5)(x))) for x in (one, two)]
    folds(keras.Model([one, two], outputs))
    outputs = [outputs[0], layers.ReLU()(shared(two))]
    folds(keras.Model([one, two], outputs), left=1)
    dense = layers.Dense(3)
    both = [dense(norm("before")(two)), dense(two)]
    model = keras.Model(two, both)
    folds(model, left=1)
    assert "is also called on other inputs" in reasons(model)["before"]
    before = norm("b")
    folds(keras.Model([two, one], [dense(before(two)), layers.Dense(3)(one)]))


def test_masks_pass():
    inputs = keras.Input((7,), dtype="int32")
    x = layers.Embedding(11, 6, mask_zero=True)(inputs)
    x = layers.ReLU()(norm()(layers.Dense(5)(x)))
    model = randomise(keras.Model(inputs, layers.GlobalAveragePooling1D()(x)))
    tokens = np.array([[1, 2, 3, 0, 0, 0, 0], [4, 5, 6, 7, 8, 9, 10]])
    folded = folding.fold_batch_norm(model)
    assert not folding.batch_norms_in(folded)
    check_equal(model, folded, inputs=tokens)
    other = tokens.copy()
    other[0, 4] = 9  # unmasks a step
    assert np.abs(folded(other)[0] - folded(tokens)[0]).max() > 1e-3


def test_nested_models_and_stateful_layers_are_kept():
    inner = keras.Sequential(
        [keras.Input((6, 6, 3)), layers.Conv2D(4, 3), norm("inner_norm")], name="inner"
    )
    adapted = layers.Normalization()
    adapted.adapt(np.random.default_rng(0).normal(3.0, 2.0, (64, 6, 6, 3)))
    x = inputs = keras.Input((6, 6, 3))
    x = layers.ReLU()(inner(adapted(x)))
    x = layers.Reshape((16, 4))(x)
    x = layers.MultiHeadAttention(2, 3)(x, x)
    model = keras.Model(inputs, layers.Bidirectional(layers.LSTM(3))(x))
    values = adapted.get_weights()
    randomise(model)
    adapted.set_weights(values)
    adapted.finalize_state()
    folded = folding.fold_batch_norm(model)
    assert not folding.batch_norms_in(folded)
    check_equal(model, folded)


@pytest.mark.parametrize("mode", ["multi_hot", "tf_idf"])
def test_adapted_vocabularies_are_kept(mode):
    lookup = layers.StringLookup(output_mode=mode)
    lookup.adapt(tf.constant([["one", "two"], ["two", "three"]]))
    inputs = keras.Input((2,), dtype="string")
    dense = layers.Dense(4)
    model = keras.Model(inputs, norm()(dense(lookup(inputs))))
    dense.set_weights([np.random.default_rng(0).normal(size=(4, 4)), np.ones(4)])
    folded = folding.fold_batch_norm(model)
    assert not folding.batch_norms_in(folded)
    check_equal(model, folded, inputs=tf.constant([["two", "one"], ["three", "ten"]]))


def test_norms_inside_other_layers_are_named():
    x = inputs = keras.Input((5, 8))
    x = layers.TimeDistributed(norm("wrapped"), name="steps")(x)
    model = keras.Model(inputs, x)
    assert reasons(model) == {"wrapped": "it is inside `steps`, which is not opened"}
    folds(model, left=1)


@pytest.mark.parametrize(
    "policy, tolerance",
    [("mixed_bfloat16", 2e-2), ("mixed_float16", 2e-3), ("float64", 1e-13)],
)
def test_other_dtypes(policy, tolerance):
    x = inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(4, 3, dtype=policy)(x)
    x = layers.ReLU(dtype=policy)(norm(dtype=policy)(x))
    x = layers.GlobalAveragePooling2D(dtype=policy)(x)
    model = keras.Model(inputs, layers.Dense(3, dtype="float64")(x))
    folds(model, tolerance=tolerance)


def test_norm_that_changes_the_dtype_stays():
    x = inputs = keras.Input((8,))
    x = norm(dtype="float32")(layers.Dense(4, dtype="mixed_bfloat16")(x))
    model = keras.Model(inputs, layers.ReLU()(x))
    assert "another dtype" in reasons(model)["norm"]


def test_folded_layers_lose_regularisers_and_others_keep_them():
    x = inputs = keras.Input((8,))
    options = {"kernel_regularizer": "l2", "kernel_constraint": "non_neg"}
    x = layers.ReLU()(norm()(layers.Dense(4, name="a", **options)(x)))
    model = keras.Model(inputs, layers.Dense(2, name="b", **options)(x))
    folded = folding.fold_batch_norm(model)
    assert folded.get_layer("a").kernel_regularizer is None
    assert folded.get_layer("a").kernel_constraint is None
    assert folded.get_layer("b").kernel_regularizer is not None


@pytest.mark.parametrize(
    "name, folded, total", [("ResNet50", 53, 53), ("DenseNet121", 59, 121)]
)
def test_published_networks(name, folded, total):
    make = getattr(keras.applications, name)
    model = make(weights=None, input_shape=(64, 64, 3), classifier_activation=None)
    for layer in folding.batch_norms_in(model):
        randomise_norm(layer)
    result = folding.fold_batch_norm(model)
    assert len(folding.batch_norms_in(model)) == total
    assert len(folding.batch_norms_in(result)) == total - folded
    assert len(folding.unfolded_batch_norms(model)) == total - folded
    check_equal(model, result, tolerance=1e-4)


def randomise_norm(layer):
    rng = np.random.default_rng(len(layer.name))
    for weight in layer.weights:
        positive = "variance" in weight.name or "gamma" in weight.name
        shape = weight.shape
        draw = rng.uniform(0.5, 1.5, shape) if positive else rng.normal(0, 0.2, shape)
        weight.assign(draw)


def make_multi_head():
    inputs = keras.Input((8, 8, 3), name="image")
    x = layers.ReLU()(norm("n0")(layers.Conv2D(4, 3, name="c0")(inputs)))
    trunk = keras.Model(inputs, x, name="trunk")
    heads = []
    for index in range(3):
        features = keras.Input(x.shape[1:])
        y = layers.ReLU()(norm("n1")(layers.Conv2D(5, 3, name="c1")(features)))
        y = norm("n2")(layers.GlobalMaxPooling2D()(y))
        y = layers.Dense(2, name="scores")(layers.Activation("tanh")(y))
        heads.append(keras.Model(features, y, name=f"head_{index}"))
    return trunk, MultiHeadWrapper.from_heads(heads, "softmax")


def test_multi_head_model():
    model = randomise(MultiHeadModel(*make_multi_head(), name="ensemble"))
    assert set(reasons(model)) == {f"head_{i}/n2" for i in range(3)}
    folded = folding.fold_batch_norm(model)
    assert isinstance(folded, MultiHeadModel)
    assert (folded.name, folded.num_heads, folded.links) == ("ensemble", 3, "softmax")
    assert len(folding.batch_norms_in(model)) == 7
    assert len(folding.batch_norms_in(folded)) == 3
    inputs = draw_inputs(model.trunk)
    check_equal(model, folded, inputs=inputs)
    check_equal(model.head_predictions, folded.head_predictions, inputs=inputs)
    assert not {id(w) for w in model.weights} & {id(w) for w in folded.weights}


def test_parametric_ensembler_is_copied():
    class Weighted(layers.Layer):
        def build(self, shape):
            self.weighting = self.add_weight(
                shape=(shape[1], 1), initializer="ones", name="weighting"
            )

        def call(self, stacked):
            return tf.einsum("bhc,h->bc", stacked, self.weighting[:, 0])

    model = randomise(MultiHeadModel(*make_multi_head(), ensembler=Weighted()))
    folded = folding.fold_batch_norm(model)
    check_equal(model, folded, inputs=draw_inputs(model.trunk))
    assert folded.ensembler is not model.ensembler


def test_wrapper_in_a_functional_model():
    trunk, wrapper = make_multi_head()
    inputs = keras.Input((8, 8, 3))
    stacked = wrapper(trunk(inputs))
    model = randomise(keras.Model(inputs, layers.Flatten()(stacked)))
    folded = folding.fold_batch_norm(model)
    assert len(folding.batch_norms_in(folded)) == 3
    assert set(reasons(model)) == {f"head_{i}/n2" for i in range(3)}
    check_equal(model, folded)


def test_subclassed_models_cannot_be_folded_but_their_norms_are_named():
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__(name="mine")
            self.norm = norm("its_norm")

        def call(self, inputs):
            return self.norm(inputs)

    model = Subclassed()
    with pytest.raises(ValueError, match="functional model; `mine` is a subclassed"):
        folding.fold_batch_norm(model)
    model(np.ones((2, 3), np.float32))
    assert "subclassed model" in reasons(model)["its_norm"]
    assert folding.fold_where_possible(model)[0] is model
