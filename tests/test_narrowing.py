"""Narrowing is consistent: a model whose dropped channels are dead stays the same.

For every kind of layer: the weights of the channels that are to be dropped are set to
zero throughout the single model, so that dropping them cannot change its output. The
narrower head that starts from those weights must then compute the same function,
which it does only if every tensor drops the same channels.
"""

import numpy as np
import pytest
import tensorflow as tf

import ensemble_heads as eh
from ensemble_heads.keras_api import KERAS_3, keras
from tests.narrowing_checks import kill_half_of_the_channels

layers = keras.layers
CASES = {}


def case(function):
    CASES[function.__name__] = function
    return function


def image(size=8, channels=6):
    return keras.Input((size, size, channels))


def trunk(tensor, name="fork"):
    return layers.Activation("linear", name=name)(tensor)


@case
def dense_and_flatten():
    inputs = image(4, 3)
    x = layers.Conv2D(8, 3, activation="relu")(trunk(inputs))
    x = layers.Flatten()(x)
    x = layers.Dense(10, activation="relu")(x)
    return inputs, layers.Dense(5)(x)


@case
def residual_from_the_trunk():
    inputs = image()
    x = trunk(inputs)
    y = layers.Conv2D(12, 3, padding="same", use_bias=False)(x)
    y = layers.BatchNormalization()(y)
    y = layers.Conv2D(6, 1)(layers.ReLU()(y))
    x = layers.Add()([x, y])
    z = layers.Conv2D(16, 1)(x)
    w = layers.Conv2D(16, 3, padding="same")(layers.ReLU()(z))
    x = layers.add([z, w])
    return inputs, layers.Dense(3)(layers.GlobalAveragePooling2D()(x))


@case
def squeeze_and_excite():
    inputs = image()
    x = layers.Conv2D(16, 3, padding="same", activation="relu")(trunk(inputs))
    s = layers.GlobalAveragePooling2D()(x)
    s = layers.Reshape((1, 1, 16))(s)
    s = layers.Conv2D(4, 1, activation="relu")(s)
    s = layers.Conv2D(16, 1, activation="sigmoid")(s)
    x = layers.Multiply()([x, s])
    return inputs, layers.Dense(3)(layers.GlobalMaxPooling2D()(x))


@case
def depthwise_separable_and_transposed():
    inputs = image()
    x = layers.Conv2D(8, 1)(trunk(inputs))
    x = layers.DepthwiseConv2D(3, depth_multiplier=2)(x)
    x = layers.SeparableConv2D(12, 3, depth_multiplier=2)(x)
    x = layers.Conv2DTranspose(10, 3, strides=2)(x)
    x = layers.PReLU(shared_axes=[1, 2])(x)
    return inputs, layers.Dense(3)(layers.GlobalAveragePooling2D()(x))


@case
def grouped():
    inputs = image(6, 8)
    x = layers.Conv2D(16, 1)(trunk(inputs))
    x = layers.Conv2D(32, 3, groups=4, padding="same")(x)
    x = layers.Conv2D(32, 3, groups=32, padding="same")(x)
    x = layers.ReLU()(x)
    return inputs, layers.Dense(3)(layers.GlobalAveragePooling2D()(x))


@case
def channel_shuffle():
    inputs = image(6, 8)
    x = layers.Conv2D(16, 1)(trunk(inputs))
    x = layers.Conv2D(16, 1, groups=4)(x)
    x = layers.Reshape((6, 6, 4, 4))(x)
    x = layers.Permute((1, 2, 4, 3))(x)
    x = layers.Reshape((6, 6, 16))(x)
    x = layers.Conv2D(8, 1)(x)
    return inputs, layers.Dense(3)(layers.GlobalAveragePooling2D()(x))


@case
def concatenations():
    inputs = image()
    x = trunk(inputs)
    a = layers.Conv2D(8, 1)(x)
    b = layers.Conv2D(4, 3, padding="same")(x)
    c = layers.Concatenate()([a, x, b])
    d = layers.Conv2D(18, 1)(c)  # tied to the concatenation, the trunk's part fixed
    x = layers.Multiply()([c, d])
    x = layers.BatchNormalization()(x)
    x = layers.Flatten()(layers.MaxPooling2D(4)(x))
    return inputs, layers.Dense(3)(x)


@case
def three_dimensions():
    inputs = keras.Input((4, 6, 6, 3))
    x = layers.Conv3D(8, (1, 3, 3))(trunk(inputs))
    x = layers.Conv3D(8, (3, 1, 1), padding="same")(x)
    x = layers.MaxPooling3D(2)(x)
    x = layers.Flatten()(x)
    return inputs, layers.Dense(3)(x)


