"""The table of stacking rules: how each kind of layer runs for all heads at once.

Rules hold for the very classes named here, not for those derived from them, since a
derived class may compute something else.
"""

import functools

import numpy as np

from ensemble_heads import graph as graphs
from ensemble_heads.head_layouts import per_head_initializer as forms
from ensemble_heads.head_layouts.stacked_layers import (
    HeadsAsExamples,
    StackedConv,
    StackedDense,
)
from ensemble_heads.head_layouts.stacked_normalization import StackedLayerNormalization
from ensemble_heads.keras_api import keras
from ensemble_heads.width_rules import keras_layers, operation_name

_RULES = {}
_ELEMENTWISE = frozenset(
    """
    celu elu exp exponential gelu hard_shrink hard_sigmoid hard_silu hard_swish
    hard_tanh leaky_relu linear log_sigmoid mish relu relu6 selu sigmoid silu softplus
    soft_shrink softsign swish tanh tanh_shrink threshold
    """.split()
)
_OPERATIONS = frozenset(
    """
    add Add subtract Subtract sub multiply Multiply mul divide Divide truediv TrueDivide
    maximum Maximum minimum Minimum relu Relu relu6 Relu6 sigmoid Sigmoid tanh Tanh
    exp Exp square Square sqrt Sqrt rsqrt Rsqrt abs Absolute negative Negative
    """.split()
)


def stack_rule(*classes):
    """Decorator: the function is the stacking rule of exactly these layer classes.

    Args:
        *classes: Keras layer classes.

    A rule is called `rule(stacker, node)` for every call of such a layer, on a
    `stacking.Stacker`. It takes `stacker.values(node)`, makes its layer by
    `stacker.made`, and ends in `stacker.run` or `stacker.finish`.
    """

    def register(rule):
        for cls in classes:
            _RULES[cls] = rule
        return rule

    return register


def stack_rule_of(known):
    """Class decorator: the class is stacked as `known` is, from which it derives."""

    def register(cls):
        _RULES[cls] = _RULES[known]
        return cls

    return register


def find(layer):
    """The rule of a layer or bare operation; None if there is none."""
    rule = _RULES.get(type(layer))
    if rule is None and operation_name(layer) in _OPERATIONS:
        return channelwise
    return rule


@stack_rule(
    *keras_layers("ReLU", "LeakyReLU", "ELU", "ThresholdedReLU", "Rescaling"),
    *keras_layers("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum"),
    *keras_layers("MaxPooling1D", "MaxPooling2D", "MaxPooling3D"),
    *keras_layers("AveragePooling1D", "AveragePooling2D", "AveragePooling3D"),
    *keras_layers("GlobalAveragePooling1D", "GlobalAveragePooling2D"),
    *keras_layers("GlobalMaxPooling1D", "GlobalMaxPooling2D"),
    *keras_layers("GlobalAveragePooling3D", "GlobalMaxPooling3D"),
    *keras_layers("ZeroPadding1D", "ZeroPadding2D", "ZeroPadding3D"),
    *keras_layers("Cropping1D", "Cropping2D", "Cropping3D"),
    *keras_layers("UpSampling1D", "UpSampling2D", "UpSampling3D"),
)
def channelwise(stacker, node):
    """What treats every channel by itself runs on more channels as it is."""
    check(stacker, node)
    values = stacker.values(node)
    if not all(value.shared for value in values):
        _check_constants(stacker, node)
        shapes = [tuple(tensor.shape) for tensor in node.values]
        last = {shape[-1] for shape in shapes}
        if len({len(shape) for shape in shapes}) > 1 or len(last) > 1:
            as_examples(stacker, node)
            return
        values = [stacker.of_each_head(value) for value in values]
    new = stacker.made(node, lambda: graphs.clone_layer(node.layer, node.name))
    stacker.run(node, new, values)


@stack_rule(
    *keras_layers("Dropout", "SpatialDropout1D", "SpatialDropout2D"),
    *keras_layers("SpatialDropout3D", "GaussianNoise", "GaussianDropout"),
)
def random(stacker, node):
    """Noise is drawn for every channel, so every head has draws of its own."""
    check(stacker, node)
    if getattr(node.layer, "noise_shape", None) is not None:
        raise stacker.error(node, "it has a `noise_shape`")
    values = [stacker.of_each_head(value) for value in stacker.values(node)]
    new = stacker.made(node, lambda: graphs.clone_layer(node.layer, node.name))
    stacker.run(node, new, values)


