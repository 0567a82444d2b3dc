"""Profiles leave nothing out in silence: functions, loops, unknown dimensions."""

import pytest
import tensorflow as tf

import ensemble_heads as eh
from ensemble_heads.keras_api import KERAS_3, keras
from tests.profile_checks import layer_profile, rows, uncounted

layers = keras.layers


class OnCondition(layers.Layer):
    """Multiplies its input with itself twice, where the sum is positive."""

    def call(self, inputs):
        return tf.cond(
            tf.reduce_sum(inputs) > 0,
            lambda: inputs * inputs * inputs,
            lambda: tf.identity(inputs),
        )


class Repeating(layers.Layer):
    def call(self, inputs):
        return tf.while_loop(
            lambda x: tf.reduce_max(x) < 100.0, lambda x: (x + x + 1.0,), (inputs,)
        )[0]


class WithFunction(layers.Layer):
    """Calls a function, traced for every call or once for any batch size."""

    def __init__(self, once):
        super().__init__(name="function")
        self.once, self.function = once, self.make()

    def make(self):
        inner = tf.function(tf.square)
        return tf.function(lambda x: tf.exp(inner(x)))

    def call(self, inputs):
        return (self.function if self.once else self.make())(inputs)


def test_branches_and_loops_are_named():
    (item,) = layer_profile(OnCondition(name="branch")).uncounted
    assert item.layer == "branch" and item.op_type in ("If", "StatelessIf")
    assert item.reason == "only one of its branches runs, of at most 12 FLOPs"
    result = layer_profile(Repeating(name="loop"))
    (item,) = result.uncounted
    assert item.layer == "loop" and item.op_type in ("While", "StatelessWhile")
    # two sums of 6 elements, and the loop's own counter
    assert item.reason == "a loop of 13 FLOPs a step, an unknown number of times"
    assert result.flops == 0


@pytest.mark.skipif(KERAS_3, reason="Keras 3 converts no control flow in layers")
def test_control_flow_of_keras_2_is_still_converted():
    class OnPythonCondition(layers.Layer):
        def call(self, inputs):
            if tf.reduce_sum(inputs) > 0:
                result = inputs * inputs
            else:
                result = inputs
            return result

    (item,) = layer_profile(OnPythonCondition(name="branch")).uncounted
    assert item.reason == "only one of its branches runs, of at most 6 FLOPs"


@pytest.mark.parametrize("once", [False, True])
def test_bodies_of_functions_are_counted(once):
    result = layer_profile(WithFunction(once))
    assert rows(result) == {"function": (0, 6)}
    (item,) = result.uncounted
    assert (item.op_type, item.layer) == ("Exp", "function")
    assert "Call/" in item.node


def test_functions_of_keras_are_counted():
    gelu = layer_profile(layers.Activation("gelu", name="gelu"))
    assert rows(gelu)["gelu"][1] >= 4 * 6  # a function of its own on both lines
    assert uncounted(gelu)["gelu"] in (["Erf"], ["Erfc"])
    # Keras 2 runs grouped convolutions in a function compiled for any batch size
    grouped = layers.Conv2D(8, 3, groups=2, name="grouped")
    result = layer_profile(grouped, (6, 6, 4))
    assert rows(result) == {"grouped": (3 * 3 * 2 * 8 + 8, 128 * (2 * 3 * 3 * 2 + 1))}
    assert result.uncounted == ()


def test_einsum_is_named_and_unregistered_or_counted():
    equation = layers.EinsumDense("ab,bc->ac", output_shape=4, name="einsum")
    result = layer_profile(equation)
    if KERAS_3 and rows(result)["einsum"][1]:
        assert rows(result)["einsum"] == (24, 2 * 24)
    else:
        assert uncounted(result) == {"einsum": ["Einsum"]}


def test_recurrent_layers():
    """A loop is named; what a layer computes only to throw away is not counted."""
    result = layer_profile(layers.LSTM(3, name="lstm"), (5, 2))
    types = uncounted(result)["lstm"]
    assert any(kind in ("While", "StatelessWhile") for kind in types)
    assert rows(result)["lstm"][1] < 2 * 3 * 4 * 2  # no product outside of the loop


def test_movement_costs_nothing_and_is_not_named():
    x = inputs = keras.Input((4, 6))
    x = layers.Permute((2, 1))(layers.Reshape((6, 4))(x))
    x = layers.Concatenate()([x, layers.ZeroPadding1D((1, 1))(x)[:, 1:-1]])
    x = layers.UpSampling1D(2)(layers.Cropping1D(1)(layers.Flatten()(x)[:, :, None]))
    result = eh.profile(keras.Model(inputs, x))
    assert result.uncounted == ()
    assert result.flops <= 1  # Keras 3 multiplies two sizes of a shape


def test_resizing_is_named():
    result = layer_profile(
        layers.Resizing(5, 5, interpolation="bilinear", name="resize"), (8, 8, 3)
    )
    assert "ResizeBilinear" in uncounted(result)["resize"]


def test_unknown_dimensions_are_named_and_can_be_given():
    x = inputs = keras.Input((None, None, 3))
    x = layers.Conv2D(4, 3, name="conv")(x)
    x = layers.GlobalAveragePooling2D(name="average")(x)
    model = keras.Model(inputs, layers.Dense(2, name="scores")(x))
    result = eh.profile(model)
    assert rows(result)["scores"] == (10, 2 * 8 + 2)
    assert rows(result)["conv"] == (3 * 3 * 3 * 4 + 4, 0)
    assert uncounted(result) == {"average": ["Mean"], "conv": ["BiasAdd", "Conv2D"]}
    assert {item.reason for item in result.uncounted} == {"unknown dimension"}
    given = eh.profile(model, input_shape=(8, 8, 3))
    assert rows(given)["conv"][1] == 6 * 6 * 4 * (2 * 27 + 1)
    assert given.uncounted == ()
    with pytest.raises(ValueError, match=r"which is .*\(None, None, 3\).*Received"):
        eh.profile(model, input_shape=(8, 8, 4))