@case
def shared_layer():
    inputs = image()
    x = trunk(inputs)
    shared = layers.Conv2D(8, 3, padding="same")
    first = layers.Conv2D(8, 1)(x)
    y = shared(layers.ReLU()(first))
    z = shared(layers.ReLU()(y))
    return inputs, layers.Dense(3)(layers.GlobalAveragePooling2D()(z))


@case
def nested_models():
    inputs = image()
    x = trunk(inputs)
    inner_in = keras.Input((8, 8, 6))
    inner_out = layers.Conv2D(10, 3, activation="relu", name="conv")(inner_in)
    inner = keras.Model(inner_in, inner_out, name="inner")
    tail = keras.Sequential([layers.Dense(7, activation="relu"), layers.Dense(3)])
    x = layers.GlobalAveragePooling2D()(inner(x))
    return inputs, tail(x)


@case
def channels_first():
    inputs = keras.Input((6, 8))
    x = trunk(inputs)
    x = layers.Dense(12, activation="relu")(x)  # mixes tokens after the permutation
    x = layers.Permute((2, 1))(x)
    x = layers.Dense(4)(x)
    x = layers.Permute((2, 1))(x)
    x = layers.Flatten(data_format="channels_first")(x)
    return inputs, layers.Dense(3)(x)


@case
def recurrent():
    inputs = keras.Input((5, 4))
    x = trunk(inputs)
    x = layers.Bidirectional(layers.SimpleRNN(6, return_sequences=True))(x)
    x = layers.SimpleRNN(8, activation="relu")(x)
    return inputs, layers.Dense(3)(x)


@case
def embedding_and_time_distributed():
    inputs = keras.Input((5,), dtype="int32")
    x = trunk(layers.Embedding(4, 6)(inputs))
    x = layers.TimeDistributed(layers.Dense(8, activation="relu"))(x)
    x = layers.Conv1D(10, 3)(x)
    return inputs, layers.Dense(3)(layers.GlobalMaxPooling1D()(x))


@case
def einsum_dense():
    inputs = keras.Input((5, 6))
    x = layers.EinsumDense("abc,cde->abde", (None, 3, 4), bias_axes="de")(trunk(inputs))
    x = layers.EinsumDense("abde,def->abf", (None, 8), bias_axes="f")(x)
    return inputs, layers.Dense(3)(layers.GlobalAveragePooling1D()(x))


@case
def several_inputs_and_outputs():
    inputs = {"image": image(), "meta": keras.Input((4,), name="meta")}
    x = trunk(inputs["image"])
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(8, 3)(x))
    x = layers.Concatenate()([x, inputs["meta"]])
    x = layers.Dense(12, activation="relu")(x)
    return inputs, {"a": layers.Dense(3)(x), "b": layers.Dense(2)(x)}


@case
def bare_operations():
    inputs = image(4)
    x = layers.Conv2D(8, 1)(trunk(inputs))
    x = x * 2.0
    if KERAS_3:
        a, b = keras.ops.split(x, 2, axis=-1)
        x = keras.ops.concatenate([keras.ops.relu(a), b, a * b], axis=-1)
        x = keras.ops.reshape(x, (-1, 16, 12))
        x = keras.ops.mean(x, axis=1)
    else:
        a, b = tf.split(x, 2, axis=-1)
        x = tf.concat([tf.nn.relu(a), b, a * b], axis=-1)
        x = tf.reshape(x, [-1, 16, 12])
        x = tf.reduce_mean(x, axis=1)
    x = x[:, 4:]
    return inputs, layers.Dense(3)(x)


@case
def constants_and_cuts_between_channels():
    inputs = keras.Input((6, 6))
    x = layers.Dense(8)(trunk(inputs))
    x = x + np.ones((1, 6, 1), "float32")
    x = layers.Dense(8)(x) * np.arange(1.0, 9.0, dtype="float32")  # keeps its size
    x = layers.Dense(10)(x)
    if KERAS_3:
        a, b = keras.ops.split(x, 2, axis=1)
        x = keras.ops.flip(keras.ops.roll(a + b, 1, axis=1), axis=1)
    else:
        a, b = tf.split(x, 2, axis=1)
        x = tf.reverse(tf.roll(a + b, 1, axis=1), axis=[1])
    return inputs, layers.Dense(3)(x[:, 0])


@case
def layers_that_follow_their_input():
    inputs = keras.Input((6,))
    x = layers.Dense(8, activation=double)(trunk(inputs))
    return inputs, layers.Dense(3)(Scale()(x))


def double(x):
    return 2.0 * x


class Scale(layers.Layer):
    """A user's layer without a width rule and without widths of its own."""

    def build(self, input_shape):
        self.factors = self.add_weight(shape=(input_shape[-1],), name="factors")

    def call(self, inputs):
        return inputs * self.factors


