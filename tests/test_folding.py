"""Folding into single layers: predictions stay, and what stays unfolded is named."""

import numpy as np
import pytest
import tensorflow as tf

from ensemble_heads import folding, linear_layers
from ensemble_heads.keras_api import KERAS_3, keras
from tests.folding_checks import (
    check_equal,
    folds,
    norm,
    randomise,
    reasons,
)
from zoo.batch_norm import BatchNormalization as FusedBatchNormalization

layers = keras.layers


AFTER = {
    "conv1d": ((9, 4), layers.Conv1D, (6, 3), {"padding": "causal"}),
    "conv2d": ((8, 7, 4), layers.Conv2D, (6, 3), {"strides": 2, "padding": "same"}),
    "grouped": ((8, 7, 4), layers.Conv2D, (6, 3), {"groups": 2}),
    "dilated": ((8, 7, 4), layers.Conv2D, (6, 3), {"dilation_rate": 2}),
    "conv3d": ((5, 6, 4, 4), layers.Conv3D, (6, (1, 3, 2)), {}),
    "depthwise1d": ((9, 4), layers.DepthwiseConv1D, (3,), {"depth_multiplier": 2}),
    "depthwise2d": ((8, 7, 4), layers.DepthwiseConv2D, (3,), {"depth_multiplier": 2}),
    "separable1d": ((9, 4), layers.SeparableConv1D, (6, 3), {"depth_multiplier": 2}),
    "separable2d": ((8, 7, 4), layers.SeparableConv2D, (6, 3), {"padding": "same"}),
    "transposed1d": ((5, 4), layers.Conv1DTranspose, (6, 3), {"strides": 2}),
    "transposed2d": ((4, 5, 4), layers.Conv2DTranspose, (6, 3), {"padding": "same"}),
    "transposed3d": ((3, 4, 3, 4), layers.Conv3DTranspose, (6, 2), {"strides": 2}),
    "dense": ((4,), layers.Dense, (6,), {}),
    "dense_per_step": ((5, 4), layers.Dense, (6,), {}),
}


BEFORE = {
    "dense": ((4,), layers.Dense, (6,), {"activation": "relu"}),
    "dense_per_step": ((5, 4), layers.Dense, (6,), {}),
    "valid1d": ((9, 4), layers.Conv1D, (6, 3), {"dilation_rate": 2}),
    "valid2d": ((8, 7, 4), layers.Conv2D, (6, 3), {"activation": "relu"}),
    "valid3d": ((5, 6, 4, 4), layers.Conv3D, (6, 2), {}),
    "pointwise": ((8, 7, 4), layers.Conv2D, (6, 1), {"strides": 2, "padding": "same"}),
    "patches": ((8, 6, 4), layers.Conv2D, (6, 2), {"strides": 2, "padding": "same"}),
    "grouped": ((8, 7, 4), layers.Conv2D, (6, 3), {"groups": 2}),
    "depthwise1d": ((9, 4), layers.DepthwiseConv1D, (3,), {"depth_multiplier": 2}),
    "depthwise2d": ((8, 7, 4), layers.DepthwiseConv2D, (3,), {"depth_multiplier": 2}),
    "separable1d": ((9, 4), layers.SeparableConv1D, (6, 3), {"depth_multiplier": 2}),
    "separable2d": ((8, 7, 4), layers.SeparableConv2D, (6, 3), {}),
    "transposed": ((4, 5, 4), layers.Conv2DTranspose, (6, 1), {}),
}


PADDED = {
    "causal": ((9, 4), layers.Conv1D, (6, 3), {"padding": "causal"}),
    "same": ((8, 7, 4), layers.Conv2D, (6, 3), {"padding": "same"}),
    "same_patches": (
        (8, 7, 4),  # 7 is no multiple of 2
        layers.Conv2D,
        (6, 2),
        {"strides": 2, "padding": "same"},
    ),
    "unknown_size": (
        (None, 8, 4),
        layers.Conv2D,
        (6, 2),
        {"strides": 2, "padding": "same"},
    ),
    "depthwise": ((8, 7, 4), layers.DepthwiseConv2D, (3,), {"padding": "same"}),
    "transposed": ((4, 5, 4), layers.Conv2DTranspose, (6, 3), {}),
    "transposed_strided": ((4, 5, 4), layers.Conv2DTranspose, (6, 1), {"strides": 2}),
}


def cases(table):
    return pytest.mark.parametrize("case", table.values(), ids=table.keys())


@pytest.mark.parametrize("use_bias", [True, False])
@cases(AFTER)
def test_norm_after_every_linear_layer(case, use_bias):
    shape, make, arguments, options = case
    x = inputs = keras.Input(shape)
    x = make(*arguments, use_bias=use_bias, name="linear", **options)(x)
    x = layers.ReLU()(norm()(x))
    folded = folds(keras.Model(inputs, x))
    assert folded.get_layer("linear").use_bias


