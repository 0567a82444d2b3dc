"""`eh.multi_head`: what bad input gets, and layers that cannot be scaled."""

import pytest
import tensorflow as tf

import ensemble_heads as eh
from ensemble_heads.keras_api import KERAS_3, keras
from tests.surgery_models import residual_model, small_model, units

layers = keras.layers


def test_unknown_layers_name_the_closest():
    with pytest.raises(ValueError, match=r"(?s)closest names: `hidden`.*'hiden'"):
        eh.multi_head(small_model(), "hiden")
    with pytest.raises(ValueError, match=r"`overrides` must name.*`top`.*'topp'"):
        eh.multi_head(small_model(), "shared", overrides={"topp": {"units": 3}})


def test_a_cut_skip_connection_names_both_tensors_and_where_to_fork():
    message = (
        r"(?s)must not cut a skip connection.*`conv1` \(\?x8x8x8, float32\) and "
        r"`add0` \(\?x8x8x8.*Fork at `add0` or `add1`"
    )
    with pytest.raises(ValueError, match=message):
        eh.multi_head(residual_model(), "conv1")


def test_a_fork_after_the_last_layer_is_refused():
    with pytest.raises(ValueError, match="nothing depends on the output of `out`"):
        eh.multi_head(small_model(), "out")


def test_models_without_a_graph_say_what_to_do_instead():
    class Subclassed(keras.Model):
        def call(self, inputs):
            return inputs

    with pytest.raises(ValueError, match=r"(?s)subclassed.*`eh.MultiHeadWrapper`"):
        eh.multi_head(Subclassed(), "shared")
    with pytest.raises(ValueError, match=r"(?s)no input shape yet.*`keras.Input"):
        eh.multi_head(keras.Sequential([layers.Dense(2)]), "shared")
    with pytest.raises(ValueError, match="must be a functional keras.Model"):
        eh.multi_head("resnet50", "shared")


def test_a_built_sequential_is_a_model():
    single = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(4, name="shared"),
            layers.Dense(8, name="hidden"),
            layers.Dense(2),
        ]
    )
    model = eh.multi_head(single, "shared", width_multiplier=0.5)
    assert units(model, "hidden") == [4, 4]


@pytest.mark.parametrize("value", [0, -1, 4.1, "wide", None, True, float("nan")])
def test_multipliers_out_of_range(value):
    with pytest.raises(ValueError, match=r"`width_multiplier` must be in \(0, 4\]"):
        eh.multi_head(small_model(), "shared", width_multiplier=value)


@pytest.mark.parametrize("value", [0, -2, 1.5, True])
def test_numbers_of_heads(value):
    with pytest.raises(ValueError, match="`num_heads` must be an integer of at least"):
        eh.multi_head(small_model(), "shared", num_heads=value)


@pytest.mark.parametrize("value", [0, 2.5])
def test_divisors(value):
    with pytest.raises(ValueError, match="`divisor` must be an integer of at least 1"):
        eh.multi_head(small_model(), "shared", divisor=value)


def test_overrides_of_what_is_tied():
    with pytest.raises(ValueError, match=r"`filters` of layer `conv1`.*tied to the tr"):
        eh.multi_head(residual_model(), "add0", overrides={"conv1": {"filters": 4}})
    with pytest.raises(ValueError, match="does not have; it has"):
        eh.multi_head(small_model(), "shared", overrides={"top": {"filters": 4}})


def test_overrides_leave_the_activation_of_an_output_alone():
    with pytest.raises(ValueError, match="must leave the activation of an output al"):
        eh.multi_head(
            small_model(), "shared", overrides={"out": {"activation": "sigmoid"}}
        )


def test_callables_must_agree_on_tied_layers():
    inputs = keras.Input((6,))
    x = layers.Dense(4, name="shared")(inputs)
    x = layers.Add()([layers.Dense(8, name="a")(x), layers.Dense(8, name="b")(x)])
    single = keras.Model(inputs, layers.Dense(3)(x))
    with pytest.raises(ValueError, match=r"whose widths are tied.*'a': 0.5, 'b': 0.7"):
        eh.multi_head(
            single,
            "shared",
            width_multiplier=lambda layer: 0.5 if layer.name == "a" else 0.75,
        )


class Unknown(layers.Layer):
    """A layer with weights and no width rule."""

    def build(self, input_shape):
        self.kernel = self.add_weight(
            shape=(input_shape[-1], 7), initializer="ones", name="kernel"
        )

    def call(self, inputs):
        return tf.matmul(inputs, self.kernel)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], 7)


def model_with_unknown_layer():
    inputs = keras.Input((6,))
    x = layers.Dense(4, name="shared")(inputs)
    x = Unknown(name="unknown")(layers.Dense(8, name="hidden")(x))
    return keras.Model(inputs, layers.Dense(3)(layers.Dense(8, name="top")(x)))


def test_unknown_layers_with_weights_are_named_with_a_way_out():
    message = r"(?s)`unknown` \(Unknown\) cannot be scaled.*returns 1.0 for.*`unknown`"
    with pytest.raises(ValueError, match=message):
        eh.multi_head(model_with_unknown_layer(), "shared", width_multiplier=0.5)

    def kept(layer):
        return 1.0 if layer.name == "unknown" else 0.5

    model = eh.multi_head(model_with_unknown_layer(), "shared", width_multiplier=kept)
    assert units(model, "hidden") == units(model, "top") == [4, 4]
    assert eh.multi_head(model_with_unknown_layer(), "shared").num_heads == 2


