"""Folding: the folded model predicts what the model predicts, and nothing is missed."""

import numpy as np
import pytest
import tensorflow as tf

from ensemble_heads import folding, linear_layers
from ensemble_heads.keras_api import KERAS_3, keras
from ensemble_heads.multi_head_model import MultiHeadModel
from ensemble_heads.multi_head_wrapper import MultiHeadWrapper
from zoo.batch_norm import BatchNormalization as FusedBatchNormalization

layers = keras.layers

# Case: a linear layer of 4 channels or units on an input of this shape.
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


def norm(name="norm", **options):
    return layers.BatchNormalization(name=name, **options)


def randomise(model, seed=0):
    """Weights and statistics that a mistake cannot hide behind."""
    rng = np.random.default_rng(seed)
    for layer in model._flatten_layers(include_self=False):
        for weight in getattr(layer, "weights", []):
            if layer.weights and not _holds_others(layer):
                positive = "variance" in weight.name or "gamma" in weight.name
                draw = rng.uniform(0.3, 2.0, weight.shape) if positive else None
                draw = rng.normal(0, 0.5, weight.shape) if draw is None else draw
                weight.assign(draw)
    return model


def _holds_others(layer):
    return len(list(layer._flatten_layers(include_self=False))) > 0


def draw_inputs(model, seed=1, batch=3):
    rng = np.random.default_rng(seed)
    draws = [
        rng.normal(0.3, 1.0, [batch, *(size or 8 for size in tensor.shape[1:])])
        for tensor in model.inputs
    ]
    return draws[0] if len(draws) == 1 else draws


def check_equal(model, folded, tolerance=2e-5, inputs=None):
    inputs = draw_inputs(model) if inputs is None else inputs
    expected, actual = model(inputs), folded(inputs)
    flat = zip(_flat(expected), _flat(actual), strict=True)
    for want, got in flat:
        want, got = np.asarray(want, np.float64), np.asarray(got, np.float64)
        scale = np.abs(want).max()
        np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * scale)


def _flat(outputs):
    if isinstance(outputs, dict):
        assert list(outputs) == sorted(outputs)
        return list(outputs.values())
    return outputs if isinstance(outputs, (list, tuple)) else [outputs]


def folds(model, left=0, tolerance=2e-5):
    """The folded model, checked to be equal and to have `left` batch norms."""
    randomise(model)
    before = [np.array(weight) for weight in model.get_weights()]
    config = str(model.get_config())
    folded = folding.fold_batch_norm(model)
    names = [layer.name for layer in folding.batch_norms_in(folded)]
    assert len(names) == left
    assert {u.name for u in folding.unfolded_batch_norms(model)} == set(names)
    assert {u.name for u in folding.unfolded_batch_norms(folded)} == set(names)
    check_equal(model, folded, tolerance)
    assert str(model.get_config()) == config
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert not {id(w) for w in model.weights} & {id(w) for w in folded.weights}
    return folded


def reasons(model):
    return {u.name: u.reason for u in folding.unfolded_batch_norms(model)}


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


def test_subclassed_linear_layer_stays():
    class Standardised(layers.Dense):
        def call(self, inputs):
            return super().call(inputs) * 2.0

    x = inputs = keras.Input((8,))
    folds(keras.Model(inputs, norm()(Standardised(5)(x))), left=1)


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