@pytest.mark.parametrize("use_bias", [True, False])
@cases(BEFORE)
def test_norm_before_every_linear_layer(case, use_bias):
    shape, make, arguments, options = case
    x = inputs = keras.Input(shape)
    x = make(*arguments, use_bias=use_bias, name="linear", **options)(norm()(x))
    folded = folds(keras.Model(inputs, x))
    assert folded.get_layer("linear").use_bias


@cases(PADDED)
def test_norm_before_padding_stays_unless_it_does_not_shift(case):
    shape, make, arguments, options = case
    x = inputs = keras.Input(shape)
    x = make(*arguments, use_bias=False, name="linear", **options)(norm()(x))
    model = keras.Model(inputs, x)
    folds(model, left=1)
    assert "`linear` after it pads with zeros" in reasons(model)["norm"]
    bn = model.get_layer("norm")
    bn.moving_mean.assign(np.zeros(4))
    bn.beta.assign(np.zeros(4))
    folded = folding.fold_batch_norm(model)
    assert not folding.batch_norms_in(folded)
    assert not folded.get_layer("linear").use_bias
    check_equal(model, folded)


@pytest.mark.parametrize("options", [{"center": False}, {"scale": False}, {"axis": 3}])
def test_options_of_the_norm(options):
    x = inputs = keras.Input((6, 6, 3))
    x = norm(epsilon=0.1, **options)(layers.Conv2D(4, 3)(x))
    folds(keras.Model(inputs, x))


@pytest.mark.parametrize("kind", [layers.BatchNormalization, FusedBatchNormalization])
def test_tiny_variances(kind):
    x = inputs = keras.Input((6, 6, 3))
    x = kind(epsilon=1e-9, name="norm")(layers.Conv2D(4, 3)(x))
    model = randomise(keras.Model(inputs, x))
    # where a kernel with a least epsilon of its own would show
    model.get_layer("norm").moving_variance.assign([1e-6, 1e-5, 1e-4, 1.0])
    check_equal(model, folding.fold_batch_norm(model))


@pytest.mark.skipif(KERAS_3, reason="a layer of Keras 2")
def test_synchronised_norm_of_keras_2():
    x = inputs = keras.Input((6, 6, 3))
    x = layers.experimental.SyncBatchNormalization()(layers.Conv2D(4, 3)(x))
    folds(keras.Model(inputs, x))