def by_position(x):
    return (
        keras.ops.take(x, [0, 5], axis=-1) if KERAS_3 else tf.gather(x, [0, 5], axis=-1)
    )


def by_slice(x):
    return (
        keras.ops.slice(x, (0, 2), (1, 4)) if KERAS_3 else tf.slice(x, (0, 2), (1, 4))
    )


def by_lambda(x):
    return layers.Lambda(lambda x: tf.reshape(x, (-1, 4)), output_shape=(4,))(x)


def by_unstack(x):
    return keras.ops.unstack(x, axis=-1)[0] if KERAS_3 else tf.unstack(x, axis=-1)[0]


@pytest.mark.parametrize("pick", [by_position, by_slice, by_lambda, by_unstack])
def test_channels_picked_by_position_do_not_scale(pick):
    inputs = keras.Input((6,))
    x = layers.Dense(4, name="shared")(inputs)
    picked = pick(layers.Dense(8, name="hidden")(x))
    single = keras.Model(inputs, picked)
    with pytest.raises(ValueError, match=r"cannot be scaled.*returns 1.0 for `hidden`"):
        eh.multi_head(single, "shared", width_multiplier=0.5)


def test_layers_called_twice_are_no_place_to_fork():
    inputs = keras.Input((6,))
    twice = layers.Dense(6, name="twice")
    single = keras.Model(inputs, layers.Dense(3)(twice(twice(inputs))))
    with pytest.raises(ValueError, match="`twice` is called 2 times"):
        eh.multi_head(single, "twice")


class Reversed(layers.Layer):
    """Moves channels."""

    def call(self, inputs):
        return tf.reverse(inputs, [-1])


def test_weights_are_not_copied_past_a_layer_that_moves_channels():
    inputs = keras.Input((6,))
    x = layers.Dense(4, name="shared")(inputs)
    x = Reversed(name="reversed")(layers.Dense(8)(x))
    single = keras.Model(inputs, layers.Dense(2)(x))
    assert eh.multi_head(single, "shared", width_multiplier=0.5).num_heads == 2
    with pytest.raises(ValueError, match=r"`reversed` \(Reversed\) moves channels"):
        eh.multi_head(single, "shared", width_multiplier=0.5, copy_weights=True)


def test_layers_without_a_rule_for_their_kind_can_be_kept():
    inputs = keras.Input((3, 6))
    x = layers.Dense(4, name="shared")(inputs)
    x = layers.Dense(8, name="hidden")(x)
    inner = keras.Sequential([keras.Input((8,)), layers.Dense(4)])
    x = layers.TimeDistributed(inner, name="wrapped")(x)
    x = layers.Dense(6, name="top")(x)
    single = keras.Model(inputs, layers.Dense(2)(x))
    with pytest.raises(ValueError, match=r"returns 1.0 for `hidden`, `wrapped`"):
        eh.multi_head(single, "shared", width_multiplier=0.5)

    def kept(layer):
        return 1.0 if layer.name == "wrapped" else 0.5

    model = eh.multi_head(single, "shared", width_multiplier=kept)
    assert (units(model, "hidden"), units(model, "top")) == ([8, 8], [3, 3])


def test_overrides_that_clash_or_are_of_another_form():
    with pytest.raises(ValueError, match="`overrides` must be a dict"):
        eh.multi_head(small_model(), "shared", overrides={"top": 5})
    with pytest.raises(ValueError, match="must name layers behind the fork"):
        eh.multi_head(small_model(), "shared", overrides={"shared": {"units": 5}})
    inputs = keras.Input((6,))
    x = layers.Dense(4, name="shared")(inputs)
    x = layers.Add()([layers.Dense(8, name="a")(x), layers.Dense(8, name="b")(x)])
    single = keras.Model(inputs, layers.Dense(3)(x))
    clash = {"a": {"units": 5}, "b": {"units": 6}}
    with pytest.raises(ValueError, match="those of `a` and `b`"):
        eh.multi_head(single, "shared", overrides=clash)


def test_overrides_that_change_kernels_cannot_start_from_weights():
    with pytest.raises(ValueError, match="layer `conv1` has weights of"):
        eh.multi_head(
            residual_model(),
            "add0",
            overrides={"conv1": {"kernel_size": 5}},
            copy_weights=True,
        )


@pytest.mark.parametrize("value", [None, []])
def test_no_place_to_fork(value):
    with pytest.raises(ValueError, match="`fork_at` must be a layer or its name"):
        eh.multi_head(small_model(), value)


def test_nested_outputs_are_refused():
    inputs = keras.Input((6,))
    x = layers.Dense(4, name="shared")(inputs)
    single = keras.Model(inputs, {"a": layers.Dense(2)(x), "b": [layers.Dense(3)(x)]})
    with pytest.raises(ValueError, match="must be one tensor, or a flat list or dict"):
        eh.multi_head(single, "shared")
