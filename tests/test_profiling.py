"""Profiles: parameters and FLOPs by layer, against sums by hand."""

import dataclasses

import numpy as np
import pytest

import ensemble_heads as eh
from ensemble_heads.call_recording import CallRecorder
from ensemble_heads.keras_api import KERAS_3, keras
from ensemble_heads.profiling import OTHER
from tests.profile_checks import rows, uncounted

layers = keras.layers


def make_network():
    x = inputs = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(4, 3, strides=2, padding="same", use_bias=False, name="conv")(x)
    x = layers.ReLU(name="relu")(layers.BatchNormalization(name="norm")(x))
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, name="depthwise")(x)
    x = layers.Activation("sigmoid", name="squash")(x)
    x = layers.MaxPooling2D(2, name="pool")(x)
    x = layers.Flatten(name="flat")(x)
    x = layers.Dense(5, activation="softmax", name="scores")(x)
    return keras.Model(inputs, x, name="small")


FOLDED_ROWS = {
    # kernel + bias; 2 per multiply-add + 1 per bias
    "conv": (3 * 3 * 3 * 4 + 4, 4 * 4 * 4 * (2 * 3 * 3 * 3 + 1)),
    "relu": (0, 0),
    "depthwise": (3 * 3 * 8 + 8, 2 * 2 * 8 * (2 * 3 * 3 + 1)),
    "squash": (0, 0),
    "pool": (0, 1 * 1 * 8 * 2 * 2),
    "flat": (0, 0),
    "scores": (8 * 5 + 5, 2 * 8 * 5 + 5 + 5 * 5),  # softmax: 5 per score
}


def test_layer_rows_by_hand():
    result = eh.profile(make_network())
    assert rows(result) == FOLDED_ROWS
    assert uncounted(result) == {"relu": ["Relu"], "squash": ["Sigmoid"]}
    assert {item.reason for item in result.uncounted} == {
        "op type not registered with the profiler"
    }
    assert result.folded and not result.unfolded_batch_norms
    types = {row.name: row.type for row in result.rows}
    assert types["depthwise"] == "DepthwiseConv2D"


def test_parameters_go_by_three_names():
    result = eh.profile(make_network())
    kernels = 3 * 3 * 3 * 4 + (3 * 3 * 8 + 8) + (8 * 5 + 5)
    assert result.trainable_parameters == kernels + 2 * 4
    assert result.total_parameters == kernels + 4 * 4
    assert result.folded_parameters == result.parameters == kernels + 4
    unfolded = eh.profile(make_network(), fold_batch_norm=False)
    assert unfolded.parameters == unfolded.total_parameters == kernels + 4 * 4
    assert unfolded.folded_parameters is None and not unfolded.folded
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.flops = 0


def test_unfolded_batch_norm_is_counted_or_named():
    result = eh.profile(make_network(), fold_batch_norm=False)
    table = rows(result)
    elements = 4 * 4 * 4
    if KERAS_3:  # composed: on the features a product and a sum; on 4 channels
        # an epsilon, an inverse root (2), two products and a difference
        assert table["norm"] == (4 * 4, 2 * elements + 4 * 6)
    else:
        assert table["norm"] == (4 * 4, 0)
        assert uncounted(result)["norm"] == ["FusedBatchNormV3"]
    assert table["conv"] == (3 * 3 * 3 * 4, elements * 2 * 3 * 3 * 3)


def test_layers_whose_names_look_like_numbered_scopes():
    """On Keras 3 the operations of `conv` come under `conv_2`, and so on."""
    x = inputs = keras.Input((4, 4, 2))
    channels = 2
    expected = {}
    for name, filters in [("conv_1", 8), ("conv", 4), ("conv_2", 3), ("conv_1_1", 5)]:
        x = layers.Conv2D(filters, 1, name=name)(x)
        expected[name] = 4 * 4 * filters * (2 * channels + 1)
        channels = filters
    result = eh.profile(keras.Model(inputs, x))
    assert {name: flops for name, (_, flops) in rows(result).items()} == expected


