"""`eh.multi_head`: exact widths, draws and budgets."""

import json
import random
from functools import partial

import numpy as np
import pytest
import tensorflow as tf

import ensemble_heads as eh
import zoo
from ensemble_heads.keras_api import keras
from tests.surgery_models import residual_model, small_model, units

layers = keras.layers


def weights_of(model):
    return [w.numpy() for w in model.trunk.weights] + [
        w.numpy() for head in model.heads for w in head.weights
    ]


# widths


def test_the_published_widths_of_the_heads_come_out_exactly():
    changes = {"blocks": (1, 1, 2, 2)}
    single = zoo.build("se_resnet152", input_shape=(32, 32, 3), classes=10, **changes)
    model = eh.multi_head(single, "stage2", 2, width_multiplier=0.6875)
    stages = zoo.build(
        "se_resnet152",
        input_shape=(32, 32, 3),
        classes=10,
        widths=(64, 128, 176, 352),
        **changes,
    )
    for head in model.heads:
        named = {layer.name: layer for layer in head.layers}
        compared = 0
        for layer in stages.layers:
            if layer.name in named and layer.weights:
                mine = [tuple(w.shape) for w in named[layer.name].weights]
                assert mine == [tuple(w.shape) for w in layer.weights], layer.name
                compared += 1
        assert compared > 20


@pytest.mark.parametrize(
    ("multiplier", "divisor", "expected"),
    [(0.5, 1, (8, 4)), (0.7, 1, (11, 6)), (0.7, 4, (12, 4)), (2.0, 1, (32, 16))],
)
def test_widths_are_rounded_to_the_divisor(multiplier, divisor, expected):
    model = eh.multi_head(
        small_model(), "shared", width_multiplier=multiplier, divisor=divisor
    )
    assert units(model, "hidden") == [expected[0]] * 2
    assert units(model, "top") == [expected[1]] * 2
    assert units(model, "out") == [3] * 2


def test_what_is_tied_to_the_trunk_keeps_its_width():
    model = eh.multi_head(residual_model(), "add0", width_multiplier=0.5)
    assert [head.get_layer("conv1").filters for head in model.heads] == [8, 8]


def test_a_callable_sets_single_layers():
    def multiplier(layer):
        return 1.0 if layer.name == "top" else 0.25

    model = eh.multi_head(small_model(), "shared", width_multiplier=multiplier)
    assert units(model, "hidden") == [4, 4]
    assert units(model, "top") == [8, 8]


def test_overrides_set_widths_and_anything_else():
    model = eh.multi_head(
        small_model(),
        "shared",
        width_multiplier=0.5,
        overrides={"top": {"units": 5, "activation": "tanh"}, "dropout": {"rate": 0.7}},
    )
    top = model.heads[0].get_layer("top")
    assert (top.units, top.activation) == (5, keras.activations.tanh)
    assert model.heads[1].get_layer("dropout").rate == 0.7
    assert units(model, "hidden") == [8, 8]


def test_an_override_carries_what_is_tied_along():
    inputs = keras.Input((6,))
    x = layers.Dense(4, name="shared")(inputs)
    a = layers.Dense(8, name="a")(x)
    b = layers.Dense(8, name="b")(x)
    x = layers.Multiply()([a, b])
    single = keras.Model(inputs, layers.Dense(3)(x))
    model = eh.multi_head(single, "shared", overrides={"a": {"units": 5}})
    assert units(model, "b") == [5, 5]


def test_auto_is_the_largest_that_fits_both_budgets():
    single = zoo.build("cifar_resnet20", input_shape=(8, 8, 1), classes=10)
    budget = eh.profile(single)
    model = eh.multi_head(single, "stage1", width_multiplier="auto", divisor=1)
    size = eh.profile(model)
    assert size.parameters <= budget.parameters
    assert size.flops <= budget.flops
    assert 0 < model.width_multiplier < 1
    loaded = type(model).from_config(model.get_config())
    assert loaded.width_multiplier == model.width_multiplier
    wider = eh.multi_head(
        single, "stage1", width_multiplier=model.width_multiplier + 0.02, divisor=1
    )
    size = eh.profile(wider)
    assert size.parameters > budget.parameters or size.flops > budget.flops


def test_auto_needs_countable_flops():
    inputs = keras.Input((None, None, 1))
    x = layers.Conv2D(4, 3, name="shared")(inputs)
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(8, 3, name="up")(x))
    single = keras.Model(inputs, layers.Dense(2)(x))
    with pytest.raises(ValueError, match=r"those of \['glob[^']*', 'up'\] depend"):
        eh.multi_head(single, "shared", width_multiplier="auto")


