"""Stacked heads give the numbers of separate ones; weights convert both ways."""

import numpy as np
import numpy.testing as npt
import pytest
import tensorflow as tf

import ensemble_heads as eh
import zoo
from ensemble_heads.head_layouts import SeparateHeads, StackedHeads
from ensemble_heads.head_layouts.stacked_layers import StackedConv
from ensemble_heads.keras_api import keras

layers = keras.layers


def dense(width=4):
    """One head: Dense layers, an activation over several channels in between."""
    features = keras.Input((6,))
    x = layers.Dense(width, activation="relu")(features)
    x = layers.Dense(5, activation="softmax", kernel_regularizer="l2")(x)
    return keras.Model(features, layers.Dense(3)(layers.Dropout(0.5)(x)))


def conv_net():
    """One head with most of what a CNN is made of, on channels that are shared."""
    features = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, padding="same", use_bias=False)(features)
    skip = x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.Conv2D(4, 3, padding="same", activation="tanh")(x)
    x = layers.Add()([layers.DepthwiseConv2D(3, padding="same")(x), skip])
    x = layers.Conv2D(6, 1)(x)
    x = layers.Concatenate()([layers.MaxPooling2D(2)(x), layers.MaxPooling2D(2)(skip)])
    gate = layers.Dense(10, activation="sigmoid")(layers.GlobalAveragePooling2D()(x))
    x = layers.Multiply()([x, layers.Reshape((1, 1, 10))(gate)])
    x = layers.Conv2D(6, 3, strides=2, groups=2)(x)
    return keras.Model(features, layers.Dense(3)(layers.Flatten()(x)))


def on_sequences():
    """One head on [batch, time, channels] with two outputs."""
    features = keras.Input((7, 3))
    x = layers.Conv1D(4, 3, padding="causal", activation="relu")(features)
    x = layers.Conv1D(4, 3, padding="causal", dilation_rate=2)(x)
    every = layers.Dense(2, name="every")(x)
    last = layers.Dense(3, name="last")(layers.Flatten()(features))
    return keras.Model(features, {"every": every, "last": last})


def normalised():
    """One head that normalises what is shared, and what is not, over its channels."""
    features = keras.Input((7, 4))
    x = layers.Dense(6)(layers.LayerNormalization()(features))
    x = layers.LayerNormalization(epsilon=1e-2, scale=False)(x)
    x = layers.LayerNormalization(axis=2, beta_regularizer="l2")(x)
    return keras.Model(features, layers.Dense(3)(layers.Flatten()(x)))


def unshared():
    """One head whose first layers have no wide form, or are called twice."""
    features = keras.Input((8, 8, 4))
    twice = layers.Dense(4)
    x = layers.BatchNormalization()(twice(twice(features)))
    x = layers.Conv2D(4, 3, groups=2)(layers.SpatialDropout2D(0.1)(x))
    x = layers.Softmax()(layers.AveragePooling2D(2)(x))
    return keras.Model(features, layers.Dense(2)(layers.Flatten()(x)))


HEADS = {
    head.__name__: head
    for head in (dense, conv_net, on_sequences, unshared, normalised)
}
by_head = pytest.mark.parametrize("make", HEADS.values(), ids=HEADS)


def drawn(make, count=3):
    """Heads with weights that tell every one from the others."""
    heads = [make() for _ in range(count)]
    for head in heads:
        head.set_weights(
            [np.random.uniform(0.1, 0.6, w.shape) for w in head.get_weights()]
        )
    return heads


def inputs_of(head, batch=5):
    return np.random.normal(size=(batch, *head.input_shape[1:])).astype("float32")


def assert_same(one, other, **tolerances):
    for a, b in zip(tf.nest.flatten(one), tf.nest.flatten(other), strict=True):
        npt.assert_allclose(a, b, **{"rtol": 1e-5, "atol": 1e-5, **tolerances})


def differ(outputs):
    """Whether every head says something of its own."""
    first = np.array(tf.nest.flatten(outputs)[0])
    return np.abs(first[:, 0] - first[:, 1]).max() > 1e-3


@by_head
def test_stacked_heads_are_the_separate_ones(make):
    heads = drawn(make)
    x = inputs_of(heads[0])
    separate, stacked = SeparateHeads(heads), StackedHeads.from_heads(heads)
    expected = separate(x)
    assert differ(expected)
    assert_same(stacked(x), expected)
    assert stacked.count_params() == separate.count_params()


@by_head
def test_weights_convert_back(make):
    heads = drawn(make)
    for head, copy in zip(heads, StackedHeads.from_heads(heads).heads, strict=True):
        for one, other in zip(head.get_weights(), copy.get_weights(), strict=True):
            npt.assert_array_equal(one, other)