def test_channels_first_folds_along_the_right_axis():
    def make(data_format, shape, axis):
        inputs = keras.Input(shape)
        options = {"data_format": data_format, "groups": 2}
        x = layers.Conv2D(4, 3, name="after", **options)(norm("a", axis=axis)(inputs))
        x = layers.ReLU()(norm("b", axis=axis)(x))
        return randomise(keras.Model(inputs, x))

    # CPUs cannot run it, but the weights are those of the channels-last twin.
    first = folding.fold_batch_norm(make("channels_first", (4, 8, 8), 1))
    last = folding.fold_batch_norm(make("channels_last", (8, 8, 4), -1))
    assert not folding.batch_norms_in(first)
    for a, b in zip(first.get_weights(), last.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    wrong = make("channels_first", (4, 8, 8), -1)
    assert len(folding.unfolded_batch_norms(wrong)) == 2


def test_another_axis_stays():
    x = inputs = keras.Input((4, 4, 4))
    x = norm("after", axis=1)(layers.Conv2D(4, 1, name="conv")(x))
    model = keras.Model(inputs, layers.ReLU()(x))
    folds(model, left=1)
    assert "another channel axis" in reasons(model)["after"]


@pytest.mark.skipif(KERAS_3, reason="Keras 3 takes one axis only")
def test_several_axes_stay():
    x = inputs = keras.Input((4, 4, 4))
    x = norm(axis=[1, 3])(layers.Conv2D(4, 1, name="conv")(x))
    model = keras.Model(inputs, layers.ReLU()(x))
    folds(model, left=1)
    assert reasons(model) == {"norm": "it normalises several axes"}


def test_norms_on_both_sides_in_chains_and_through_dropout():
    x = inputs = keras.Input((8,))
    x = layers.Dense(5)(norm("a")(norm("b")(x)))
    x = norm("d")(norm("c")(layers.Dropout(0.5)(x)))
    x = layers.Dense(3)(layers.Dropout(0.5)(norm("e")(layers.ReLU()(x))))
    folded = folds(keras.Model(inputs, x))
    assert sum(isinstance(x, layers.Dropout) for x in folded.layers) == 2


def test_what_is_not_linear_or_not_alone_stays_and_is_named():
    x = inputs = keras.Input((8,))
    y = layers.Dense(5, activation="relu", name="active")(x)
    z = layers.Dense(5, name="used_twice")(x)
    outputs = [
        layers.ReLU()(norm("after_activation")(y)),
        layers.ReLU()(norm("beside_another_use")(z)),
        layers.Add()([z, y]),
        layers.ReLU()(norm("on_an_input")(x)),
        layers.ReLU()(norm("training")(layers.Dense(5)(x), training=True)),
    ]
    model = keras.Model(inputs, outputs)
    randomise(model)
    why = reasons(model)
    assert "`active` (Dense) before it has an activation" in why["after_activation"]
    assert "`used_twice` (Dense) before it has other" in why["beside_another_use"]
    assert "an input of the model" in why["on_an_input"]
    assert "what follows (`" in why["on_an_input"]
    assert "called with `training`" in why["training"]
    folded = folding.fold_batch_norm(model)
    names = {layer.name for layer in folding.batch_norms_in(folded)}
    assert names == set(why)


def test_linear_layer_that_is_an_output_stays():
    x = inputs = keras.Input((8,))
    x = layers.Dense(5, name="features")(x)
    folds(keras.Model(inputs, [x, layers.ReLU()(norm()(x))]), left=1)


def test_norm_that_is_an_output_folds_and_keeps_its_name():
    x = inputs = keras.Input((8,))
    a, b = norm("a")(layers.Dense(5)(x)), norm("b")(layers.Dense(4)(x))
    folded = folds(keras.Model(inputs, [a, b, layers.ReLU(name="c")(a)]))
    assert folded.output_names == ["a", "b", "c"]


def test_dict_outputs_and_several_inputs_keep_their_names():
    one, two = keras.Input((8,), name="one"), keras.Input((3,), name="two")
    x = layers.Concatenate()([norm("n1")(layers.Dense(5)(one)), two])
    outputs = {"p": norm("n2")(layers.Dense(4)(x)), "q": layers.Dense(2)(x)}
    folded = folds(keras.Model([one, two], outputs))
    assert [t.name.split(":")[0] for t in folded.inputs] == ["one", "two"]


def test_norm_for_several_linear_layers_and_for_another_use():
    x = inputs = keras.Input((6, 6, 4))
    x = norm("shared")(x)
    outputs = [layers.Conv2D(3, 3)(x), layers.Conv2D(2, 1, padding="same")(x)]
    folds(keras.Model(inputs, outputs))
    folds(keras.Model(inputs, [*outputs, layers.ReLU()(x)]), left=1)
    model = keras.Model(inputs, [*outputs, x])
    folds(model, left=1)
    assert "what follows (`" in reasons(model)["shared"]
    assert "the model's output" in reasons(model)["shared"]


def test_subclassed_linear_layer_stays():
    class Standardised(layers.Dense):
        def call(self, inputs):
            return super().call(inputs) * 2.0

    x = inputs = keras.Input((8,))
    folds(keras.Model(inputs, norm()(Standardised(5)(x))), left=1)


def test_derived_classes_stay_and_are_named():
    """Whatever a derived class does at inference, folding must not undo it."""

    class Rectified(layers.BatchNormalization):
        def call(self, inputs, training=None):
            return tf.nn.relu(super().call(inputs, training=training))

    class Always(layers.Dropout):
        def call(self, inputs, training=None):
            return super().call(inputs, training=True)

    class Doubled(layers.Activation):
        def call(self, inputs):
            return 2.0 * super().call(inputs)

    x = inputs = keras.Input((8,))
    x = layers.Dense(5)(Rectified(name="rectified")(layers.Dense(5)(x)))
    model = keras.Model(inputs, x)
    folds(model, left=1)
    assert "its class Rectified is derived" in reasons(model)["rectified"]
    for between in (Always(0.5), Doubled("linear")):
        x = norm()(between(layers.Dense(5)(inputs)))
        model = randomise(keras.Model(inputs, x))
        assert len(folding.batch_norms_in(folding.fold_batch_norm(model))) == 1


def test_float64_keeps_a_chain_exact():
    """Ten norms folded into one layer lose no more than one rounding."""
    x = inputs = keras.Input((8,))
    x = layers.Dense(4, name="dense")(x)
    for index in range(10):
        x = norm(f"n{index}")(x)
    model = randomise(keras.Model(inputs, x))
    kernel, bias = [
        w.astype(np.float64) for w in model.get_layer("dense").get_weights()
    ]
    for index in range(10):
        layer = model.get_layer(f"n{index}")
        gamma, beta, mean, var = [w.astype(np.float64) for w in layer.get_weights()]
        factor = gamma / np.sqrt(var + layer.epsilon)
        kernel, bias = kernel * factor, (bias - mean) * factor + beta
    folded = folding.fold_batch_norm(model).get_layer("dense").get_weights()
    np.testing.assert_array_equal(folded[0], kernel.astype(np.float32))
    np.testing.assert_array_equal(folded[1], bias.astype(np.float32))


@pytest.mark.parametrize("size", range(1, 12))
@pytest.mark.parametrize("kernel, stride", [(1, 1), (2, 2), (3, 2), (3, 3), (2, 3)])
def test_same_padding_oracle(size, kernel, stride):
    """A window of ones on ones tells by its least sum whether zeros were added."""
    conv = layers.Conv1D(
        1, kernel, strides=stride, padding="same", kernel_initializer="ones"
    )
    sums = np.array(conv(np.ones((1, size, 1), np.float32)))
    expected = bool(sums.min() == kernel)
    assert linear_layers.adds_no_padding(conv, (None, size, 1)) is expected