def test_auto_compares_what_is_above_a_trunk_of_unknown_sizes():
    def model_of(length):
        inputs = keras.Input((length, 3))
        x = layers.Conv1D(4, 3, name="frames")(inputs)
        x = layers.GlobalMaxPooling1D(name="pool")(x)
        x = layers.Dense(32, name="hidden")(x)
        return keras.Model(inputs, layers.Dense(2)(x))

    unknown, known = (
        eh.multi_head(model_of(length), "pool", width_multiplier="auto")
        for length in (None, 9)
    )
    assert unknown.width_multiplier == known.width_multiplier < 1


def test_auto_that_cannot_fit_says_so():
    with pytest.raises(ValueError, match="even the narrowest 50 heads exceed"):
        eh.multi_head(small_model(), "shared", 50, width_multiplier="auto")


# draws


def test_heads_differ_even_where_the_layers_carry_seeds():
    seeded = keras.initializers.GlorotUniform(seed=7)
    model = eh.multi_head(small_model(kernel_initializer=seeded), "shared")
    first, second = (head.get_layer("hidden").get_weights()[0] for head in model.heads)
    assert np.abs(first - second).max() > 0.1
    seeds = [head.get_layer("dropout").get_config()["seed"] for head in model.heads]
    assert seeds[0] != seeds[1]


@pytest.mark.parametrize("ensembler", ["mean", "gated", "mixture_of_experts"])
def test_the_same_seed_gives_the_same_model(ensembler):
    def draw(seed):
        # Apart from the trunk, which is that of the given model.
        model = eh.multi_head(small_model(), "shared", seed=seed, ensembler=ensembler)
        return model.wrapper.get_weights() + model.ensembler.get_weights()

    for a, b in zip(draw(3), draw(3), strict=True):
        np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for a, b in zip(draw(3), draw(4), strict=True))