def test_nested_models_and_shared_layers():
    inner = keras.Sequential(
        [keras.Input((6,)), layers.Dense(4, name="dense")], name="inner"
    )
    dense = layers.Dense(6, use_bias=False, name="dense")
    x = inputs = keras.Input((6,))
    x = inner(dense(dense(x)))
    model = keras.Model(inputs, layers.Dense(2, use_bias=False, name="last")(x))
    expected = {
        "dense": (36, 2 * 2 * 36),
        "inner/dense": (28, 2 * 24 + 4),
        "last": (8, 2 * 8),
    }
    assert rows(eh.profile(model, fold_batch_norm=False)) == expected
    x = layers.BatchNormalization(name="norm")(model.output)
    result = eh.profile(keras.Model(inputs, x))  # folding inlines the nested model
    assert sorted(v for v in rows(result).values() if v[0]) == sorted(
        [(36, 2 * 2 * 36), (28, 2 * 24 + 4), (8 + 2, 2 * 8 + 2)]
    )


def make_multi_head():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, name="stem")(inputs)
    x = layers.ReLU(name="stem_out")(layers.BatchNormalization(name="stem_norm")(x))
    x = layers.Conv2D(6, 3, name="conv")(x)
    x = layers.Flatten()(layers.BatchNormalization(name="norm")(x))
    single = keras.Model(inputs, layers.Dense(3, name="scores")(x))
    return eh.multi_head(single, fork_at="stem_out", num_heads=2, width_multiplier=0.5)


def test_heads_are_told_apart():
    model = make_multi_head()
    result = eh.profile(model)
    table = rows(result)
    head = {
        "conv": (3 * 3 * 4 * 3 + 3, 4 * 4 * 3 * (2 * 3 * 3 * 4 + 1)),
        "scores": (4 * 4 * 3 * 3 + 3, 2 * 4 * 4 * 3 * 3 + 3),
    }
    for number in (0, 1):
        for name, expected in head.items():
            assert table[f"head_{number}/{name}"] == expected
    assert table["trunk/stem"] == (3 * 3 * 3 * 4 + 4, 6 * 6 * 4 * (2 * 27 + 1))
    assert table[OTHER][0] == 0 and 0 < table[OTHER][1] < 100  # the ensembler
    assert result.trainable_parameters == sum(
        int(np.prod(w.shape)) for w in model.trainable_weights
    )