@stack_rule(keras.layers.BatchNormalization)
def normalisation(stacker, node):
    """Statistics of channels: those of all heads side by side."""
    check(stacker, node)
    (axis,) = _as_tuple(node.layer.axis)
    if axis not in (-1, len(node.values[0].shape) - 1):
        raise stacker.error(node, "its `axis` is not the last one")
    _wide(stacker, node, {}, forms.ON_CHANNELS)


@stack_rule(keras.layers.LayerNormalization)
def layer_normalisation(stacker, node):
    """Every head over its own channels."""
    check(stacker, node)
    axes = _as_tuple(node.layer.axis)
    if axes not in ((-1,), (len(node.values[0].shape) - 1,)):
        raise stacker.error(node, "its `axis` is not the last one")
    if getattr(node.layer, "rms_scaling", False):
        raise stacker.error(node, "it has `rms_scaling`")
    value = stacker.of_each_head(stacker.values(node)[0])
    new = stacker.made(
        node,
        functools.partial(
            _with_config,
            *(stacker, node, StackedLayerNormalization, _NORMALISATION),
            forms.ON_CHANNELS,
        ),
        forms.ON_CHANNELS,
    )
    stacker.finish(node, new(value.tensor))


@stack_rule(*keras_layers("DepthwiseConv1D", "DepthwiseConv2D"))
def depthwise(stacker, node):
    """Filters of single channels: those of all heads side by side."""
    check(stacker, node)
    _wide(stacker, node, {}, forms.ON_LAST_BUT_ONE)


@stack_rule(keras.layers.Dense)
def dense(stacker, node):
    """One wide layer on what is shared, a batched product on what is not."""
    check(stacker, node)
    layer, value = node.layer, stacker.values(node)[0]
    if value.shared and stacker.calls(layer) == 1:
        _wide(stacker, node, {"units": stacker.num_heads * layer.units})
        return
    keys = ("units", *_LINEAR)
    make = functools.partial(_stacked, stacker, node, StackedDense, keys)
    new = stacker.made(node, make, forms.STACKED)
    _run_linear(stacker, node, new, stacker.of_each_head(value))


@stack_rule(*keras_layers("Conv1D", "Conv2D", "Conv3D"))
def convolution(stacker, node):
    """One wide layer on what is shared; else whichever product is fastest."""
    check(stacker, node)
    layer, value = node.layer, stacker.values(node)[0]
    if value.shared and stacker.calls(layer) == 1 and layer.groups == 1:
        _wide(stacker, node, {"filters": stacker.num_heads * layer.filters})
        return
    value = stacker.of_each_head(value)

    def make():
        make_one = functools.partial(_stacked, stacker, node, StackedConv, _CONVOLUTION)
        if node.name not in stacker.products:
            shape = tuple(value.tensor.shape)
            stacker.products[node.name] = stacker.choose_product(make_one, shape)
        return make_one(product=stacker.products[node.name])

    new = stacker.made(node, make, forms.STACKED)
    _run_linear(stacker, node, new, value)


@stack_rule(keras.layers.Activation)
def activation(stacker, node):
    """Elementwise ones run as they are, others on one head's channels at a time."""
    known = _name_of(node.layer.activation) in _ELEMENTWISE
    rule = channelwise if known else as_examples
    rule(stacker, node)


@stack_rule(
    *keras_layers("Softmax", "Flatten", "Reshape", "Permute", "RepeatVector"),
    *keras_layers("Concatenate", "Dot", "UnitNormalization"),
)
def as_examples(stacker, node):
    """What looks at the channels of a head together takes heads as examples."""
    check(stacker, node)
    values = stacker.values(node)
    if all(value.shared for value in values):
        new = stacker.made(node, lambda: graphs.clone_layer(node.layer, node.name))
        stacker.run(node, new, values)
        return
    shapes = [tensor.shape for tensor in (*node.values, *node.outputs)]
    if operation_name(node.layer) is not None or min(map(len, shapes)) < 2:
        raise stacker.error(node, "it joins tensors of other shapes")
    tensors = [stacker.of_each_head(value).tensor for value in values]
    new = stacker.made(node, functools.partial(_examples, stacker, node))
    stacker.finish(node, new(tensors if len(tensors) > 1 else tensors[0]))