@pytest.mark.parametrize("execution", ["separate", "stacked"])
def test_draws_do_not_follow_names_that_keras_makes_up(execution):
    def draw():
        inputs = keras.Input((3,))
        shared = layers.Dense(6, name="shared")(inputs)
        single = keras.Model(inputs, layers.Dense(2)(layers.Dense(5)(shared)))
        model = eh.multi_head(single, "shared", seed=3, execution=execution)
        assert any("dense" in layer.name for layer in model.heads[0].layers)
        return model.wrapper.get_weights()

    for a, b in zip(draw(), draw(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_global_seed_makes_the_default_draw_reproducible():
    def draw():
        keras.utils.set_random_seed(11)
        return weights_of(eh.multi_head(small_model(), "shared"))

    for a, b in zip(draw(), draw(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_kernels_inside_attention_are_drawn_apart_and_reproducibly():
    inputs = keras.Input((4, 8))
    x = layers.Dense(8, name="shared")(inputs)
    x = layers.MultiHeadAttention(2, 4, name="attention")(x, x)
    single = keras.Model(inputs, layers.Dense(3)(x))
    model, again = (eh.multi_head(single, "shared", seed=1) for _ in range(2))
    kernels = [w for w in weights_of(model) if w.shape == (8, 2, 4)]
    assert len(kernels) == 6
    for i, a in enumerate(kernels):
        for b in kernels[:i]:
            assert np.abs(a - b).max() > 0.05
    for a, b in zip(weights_of(model), weights_of(again), strict=True):
        np.testing.assert_array_equal(a, b)


class Drawn(layers.Layer):
    """A layer that names its initializer itself, without a seed."""

    def build(self, input_shape):
        self.kernel = self.add_weight(
            shape=(input_shape[-1],), initializer="random_normal", name="kernel"
        )

    def call(self, inputs):
        return inputs + self.kernel


def test_draws_that_no_configuration_tells_follow_the_seed_too():
    inputs = keras.Input((6,))
    x = Drawn()(layers.Dense(4, name="shared")(inputs))
    single = keras.Model(inputs, layers.Dense(2)(x))
    state = random.getstate()
    first, second = (eh.multi_head(single, "shared", seed=3) for _ in range(2))
    assert random.getstate() == state
    for a, b in zip(weights_of(first), weights_of(second), strict=True):
        np.testing.assert_array_equal(a, b)
    one, other = (head.layers[1].get_weights()[0] for head in first.heads)
    assert np.abs(one - other).max() > 1e-3


def test_one_head_at_the_full_width_costs_what_the_model_costs():
    single = small_model()
    model = eh.multi_head(single, "shared", 1, width_multiplier="auto")
    assert model.width_multiplier == 1
    assert eh.profile(model).flops == eh.profile(single).flops


def test_auto_with_nothing_to_scale_is_one_or_refused():
    model = eh.multi_head(small_model(), "top", 1, width_multiplier="auto")
    assert model.width_multiplier == 1
    with pytest.raises(ValueError, match="even the narrowest 2 heads exceed"):
        eh.multi_head(small_model(), "top", 2, width_multiplier="auto")


def test_the_model_is_never_changed():
    single = small_model()
    config = json.dumps(single.get_config(), default=str)
    before = single.get_weights()
    calls = [len(layer._inbound_nodes) for layer in single.layers]
    model = eh.multi_head(
        single, "shared", width_multiplier=0.5, overrides={"top": {"units": 2}}
    )
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(np.ones((4, 6)), np.zeros(4), verbose=0)
    assert json.dumps(single.get_config(), default=str) == config
    assert [len(layer._inbound_nodes) for layer in single.layers] == calls
    for a, b in zip(single.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_trained_model_is_converted_exactly():
    single = zoo.build("cifar_resnet20", input_shape=(8, 8, 1), classes=10)
    rng = np.random.default_rng(0)
    single.set_weights([rng.uniform(0.1, 0.9, w.shape) for w in single.get_weights()])
    images = rng.normal(size=(4, 8, 8, 1)).astype("float32")
    model = eh.multi_head(single, "stage2", copy_weights=True)
    np.testing.assert_allclose(model(images), single(images), atol=1e-6)
    np.testing.assert_allclose(
        model.head_predictions(images)[:, 1], single(images), atol=1e-6
    )


def test_statistics_of_adapted_layers_are_kept():
    data = np.random.default_rng(0).normal(3.0, 2.0, (50, 6)).astype("float32")
    normalization = layers.Normalization(name="normalization")
    normalization.adapt(data)
    inputs = keras.Input((6,))
    x = layers.Dense(4, name="shared")(normalization(inputs))
    single = keras.Model(inputs, layers.Dense(2)(x))
    model = eh.multi_head(single, "shared")
    found = model.trunk.get_layer("normalization")(data)
    np.testing.assert_allclose(found, normalization(data), rtol=1e-6)


@pytest.mark.parametrize("kind", ["text", "multi_hot", "tf_idf"])
def test_adapted_vocabularies_are_kept(kind, tmp_path):
    if kind == "text":
        lookup = layers.TextVectorization(output_sequence_length=3)
    else:
        lookup = layers.StringLookup(output_mode=kind)
    lookup.adapt(tf.constant([["one"], ["two"], ["two"], ["three"]]))
    inputs = keras.Input((1,), dtype="string")
    x = layers.Lambda(lambda t: tf.cast(t, tf.float32))(lookup(inputs))
    x = layers.Dense(4, name="shared")(x)
    single = keras.Model(inputs, layers.Dense(2)(layers.BatchNormalization()(x)))
    words = tf.constant([["two"], ["three"], ["ten"]])
    expected = single(words)
    assert np.ptp(expected, axis=0).min() > 0
    model = eh.multi_head(single, "shared", copy_weights=True)
    np.testing.assert_allclose(model(words), expected, atol=1e-6)
    eh.export(model, tmp_path / "1")
    saved = tf.saved_model.load(str(tmp_path / "1"))
    (found,) = saved.signatures["serving_default"](words).values()
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_activation_of_a_derived_layer_stays_inside():
    """It may do more after its activation, which must not come before it then."""

    class Half(layers.Dense):
        def call(self, inputs):
            return 0.5 * super().call(inputs)

    inputs = keras.Input((4,))
    x = layers.Dense(5, name="shared")(inputs)
    single = keras.Model(inputs, Half(3, activation="sigmoid")(x))
    model = eh.multi_head(single, "shared", copy_weights=True)
    x = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
    np.testing.assert_allclose(model(x), single(x), atol=1e-6)


@pytest.mark.parametrize("ending", ["softmax layer", "activation layer", "argument"])
def test_outputs_keep_their_names(ending):
    inputs = keras.Input((4,))
    shared = layers.Dense(8, name="shared")(inputs)
    if ending == "argument":
        outputs = layers.Dense(3, activation="softmax", name="classes")(shared)
    else:
        scores = layers.Dense(3, name="scores")(shared)
        softmax = ending == "softmax layer"
        last = layers.Softmax if softmax else partial(layers.Activation, "softmax")
        outputs = last(name="classes")(scores)
    single = keras.Model(inputs, outputs)
    model = eh.multi_head(single, "shared", copy_weights=True)
    assert model.outputs_like.names == single.output_names == ["classes"]
    assert model.wrapper.links == "softmax"
    x = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
    np.testing.assert_allclose(model(x), single(x), rtol=1e-5, atol=1e-6)
    single_head = model.head(1)
    np.testing.assert_allclose(single_head(x), single(x), rtol=1e-5, atol=1e-6)