@pytest.mark.parametrize("product", ["loop", "grouped"])
@by_head
def test_gradients_are_the_separate_ones(make, product):
    heads = drawn(make)
    x = tf.constant(inputs_of(heads[0]))
    measured = StackedHeads.from_heads(heads)
    products = dict.fromkeys(measured.products, product)
    stacked = StackedHeads.from_heads(heads, products)
    after = []
    for layout in (SeparateHeads(heads), stacked):
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = tf.nest.flatten(layout(x))
            total = sum(tf.reduce_sum(tf.square(one)) for one in outputs)
        found = tape.gradient(total, [x, *layout.trainable_variables])
        for variable, step in zip(layout.trainable_variables, found[1:], strict=True):
            variable.assign_sub(0.01 * tf.convert_to_tensor(step))
        after.append([found[0], *(w for h in layout.heads for w in h.get_weights())])
    assert_same(after[1], after[0], rtol=1e-3, atol=1e-4)


def on_clips():
    """One head on [batch, frames, height, width, channels]."""
    features = keras.Input((4, 5, 5, 2))
    x = layers.Conv3D(3, (1, 3, 3), padding="same", activation="relu")(features)
    x = layers.Conv3D(4, (3, 1, 1), strides=(2, 1, 1))(x)
    x = layers.Conv3D(3, 1)(x)
    return keras.Model(features, layers.Dense(2)(layers.Flatten()(x)))


def test_convolutions_of_clips_are_never_grouped():
    """For which TensorFlow has no kernel in three dimensions."""
    heads = drawn(on_clips)
    x = inputs_of(heads[0])
    stacked = StackedHeads.from_heads(heads)
    assert "grouped" not in stacked.products.values()
    expected = SeparateHeads(heads)(x)
    assert differ(expected)
    assert_same(stacked(x), expected, rtol=1e-4)
    with pytest.raises(ValueError, match=r"`product` must be one of \('loop',\)"):
        StackedConv(4, (3, 1, 1), 2, product="grouped")


def test_matrix_products_of_small_kernels_are_the_convolutions():
    heads = drawn(conv_net)
    x = inputs_of(heads[0])
    loop = StackedHeads.from_heads(heads, dict.fromkeys(_products(heads), "loop"))
    some = dict.fromkeys(_products(heads), "loop")
    small = next(
        layer.name
        for layer in heads[0].layers
        if isinstance(layer, layers.Conv2D)
        and layer.kernel_size == (1, 1)
        and not isinstance(layer, layers.DepthwiseConv2D)
    )
    assert_same(StackedHeads.from_heads(heads, {**some, small: "matmul"})(x), loop(x))
    with pytest.raises(ValueError, match="`product` must be one of"):
        StackedHeads.from_heads(heads, dict.fromkeys(some, "matmul"))


def _products(heads):
    return StackedHeads.from_heads(heads).products


def test_batch_norms_train_as_those_of_separate_heads():
    heads = drawn(conv_net)
    stacked = StackedHeads.from_heads(heads)
    separate, x = SeparateHeads(heads), inputs_of(heads[0], batch=9)
    assert_same(stacked(x, training=True), separate(x, training=True), rtol=1e-4)
    for one, other in zip(stacked.heads, heads, strict=True):
        assert_same(one.get_weights(), other.get_weights())


def test_heads_of_zoo_models_stack():
    """The zoo's own batch norm has the rule of Keras' own."""
    upper = zoo.build("cifar_resnet20", input_shape=(8, 8, 3), classes=4)
    wrapper = eh.multi_head(upper, "stage2", seed=1).wrapper
    stacked = wrapper.with_execution("stacked")
    x = np.random.normal(size=(2, *wrapper.heads[0].input_shape[1:])).astype("float32")
    assert_same(stacked(x), wrapper(x))


def test_every_head_drops_out_for_itself():
    features = keras.Input((50,))
    head = keras.Model(features, layers.Dropout(0.5, seed=1)(features))
    stacked = StackedHeads(head, num_heads=3)
    kept = np.array(stacked(np.ones([4, 50], "float32"), training=True)) > 0
    assert 0.3 < kept.mean() < 0.7
    assert not np.array_equal(kept[:, 0], kept[:, 1])


def test_regularisers_add_up_to_those_of_separate_heads():
    heads = drawn(dense)
    x = inputs_of(heads[0])
    totals = []
    for layout in (SeparateHeads(heads), StackedHeads.from_heads(heads)):
        layout(x)
        totals.append(float(sum(layout.losses)))
    assert totals[0] > 0.01
    assert totals[1] == pytest.approx(totals[0], rel=1e-5)


@by_head
def test_a_file_and_a_configuration_bring_them_back(make, tmp_path):
    heads = drawn(make)
    stacked = StackedHeads.from_heads(heads)
    features = keras.Input(heads[0].input_shape[1:])
    model = keras.Model(features, stacked(features))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    x = inputs_of(heads[0])
    assert_same(again(x), model(x))
    assert again.layers[-1].products == stacked.products