def check(stacker, node):
    """Refuses what no stacked layer does in the same way.

    Raises:
        NotStackable: channels are not last, or the layer has constraints or
            regularisers that do not look at every entry by itself.
    """
    layer = node.layer
    if getattr(layer, "data_format", None) == "channels_first":
        raise stacker.error(node, "its channels are not on the last axis")
    if not getattr(layer, "weights", None):
        return
    for key in graphs.config_of(layer):
        value = getattr(layer, key, None)
        if key.endswith("_constraint") and value is not None:
            raise stacker.error(node, f"it has a `{key}`")
        if not key.endswith("_regularizer") or value is None:
            continue
        entrywise = [keras.regularizers.L1, keras.regularizers.L2]
        entrywise += [keras.regularizers.L1L2]
        if "activity" in key or type(value) not in entrywise:
            raise stacker.error(node, f"it has a `{key}`")


def _check_constants(stacker, node):
    """Refuses arrays among the constants: they fit the channels of one head."""
    given = ()
    if operation_name(node.layer) is not None:
        given = (*node.args, *node.kwargs.values())
        given = [item for item in given if not graphs.tensors_in(item)]
    elif isinstance(node.layer, keras.layers.Rescaling):
        given = node.layer.scale, node.layer.offset
    if any(np.size(constant) > 1 for constant in given):
        raise stacker.error(node, "it takes an array of constants")


_LINEAR = (
    *("use_bias", "activation", "dtype", "trainable"),
    *("kernel_regularizer", "bias_regularizer"),
)
_NORMALISATION = (
    *("epsilon", "center", "scale", "dtype", "trainable"),
    *("beta_regularizer", "gamma_regularizer"),
)
_CONVOLUTION = (
    *("filters", "kernel_size", "strides", "padding", "dilation_rate", "groups"),
    *_LINEAR,
)


def _wide(stacker, node, changes, form=forms.ON_CHANNELS):
    """The layer of the same class, as wide as all heads together."""
    value = stacker.values(node)[0]
    if "units" not in changes and "filters" not in changes:
        value = stacker.of_each_head(value)

    def make():
        own = _own_activation(node.layer)
        ends = {"activation": "linear"} if own else {}
        each = stacker.initializers(node, form)
        return graphs.clone_layer(node.layer, node.name, **changes, **each, **ends)

    _run_linear(stacker, node, stacker.made(node, make, form), value)


def _stacked(stacker, node, cls, keys, **arguments):
    """A stacked linear layer with the configuration of a head's own."""
    if _own_activation(node.layer):
        arguments["activation"] = "linear"
    return _with_config(stacker, node, cls, keys, forms.STACKED, **arguments)


def _with_config(stacker, node, cls, keys, form, **arguments):
    config = graphs.config_of(node.layer)
    arguments = {key: config[key] for key in keys if key in config} | arguments
    arguments |= stacker.initializers(node, form)
    return cls(num_heads=stacker.num_heads, name=node.name, **arguments)


def _run_linear(stacker, node, layer, value):
    """Runs a linear layer, and its activation where that looks at several channels."""
    args, kwargs = (
        node.args[1:],
        {k: v for k, v in node.kwargs.items() if k == "training"},
    )
    outputs = layer(value.tensor, *args, **kwargs)
    own = _own_activation(node.layer)
    if own:
        dtype = node.layer.dtype_policy
        apply = keras.layers.Activation(own, dtype=dtype)
        name = f"{node.name}_activation"
        outputs = HeadsAsExamples(apply, stacker.num_heads, name=name, dtype=dtype)(
            outputs
        )
    stacker.finish(node, outputs)


def _own_activation(layer):
    """The activation of a layer if it looks at several channels, else None."""
    function = getattr(layer, "activation", None)
    known = function is None or _name_of(function) in _ELEMENTWISE
    return None if known else function


def _name_of(function):
    """The name of an activation of Keras'; None for anything else."""
    module = getattr(function, "__module__", None) or ""
    name = getattr(function, "__name__", None)
    return name if module.partition(".")[0] == "keras" else None


def _examples(stacker, node):
    inner = graphs.clone_layer(node.layer, node.name)
    dtype = getattr(node.layer, "dtype_policy", None)
    return HeadsAsExamples(inner, stacker.num_heads, name=node.name, dtype=dtype)


def _as_tuple(axis):
    return (axis,) if isinstance(axis, int) else tuple(axis)