def test_metrics_are_no_parameters():
    """Keras 2 has the state of a model's metrics among its weights."""

    class Measuring(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense, self.measured = layers.Dense(2), keras.metrics.Mean()

        def call(self, inputs):
            return self.dense(inputs)

    result = eh.profile(Measuring(), fold_batch_norm=False, input_shape=(3,))
    assert result.parameters == result.total_parameters == 3 * 2 + 2

    model = make_multi_head()
    before = eh.profile(model, fold_batch_norm=False)
    model.compile("sgd", "mse", metrics=["mae"], head_metrics=["mae"])
    model.fit(np.ones((4, 8, 8, 3)), np.ones((4, 3)), verbose=0)
    after = eh.profile(model, fold_batch_norm=False)
    assert after.total_parameters == before.total_parameters
    assert rows(after) == rows(before)


class Branching(keras.Model):
    """A subclassed model with Python control flow on tensors."""

    def __init__(self):
        super().__init__(name="branching")
        self.first, self.last = layers.Dense(4), layers.Dense(2)
        self.norm = layers.BatchNormalization(name="its_norm")

    def call(self, inputs):
        x = self.norm(self.first(inputs))
        return self.last(x * 2.0)


def test_subclassed_model():
    model = Branching()
    with pytest.raises(ValueError, match="`input_shape` must be given for `branching`"):
        eh.profile(model)
    result = eh.profile(model, input_shape=(3,))
    table = rows(result)
    assert table[model.first.name] == (3 * 4 + 4, 2 * 12 + 4)
    assert table[model.last.name] == (4 * 2 + 2, 2 * 8 + 2)
    assert table[OTHER] == (0, 4)  # x * 2.0
    assert [item.name for item in result.unfolded_batch_norms] == ["its_norm"]
    assert result.total_parameters == result.folded_parameters == 16 + 10 + 16


@pytest.mark.parametrize("kind", ["list", "dict"])
def test_several_inputs(kind):
    one, two = keras.Input((3,), name="one"), keras.Input((None, 2), name="two")
    x = layers.Dense(4, name="a")(one)
    y = layers.Dense(4, name="b")(two)
    x = layers.Add(name="sum")([layers.Reshape((1, 4))(x), y])
    inputs = {"two": two, "one": one} if kind == "dict" else [one, two]
    model = keras.Model(inputs, {"p": x, "q": layers.Dense(1, name="c")(x)})
    shapes = {"one": (3,), "two": (5, 2)}
    shapes = shapes if kind == "dict" else list(shapes.values())
    table = rows(eh.profile(model, input_shape=shapes))
    assert table["a"][1] == 2 * 12 + 4
    assert table["b"][1] == 5 * (2 * 8 + 4)
    assert table["sum"][1] == 5 * 4
    assert table["c"][1] == 5 * (2 * 4 + 1)


def test_integer_inputs_and_one_example_of_a_fixed_batch():
    tokens = keras.Input((7,), batch_size=4, dtype="int32")
    x = layers.Embedding(11, 6, name="embedding")(tokens)
    model = keras.Model(tokens, layers.Dense(2, name="dense")(x))
    table = rows(eh.profile(model))
    # Keras 3 adds the vocabulary's size to tokens below 0, which the profiler counts
    indexing = 2 * 7 if KERAS_3 else 0
    assert table == {"embedding": (66, indexing), "dense": (14, 7 * (2 * 12 + 2))}


def test_weights_that_no_row_claims():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.scale = self.add_weight(name="scale", shape=(3,), initializer="ones")

        def call(self, inputs):
            return inputs * self.scale

    assert rows(eh.profile(Own(), input_shape=(3,))) == {OTHER: (3, 3)}


def test_bare_operations_have_rows():
    x = inputs = keras.Input((4,))
    model = keras.Model(inputs, x * 3.0 + 1.0)
    result = eh.profile(model)
    assert [flops for _, flops in rows(result).values()] == [4, 4]
    assert OTHER not in rows(result)


def test_prints_a_table_and_nothing_else(capfd):
    x = inputs = keras.Input((None, 3))
    x = layers.BatchNormalization(name="the_norm")(layers.ReLU()(x))
    result = eh.profile(keras.Model(inputs, layers.ReLU()(x), name="wide"))
    printed = capfd.readouterr()
    assert printed.out == ""
    assert "incomplete shapes" not in printed.err
    text = str(result)
    assert "wide, batch norm folded" in text
    assert "NOT counted in the FLOPs" in text and "unknown" in text
    assert "the_norm" in text.split("could not be folded")[1]
    text = str(eh.profile(make_network()))
    assert "3,520" in text and "112" in text  # the convolution's row
    assert "could not be folded" not in text


def test_keras_is_left_as_it_was():
    base = keras.Operation if KERAS_3 else layers.Layer
    before = base.__call__
    recorder = CallRecorder()
    with pytest.raises(RuntimeError), recorder.recording():
        assert base.__call__ is not before
        raise RuntimeError
    assert base.__call__ is before


def test_not_a_model():
    with pytest.raises(TypeError, match="`model` must be a keras.Model. Received"):
        eh.profile("resnet50")


def hand_sum(model):
    """FLOPs of a folded CNN by the rules of the profiler, from shapes alone."""
    total = 0
    for layer in model.layers:
        out = np.prod([int(size) for size in layer.output.shape[1:]])
        if isinstance(layer, layers.Conv2D):
            total += out * (2 * np.prod(layer.kernel_size) * layer.input.shape[-1] + 1)
        elif isinstance(layer, layers.Dense):
            total += out * (2 * layer.input.shape[-1] + 1 + 5)
        elif isinstance(layer, layers.Add):
            total += out
        elif isinstance(layer, layers.MaxPooling2D):
            total += out * np.prod(layer.pool_size)
        elif isinstance(layer, layers.GlobalAveragePooling2D):
            total += np.prod(layer.input.shape[1:])
    return int(total)


def test_resnet50_of_keras_applications():
    model = keras.applications.ResNet50(weights=None)
    result = eh.profile(model)
    assert result.flops == hand_sum(model)
    assert f"{result.flops / 1e9:.3f}" == "7.734"
    assert result.total_parameters == 25_636_712  # as Keras' documentation has it
    assert result.trainable_parameters == 25_583_592
    # 26,560 channels of batch norm; the convolutions have biases to fold them into
    assert result.parameters == 25_636_712 - 4 * 26_560
    assert set(map(tuple, uncounted(result).values())) == {("Relu",)}
