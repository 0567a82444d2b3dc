"""Small multi-headed models, built by hand so that tests do not depend on surgery."""

import numpy as np

import ensemble_heads as eh
import zoo
from ensemble_heads.head_layouts import HeadTree
from ensemble_heads.keras_api import SEQUENCE, keras

FEATURES, CLASSES = 6, 4


def dense_head(units, width=5, inputs=7, name="head", regularizer=None):
    """A head: features -> raw outputs."""
    layers = keras.layers
    features = keras.Input((inputs,))
    hidden = layers.Dense(width, activation="relu", kernel_regularizer=regularizer)
    raw = layers.Dense(units, name="out", kernel_regularizer=regularizer)
    return keras.Model(features, raw(hidden(features)), name=name)


def dense_trunk(width=7, regularizer=None):
    inputs = keras.Input((FEATURES,), name="x")
    layer = keras.layers.Dense(
        width, activation="tanh", kernel_regularizer=regularizer, name="shared"
    )
    return keras.Model(inputs, layer(inputs), name="trunk")


def dense_model(num_heads=2, link="softmax", units=CLASSES, regularizer=None, **kwargs):
    """Dense trunk, dense heads, one output named `out`."""
    heads = [
        dense_head(units, name=f"head_{i}", regularizer=regularizer)
        for i in range(num_heads)
    ]
    wrapper = eh.MultiHeadWrapper.from_heads(heads, link)
    return eh.MultiHeadModel(dense_trunk(regularizer=regularizer), wrapper, **kwargs)


def dense_tree(link="softmax", units=CLASSES, regularizer=None, **kwargs):
    """Two branches on the dense trunk, the first of which forks again: three heads."""
    sizes = {"branch_0": (7, 6), "branch_0.0": (6, units), "branch_0.1": (6, units)}
    parts = [
        dense_head(outputs, inputs=inputs, name=name, regularizer=regularizer)
        for name, (inputs, outputs) in {**sizes, "branch_1": (7, units)}.items()
    ]
    layout = HeadTree(parts, [None, 0, 0, None])
    wrapper = eh.MultiHeadWrapper.from_layout(layout, link)
    return eh.MultiHeadModel(dense_trunk(regularizer=regularizer), wrapper, **kwargs)


def dense_stack(**kwargs):
    """`dense_model` with its heads stacked."""
    return dense_model(**kwargs).with_execution("stacked")


def normed_model(synchronized=True, regularizer=None, **kwargs):
    """Two heads with a batch norm each, made by surgery."""
    layers = keras.layers
    inputs = keras.Input((FEATURES,), name="x")
    hidden = layers.Dense(8, kernel_regularizer=regularizer, name="shared")(inputs)
    norm = zoo.BatchNormalization(momentum=0.5, synchronized=synchronized)
    outputs = layers.Dense(CLASSES, activation="softmax")(layers.ReLU()(norm(hidden)))
    return eh.multi_head(keras.Model(inputs, outputs), "shared", seed=0, **kwargs)


def several_outputs_model(kind, num_heads=2, **kwargs):
    """Two inputs and two outputs: `label` (softmax of 3) and `size` (linear).

    Args:
        kind: `dict` or `list`, the structure of inputs and of outputs.
    """
    layers = keras.layers

    def structure(names, tensors):
        return dict(zip(names, tensors)) if kind is dict else list(tensors)

    left, right = keras.Input((3,), name="left"), keras.Input((2,), name="right")
    mixed = layers.Concatenate()([layers.Dense(4)(left), layers.Dense(3)(right)])
    trunk = keras.Model(structure(("left", "right"), (left, right)), mixed)
    heads = []
    for i in range(num_heads):
        features = keras.Input((7,))
        outputs = (
            layers.Dense(3, name="label")(features),
            layers.Dense(1, name="size")(features),
        )
        outputs = structure(("label", "size"), outputs)
        heads.append(keras.Model(features, outputs, name=f"head_{i}"))
    links = structure(("label", "size"), ("softmax", "linear"))
    wrapper = eh.MultiHeadWrapper.from_heads(heads, links)
    return eh.MultiHeadModel(trunk, wrapper, **kwargs)


def sequence_model():
    """Two heads on masked sequences, a class for each position."""
    layers = keras.layers
    inputs = keras.Input((4,), dtype="int32")
    features = layers.Embedding(9, 5, mask_zero=True)(inputs)
    shared = layers.Dense(6, name="shared", activation="tanh")(features)
    outputs = layers.Dense(3, activation="softmax")(shared)
    return eh.multi_head(keras.Model(inputs, outputs), fork_at="shared")


class Batches(SEQUENCE):
    """Arrays in batches of ten, made by Python."""

    def __init__(self, *arrays):
        super().__init__()
        self.arrays = arrays

    def __len__(self):
        return -(-len(self.arrays[0]) // 10)

    def __getitem__(self, place):
        return tuple(array[10 * place : 10 * place + 10] for array in self.arrays)


def classification_data(examples=24, classes=CLASSES):
    """(inputs, class numbers), float32 and int64."""
    x = np.random.normal(size=(examples, FEATURES)).astype("float32")
    return x, np.random.randint(0, classes, examples)


class Weighting(keras.layers.Layer):
    """A parametric ensembler: trained weights of the heads, over plain tensors."""

    def build(self, input_shape):
        self.scores = self.add_weight(
            shape=(input_shape[1],), initializer="random_normal", name="scores"
        )
        super().build(input_shape)

    def call(self, inputs):
        import tensorflow as tf

        weights = tf.nn.softmax(tf.convert_to_tensor(self.scores))
        return tf.tensordot(weights, tf.cast(inputs, weights.dtype), [[0], [1]])