def test_folding_and_selection():
    heads = drawn(conv_net)
    stacked, x = StackedHeads.from_heads(heads), inputs_of(heads[0])
    folded = stacked.mapped(eh.fold_batch_norm)
    assert folded.execution == "stacked"
    kinds = [type(layer) for layer in folded.parts[0].layers]
    assert layers.BatchNormalization not in kinds
    assert_same(folded(x), stacked(x), rtol=1e-4, atol=1e-4)
    chosen = stacked.select([2, 0])
    assert_same(chosen(x), tf.gather(stacked(x), [2, 0], axis=1))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(policy):
    keras.mixed_precision.set_global_policy(policy)
    heads = drawn(conv_net)
    keras.mixed_precision.set_global_policy("float32")
    x = inputs_of(heads[0])
    low = StackedHeads.from_heads(heads)(x)
    assert low.dtype == tf.as_dtype(policy.removeprefix("mixed_"))
    expected = tf.cast(SeparateHeads(heads)(x), tf.float32)
    npt.assert_allclose(tf.cast(low, tf.float32), expected, rtol=0.05, atol=0.05)


# ---- What cannot be stacked


def test_heads_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match=r"same shape .*head_0 and head_1.* `dense"):
        StackedHeads.from_heads([dense(4), dense(3)])
    deeper = keras.Input((6,))
    deeper = keras.Model(deeper, layers.Dense(3)(layers.ReLU()(deeper)))
    with pytest.raises(ValueError, match="which differ"):
        StackedHeads.from_heads([dense(4), deeper])


def with_layer(layer):
    features = keras.Input((6, 4))
    x = layer(layers.Dense(4)(features))
    return keras.Model(features, layers.Dense(2)(x))


class Own(keras.layers.Layer):
    def call(self, inputs):
        return inputs * 2.0


@pytest.mark.parametrize(
    "layer, reason",
    [
        (lambda: layers.LSTM(3, name="odd"), "no rule"),
        (lambda: Own(name="odd"), "no rule"),
        (lambda: layers.Rescaling([1.0, 2, 3, 4], name="odd"), "array of constants"),
        (lambda: layers.BatchNormalization(axis=1, name="odd"), "`axis` is not"),
        (lambda: layers.LayerNormalization(axis=1, name="odd"), "`axis` is not"),
        (lambda: layers.Dropout(0.1, noise_shape=(1, 6, 1), name="odd"), "noise_shape"),
        (
            lambda: layers.Dense(3, kernel_constraint="unit_norm", name="odd"),
            "kernel_constraint",
        ),
        (
            lambda: layers.Dense(3, activity_regularizer="l2", name="odd"),
            "activity_regularizer",
        ),
    ],
)
def test_layers_without_a_rule_are_named(layer, reason):
    head = with_layer(layer())
    with pytest.raises(ValueError, match=f"Layer `odd`.*{reason}"):
        StackedHeads(head, 2)
    wrapper = eh.MultiHeadWrapper.from_heads([head, head], "linear", execution="auto")
    assert wrapper.execution == "separate"
    assert "odd" in wrapper.execution_choice.reason


def test_operations_with_an_array_of_constants_are_refused():
    features = keras.Input((6, 4))
    scaled = layers.Dense(4)(features) * np.arange(4.0, dtype="float32")
    head = keras.Model(features, layers.Dense(2)(scaled))
    with pytest.raises(ValueError, match="array of constants"):
        StackedHeads(head, 2)


def test_operations_with_a_constant_run_as_they_are():
    def doubled():
        features = keras.Input((6, 4))
        return keras.Model(features, layers.Dense(4)(features) * 2.0 + 1.0)

    heads = drawn(doubled)
    stacked, x = StackedHeads.from_heads(heads), inputs_of(heads[0])
    assert_same(stacked(x), SeparateHeads(heads)(x))


@pytest.mark.parametrize("kind", ["activation", "layer", "merge"])
def test_masks_pass_what_looks_at_several_channels(kind):
    inputs = keras.Input((4, 3))
    x = layers.Dense(5, name="shared")(layers.Masking()(inputs))
    if kind == "activation":
        x = layers.Dense(4, activation="softmax")(x)
    elif kind == "layer":
        x = layers.UnitNormalization()(layers.Dense(4)(x))
    else:
        x = layers.Concatenate()([layers.Dense(4)(x), layers.Dense(3)(x)])
    single = keras.Model(inputs, layers.Dense(2, activation="softmax")(x))
    steps = np.random.normal(size=(6, 4, 3)).astype("float32")
    steps[:, 2:] = 0
    losses = []
    for execution in ("separate", "stacked"):
        model = eh.multi_head(single, "shared", 3, seed=1, execution=execution)
        model.compile("sgd", "sparse_categorical_crossentropy")
        labels = np.random.RandomState(0).randint(0, 2, (6, 4))
        losses.append(model.evaluate(steps, labels, verbose=0))
    labels[:, 2:] = 1 - labels[:, 2:]  # which count for nothing
    losses.append(model.evaluate(steps, labels, verbose=0))
    npt.assert_allclose(losses[1:], losses[0], rtol=1e-5)
