"""The axes a trace tells of every weight are the shapes of a narrower clone."""

import pytest

from ensemble_heads import axes as ax
from ensemble_heads import cloning, graph, ties, tracing, widths
from ensemble_heads.keras_api import keras

layers = keras.layers
STACKS = {
    "attention": ((5, 8), lambda: [("pair", layers.MultiHeadAttention(2, 6, 4))]),
    "attention_to_another_size": (
        (5, 8),
        lambda: [("pair", layers.MultiHeadAttention(2, 6, output_shape=10))],
    ),
    "dot_product_attention": ((5, 8), lambda: [("list", layers.Attention())]),
    "additive_attention": ((5, 8), lambda: [("list", layers.AdditiveAttention())]),
    "lstm": ((5, 8), lambda: [layers.LSTM(6, return_sequences=True)]),
    "gru": ((5, 8), lambda: [layers.GRU(6)]),
    "gru_without_reset": ((5, 8), lambda: [layers.GRU(6, reset_after=False)]),
    "bidirectional": ((5, 8), lambda: [layers.Bidirectional(layers.LSTM(6))]),
    "bidirectional_sum": (
        (5, 8),
        lambda: [layers.Bidirectional(layers.GRU(6), merge_mode="sum")],
    ),
    "convolutional_lstm": ((4, 6, 6, 8), lambda: [layers.ConvLSTM2D(6, 3)]),
    "group_norm": ((6, 6, 8), lambda: [layers.GroupNormalization(4)]),
    "instance_norm": ((6, 6, 8), lambda: [layers.GroupNormalization(8)]),
    "layer_norm": ((6, 6, 8), lambda: [layers.LayerNormalization(axis=[2, 3])]),
    "spectral_norm": (
        (6, 6, 8),
        lambda: [layers.SpectralNormalization(layers.Conv2D(6, 3))],
    ),
    "transposed_3d": ((3, 6, 6, 8), lambda: [layers.Conv3DTranspose(6, 3)]),
    "separable_1d": ((6, 8), lambda: [layers.SeparableConv1D(6, 3)]),
    "repeat": ((8,), lambda: [layers.RepeatVector(3)]),
    "up_and_down": (
        (6, 6, 8),
        lambda: [
            layers.UpSampling2D(2),
            layers.Cropping2D(1),
            layers.ZeroPadding2D(1),
            layers.AveragePooling2D(2),
        ],
    ),
    "noise": ((8,), lambda: [layers.GaussianNoise(0.1), layers.UnitNormalization()]),
}


@pytest.mark.parametrize("name", STACKS)
def test_weights_of_a_narrower_clone_have_the_traced_shapes(name):
    shape, make = STACKS[name]
    inputs = keras.Input(shape)
    x = layers.Dense(8, name="first")(inputs)
    for step in make():
        how, layer = step if isinstance(step, tuple) else ("plain", step)
        x = {"pair": (x, x), "list": ([x, x],), "plain": (x,)}[how][0:2]
        x = layer(*x)
    x = layers.Dense(4)(layers.Flatten()(x))
    whole = graph.read(keras.Model(inputs, x))
    traced = tracing.trace(whole)
    sizes = widths.width_table(whole, traced).sizes(0.5, 1, {})
    assert sizes
    copy = cloning.Copy(whole, "copy", 1, traced, sizes)
    for layer in {id(n.layer): n.layer for n in whole.nodes}.values():
        if not layer.weights:
            continue
        told = traced.weights[id(layer)]
        found = [tuple(w.shape) for w in layer.weights]
        assert found == [tuple(axis.size() for axis in axes) for axes in told]
        found = [tuple(w.shape) for w in copy.layers[id(layer)].weights]
        assert found == [tuple(axis.size(sizes) for axis in axes) for axes in told]
    assert copy.layers[id(whole.nodes[0].layer)].units == 4


# expressions of axes


def width(base):
    return ax.variable(ax.Width(base, "layer"))


def test_a_width_tied_to_a_fixed_size_keeps_it():
    a, b = width(8), width(8)
    ties.tie(a, b)
    ties.tie(b, ax.fixed(8))
    assert a.resolve() == ax.fixed(8)


def test_a_width_tied_to_a_concatenation_becomes_its_sum():
    whole, a, b = width(12), width(8), width(4)
    ties.tie(whole, ax.concat([a, b]))
    sizes = {a.resolve().parts: 5, b.resolve().parts: 3}
    assert whole.size(sizes) == 8
    kept = {a.resolve().parts: [1, 6], b.resolve().parts: [0, 3]}
    assert list(whole.indices(kept)) == [1, 6, 8, 11]


def test_concatenations_cut_elsewhere_are_aligned():
    a, b, c, d = width(2), width(6), width(5), width(3)
    ties.tie(ax.concat([a, b]), ax.concat([c, d]))
    assert len(ax.concat([a, b]).widths()) == 3
    values = {w: w.base for w in ax.concat([a, b]).widths()}
    assert (c.size(values), d.size(values)) == (5, 3)


def test_groups_that_do_not_divide_each_other_cannot_be_tied():
    channels = width(12)
    ties.split_product(channels, [4, 3])
    with pytest.raises(ties.TieError):
        ties.split_product(channels, [6, 2])


def test_a_flattened_axis_keeps_channels_together():
    channels = width(4)
    flat = ax.product([ax.fixed(3), channels])
    assert list(flat.indices({channels.parts: [0, 2]})) == [0, 2, 4, 6, 8, 10]


@pytest.mark.parametrize("divisor", [1, 8])
def test_sizes_change_exactly_at_the_breakpoints(divisor):
    one = ax.Width(40, "layer")
    for mark in widths.breakpoints(one, divisor):
        if 0 < mark < 1:
            before = widths.scaled(one, mark - 1e-6, divisor)
            assert (
                widths.scaled(one, mark + 1e-6, divisor) > before or before == divisor
            )
