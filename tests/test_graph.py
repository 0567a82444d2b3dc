"""Reading a functional model as data and building it again."""

import numpy as np
import pytest
import tensorflow as tf

from ensemble_heads import graph
from ensemble_heads.keras_api import KERAS_3, keras

layers = keras.layers


def assert_rebuilds(model, batch):
    """A rebuilt model with the same weights computes the same, in the same form."""
    calls = [len(layer._inbound_nodes) for layer in model.layers]
    clone = graph.read(model).build()
    assert [len(layer._inbound_nodes) for layer in model.layers] == calls
    assert not {id(w) for w in clone.weights} & {id(w) for w in model.weights}
    clone.set_weights(model.get_weights())
    tf.nest.map_structure(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        clone(batch),
        model(batch),
    )
    return clone


def test_structures_of_inputs_and_outputs_are_kept():
    inputs = {"b": keras.Input((3,), name="b"), "a": keras.Input((2,), name="a")}
    x = layers.Concatenate()([inputs["a"], inputs["b"]])
    outputs = {"y": layers.Dense(2)(x), "x": layers.Dense(4)(x)}
    batch = {"a": np.ones((2, 2), "float32"), "b": np.ones((2, 3), "float32")}
    clone = assert_rebuilds(keras.Model(inputs, outputs), batch)
    assert sorted(clone(batch)) == ["x", "y"]


def test_shared_layers_stay_shared():
    inputs = keras.Input((4,))
    twice = layers.Dense(4)
    model = keras.Model(inputs, twice(twice(inputs)))
    clone = assert_rebuilds(model, np.ones((2, 4), "float32"))
    assert len(clone.weights) == 2


def test_nested_models_are_inlined_with_names_of_their_own():
    inner_inputs = keras.Input((4,))
    inner_outputs = layers.Dense(4, name="dense")(inner_inputs)
    inner = keras.Model(inner_inputs, inner_outputs, name="inner")
    inputs = keras.Input((4,))
    x = layers.Dense(4, name="dense")(inputs)
    model = keras.Model(inputs, inner(inner(x)))
    nodes = graph.read(model).nodes
    assert [node.name for node in nodes] == ["dense", "inner_dense", "inner_dense"]
    assert_rebuilds(model, np.ones((2, 4), "float32"))


def test_a_nested_model_frozen_by_its_call_stays_frozen():
    inner = keras.Sequential([keras.Input((4,)), layers.Dropout(0.9), layers.ReLU()])
    inputs = keras.Input((4,))
    x = layers.Dense(4)(inputs)
    model = keras.Model(inputs, inner(x, training=False))
    clone = graph.read(model).build()
    batch = np.ones((64, 4), "float32")

    def drops(one):  # Keras 3 lets the outer call overrule the inner one
        return bool((one(batch, training=True).numpy() != one(batch).numpy()).any())

    assert drops(clone) == drops(model) == KERAS_3


def test_constants_and_keyword_arguments_are_kept():
    inputs = keras.Input((5, 4))
    attention = layers.MultiHeadAttention(2, 3)
    x = attention(inputs, inputs, use_causal_mask=True)
    outputs = (x * 2.0 + 1.0)[:, :, 1:]
    batch = np.random.default_rng(0).normal(size=(2, 5, 4)).astype("float32")
    assert_rebuilds(keras.Model(inputs, outputs), batch)


def test_masks_are_passed_on():
    inputs = keras.Input((None,), dtype="int32")
    x = layers.Embedding(9, 4, mask_zero=True)(inputs)
    model = keras.Model(inputs, layers.LSTM(3)(x))
    clone = assert_rebuilds(model, np.array([[1, 2, 0, 0]]))
    np.testing.assert_allclose(
        clone(np.array([[1, 2, 0, 0]])), clone(np.array([[1, 2]])), rtol=1e-5
    )


def test_lambda_layers_share_their_function():
    inputs = keras.Input((3,))
    x = layers.Lambda(lambda value: value * 3.0)(inputs)
    assert_rebuilds(keras.Model(inputs, layers.Dense(2)(x)), np.ones((2, 3), "float32"))


def test_layers_that_cannot_be_cloned_are_named():
    class Broken(layers.Layer):
        def __init__(self, size, **kwargs):
            super().__init__(**kwargs)

        def call(self, inputs):
            return inputs

    inputs = keras.Input((3,))
    model = keras.Model(inputs, Broken(object(), name="broken")(inputs))
    with pytest.raises(ValueError, match=r"`broken` of class Broken.*`get_config`"):
        graph.read(model).build()