@case
def attention():
    inputs = keras.Input((5, 6))
    x = layers.Dense(8)(trunk(inputs))
    x = layers.MultiHeadAttention(2, 6, value_dim=4, output_shape=10)(x, x)
    return inputs, layers.Dense(3)(layers.GlobalAveragePooling1D()(x))


@case
def lambdas_that_tell_their_shape():
    inputs = keras.Input((4, 6))
    x = layers.Dense(8)(trunk(inputs))
    x = layers.Lambda(lambda t: tf.transpose(t, [0, 2, 1]), output_shape=(8, 4))(x)
    return inputs, layers.Dense(3)(layers.Flatten()(layers.Dense(2)(x)))


@case
def masks_behind_the_fork():
    inputs = keras.Input((5, 6))
    x = layers.Dense(8, activation="relu")(trunk(inputs))
    x = layers.Masking()(x)
    x = layers.SimpleRNN(6, return_sequences=True)(x)
    return inputs, layers.Dense(3)(layers.GlobalAveragePooling1D()(x))


@case
def halves_of_shuffled_channels():
    inputs = image(4)
    x = layers.Conv2D(16, 1)(trunk(inputs))
    x = layers.Reshape((4, 4, 2, 8))(x)
    x = layers.Permute((1, 2, 4, 3))(x)
    x = layers.Reshape((4, 4, 16))(x)
    a, b = x[:, :, :, :8], x[:, :, :, 8:]
    x = layers.Add()([layers.Conv2D(8, 1)(a), b])
    return inputs, layers.Dense(3)(layers.GlobalAveragePooling2D()(x))


@case
def heads_over_an_unknown_length():
    inputs = keras.Input((None, 6))
    x = layers.Dense(16)(trunk(inputs))
    x = layers.Reshape((-1, 2, 8))(x)
    x = layers.Dense(4)(layers.ReLU()(x))
    x = layers.Reshape((-1, 8))(x)
    return inputs, layers.Dense(3)(layers.GlobalMaxPooling1D()(x))


@case
def matrix_products():
    inputs = image(4)
    x = layers.Conv2D(8, 1)(trunk(inputs))
    x = layers.Reshape((16, 8))(x)
    y = layers.Conv1D(8, 1)(x)
    z = layers.Dot(axes=2)([x, y])  # [16, 16] over the channels
    x = layers.Dot(axes=(2, 1))([z, layers.Dense(6)(x)])
    return inputs, layers.Dense(3)(layers.Flatten()(x))


@pytest.mark.parametrize("name", CASES)
def test_dropping_dead_channels_changes_nothing(name):
    keras.utils.set_random_seed(1)
    inputs, outputs = CASES[name]()
    single = keras.Model(inputs, outputs, name=name)
    kill_half_of_the_channels(single, "fork")
    before = single.get_weights()
    batch = _batch(single)
    expected = tf.nest.flatten(single(batch))

    model = eh.multi_head(
        single, "fork", 2, width_multiplier=0.5, copy_weights=True, seed=3
    )

    assert model.count_params() < 2 * single.count_params()
    for index in range(2):
        found = tf.nest.flatten(model.head(index)(batch))
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    for a, b in zip(single.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


def _batch(model):
    rng = np.random.default_rng(2)

    def draw(tensor):
        shape = (3, *(size or 5 for size in tensor.shape[1:]))
        if "int" in str(tensor.dtype):
            return rng.integers(0, 4, shape).astype("int32")
        return rng.normal(size=shape).astype("float32")

    return tf.nest.map_structure(draw, model.input)


def test_channels_of_largest_norm_are_kept_in_their_order():
    inputs = keras.Input((2,))
    x = layers.Dense(3, name="fork")(inputs)
    hidden = layers.Dense(4, name="hidden")
    out = layers.Dense(2, name="out")
    single = keras.Model(inputs, out(hidden(x)))
    kernel = np.ones((3, 4), "float32") * [1.0, -9.0, 0.1, 5.0]
    hidden.set_weights([kernel, np.arange(4.0)])
    model = eh.multi_head(single, "fork", width_multiplier=0.5, copy_weights=True)
    found, bias = model.heads[1].get_layer("hidden").get_weights()
    np.testing.assert_array_equal(found, kernel[:, [1, 3]])
    np.testing.assert_array_equal(bias, [1, 3])
    np.testing.assert_array_equal(
        model.heads[0].get_layer("out").get_weights()[0], out.get_weights()[0][[1, 3]]
    )


def test_growing_cannot_copy():
    inputs = keras.Input((2,))
    x = layers.Dense(3, name="fork")(inputs)
    single = keras.Model(inputs, layers.Dense(2)(layers.Dense(4, name="up")(x)))
    with pytest.raises(ValueError, match="`copy_weights` must be False.*`up`.*4 to 6"):
        eh.multi_head(single, "fork", width_multiplier=1.5, copy_weights=True)
