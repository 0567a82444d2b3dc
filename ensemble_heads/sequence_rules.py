"""Width rules of attention layers, recurrent layers and layers that wrap a layer.

Attention keeps its number of heads and scales the size of each; a recurrent layer
scales its units. See `width_rules.width_rule` for what a rule is.
"""

import dataclasses

import tensorflow as tf

from ensemble_heads import axes as ax
from ensemble_heads import ties
from ensemble_heads.graph import Tensor
from ensemble_heads.keras_api import keras
from ensemble_heads.layer_rules import optional
from ensemble_heads.shape_rules import fixed_shape
from ensemble_heads.width_rules import find, keras_layers, width_rule

_GATES = {"LSTM": 4, "GRU": 3, "SimpleRNN": 1}


def argument(node, position, name, default=None):
    """A tensor that a call takes by position or by name."""
    if len(node.args) > position:
        return node.args[position]
    return node.kwargs.get(name) if node.kwargs.get(name) is not None else default


@width_rule(keras.layers.MultiHeadAttention)
def multi_head_attention(tracer, node):
    """Keeps the heads; `key_dim` and `value_dim` scale."""
    layer, config = node.layer, node.layer.get_config()
    query = argument(node, 0, "query")
    value = argument(node, 1, "value", query)
    key = argument(node, 2, "key", value)
    q, v, k = (tracer.axes(t) for t in (query, value, key))
    heads = ax.fixed(config["num_heads"])
    value_size = config["value_dim"] or config["key_dim"]
    key_dim = tracer.width(layer, "key_dim", config["key_dim"])
    value_dim = tracer.width(layer, "value_dim", value_size)
    out = list(q[-1:])
    if config["output_shape"]:
        *lead, last = tf.nest.flatten(config["output_shape"])
        out = [*fixed_shape(lead), tracer.width(layer, "output_shape", last)]
        tracer.set_config(layer, output_shape=tuple(out))
    tracer.set_config(layer, key_dim=key_dim, value_dim=value_dim)
    if "query_shape" in config:  # Keras 2 makes the weights from these
        tracer.set_config(layer, query_shape=q, key_shape=k, value_shape=v)
    weights = []
    for taken, given in (
        (q[-1:], [heads, key_dim]),
        (k[-1:], [heads, key_dim]),
        (v[-1:], [heads, value_dim]),
        ((heads, value_dim), out),
    ):
        weights.append([*taken, *given])
        if config["use_bias"]:
            weights.append(given)
    tracer.set_weights(layer, *weights)
    tracer.set_temperature(layer, key_dim, (0, 1) if config["use_bias"] else (0,))
    _set_attention_outputs(tracer, node, [*q[:-1], *out])


@width_rule(*keras_layers("GroupQueryAttention", "GroupedQueryAttention"))
def group_query_attention(tracer, node):
    """Keeps both numbers of heads; `head_dim` scales."""
    layer, config = node.layer, node.layer.get_config()
    query = argument(node, 0, "query")
    value = argument(node, 1, "value", query)
    key = argument(node, 2, "key", value)
    q, v, k = (tracer.axes(t)[-1] for t in (query, value, key))
    size = tracer.width(layer, "head_dim", config["head_dim"])
    many, few = ax.fixed(layer.num_query_heads), ax.fixed(layer.num_key_value_heads)
    tracer.set_config(layer, head_dim=size)
    weights = []
    for kernel, bias in (
        ([q, many, size], [many, size]),
        ([k, few, size], [few, size]),
        ([v, few, size], [few, size]),
        ([many, size, q], [q]),
    ):
        weights += [kernel, bias] if config["use_bias"] else [kernel]
    tracer.set_weights(layer, *weights)
    tracer.set_temperature(layer, size, (0, 1) if config["use_bias"] else (0,))
    _set_attention_outputs(tracer, node, tracer.axes(query))


@width_rule(*keras_layers("Attention", "AdditiveAttention"))
def dot_product_attention(tracer, node):
    """Ties the features of queries and keys; gives those of the values."""
    given = argument(node, 0, "inputs")
    query, value = given[0], given[1]
    key = given[2] if len(given) > 2 else value
    tracer.tie(tracer.axes(query)[-1], tracer.axes(key)[-1])
    if node.layer.weights:
        additive = isinstance(node.layer, keras.layers.AdditiveAttention)
        shape = [tracer.axes(query)[-1]] if additive else []
        tracer.set_weights(node.layer, *[shape for _ in node.layer.weights])
    out = [*tracer.axes(query)[:-1], tracer.axes(value)[-1]]
    _set_attention_outputs(tracer, node, out)


def _set_attention_outputs(tracer, node, out):
    """The result and, where asked for, the scores, which have no width."""
    scores = [fixed_shape(tensor.shape) for tensor in node.outputs[1:]]
    tracer.set_outputs(node, out, *scores)


@width_rule(*keras_layers(*_GATES))
def recurrent(tracer, node):
    """Units scale; initial states are tied to them."""
    layer = node.layer
    (x, *states) = tracer.input_axes(node)
    units = tracer.width(layer, "units", layer.units)
    for state in states:
        tracer.tie(state[-1], units)
    units = units.resolve()
    tracer.set_config(layer, units=units)
    tracer.set_weights(layer, *_recurrent_weights(layer, x[-1], units))
    shapes = [
        [*fixed_shape(tensor.shape[:-1]), units.resolve()] for tensor in node.outputs
    ]
    tracer.set_outputs(node, *shapes)


def _recurrent_weights(layer, features, units):
    gates = next(
        count
        for name, count in _GATES.items()
        if isinstance(layer, getattr(keras.layers, name))
    )
    many = ax.product([ax.fixed(gates), units])
    bias = [many]
    if gates == 3 and layer.reset_after:
        bias = [ax.fixed(2), many]
    return [[features, many], [units, many], *optional(layer, "use_bias", bias)]


@width_rule(*keras_layers("ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D"))
def convolutional_lstm(tracer, node):
    """Filters scale."""
    layer = node.layer
    x = tracer.input_axes(node)[0]
    last = layer.data_format != "channels_first"
    channel = len(x) - 1 if last else 2
    out = tracer.width(layer, "filters", layer.filters)
    many = ax.product([ax.fixed(4), out])
    kernel = fixed_shape(layer.kernel_size)
    tracer.set_config(layer, filters=out)
    tracer.set_weights(
        layer,
        [*kernel, x[channel], many],
        [*kernel, out, many],
        *optional(layer, "use_bias", [many]),
    )
    shapes = []
    for tensor in node.outputs:
        shape = list(fixed_shape(tensor.shape))
        shape[-1 if last else len(shape) - len(kernel) - 1] = out
        shapes.append(shape)
    tracer.set_outputs(node, *shapes)


@width_rule(keras.layers.Bidirectional)
def bidirectional(tracer, node):
    """Both directions have the same units."""
    layer, inner = node.layer, node.layer.forward_layer
    rule = find(inner)
    if rule is not recurrent or len(node.outputs) > 1:
        raise ties.TieError("this way of wrapping a recurrent layer has no width rule")
    x = tracer.input_axes(node)[0]
    units = tracer.width(layer, "units", inner.units)
    for key in ("layer", "backward_layer"):
        if key in layer.get_config():
            tracer.set_config_paths(layer, {(key, "config", "units"): units})
    weights = _recurrent_weights(inner, x[-1], units)
    tracer.set_weights(layer, *weights, *weights)
    out = ax.concat([units, units]) if layer.merge_mode == "concat" else units
    tracer.set_like(node, out)


@width_rule(keras.layers.TimeDistributed)
def time_distributed(tracer, node):
    """The wrapped layer's rule on the tensor without its time axis."""
    tensor = node.inputs[0]
    time = tracer.axes(tensor)[1]
    inside = _without_time(tensor)
    tracer.result.axes[inside] = (tracer.axes(tensor)[0], *tracer.axes(tensor)[2:])
    result = _without_time(node.outputs[0])
    _trace_wrapped(tracer, node, [inside], [result])
    batch, *rest = tracer.axes(result)
    tracer.set_outputs(node, [batch, time, *rest])


@width_rule(*keras_layers("SpectralNormalization"))
def spectral_normalization(tracer, node):
    """The wrapped layer's rule, and a vector as long as its kernel is wide."""
    layer = node.layer
    _trace_wrapped(tracer, node, node.inputs, node.outputs)
    weights = tracer.result.weights[id(layer)]
    if len(weights) < len(layer.weights):
        place = [w is layer.vector_u for w in layer.weights].index(True)
        weights.insert(place, (ax.fixed(1), weights[0][-1]))


def _without_time(tensor):
    return Tensor((tensor.shape[0], *tensor.shape[2:]), tensor.dtype, tensor.name)


def _trace_wrapped(tracer, node, inputs, outputs):
    """Traces the layer inside a wrapper and takes over what was found."""
    wrapper, inner = node.layer, node.layer.layer
    rule = find(inner)
    if rule is None:
        raise ties.TieError(f"wrapped {type(inner).__name__} has no width rule")
    args = (inputs[0],) if len(inputs) == 1 else (list(inputs),)
    if id(wrapper) in tracer.kept:
        tracer.kept |= {id(inner)}
    rule(
        tracer,
        dataclasses.replace(node, layer=inner, args=args, kwargs={}, outputs=outputs),
    )
    for owner, key in list(tracer.result.widths):
        if owner == id(inner):
            width = tracer.result.widths.pop((owner, key))
            tracer.result.widths[(id(wrapper), key)] = width
    entries = tracer.result.config.pop(id(inner), {})
    paths = {("layer", "config", *path): value for path, value in entries.items()}
    tracer.set_config_paths(wrapper, paths)
    weights = tracer.result.weights.pop(id(inner), [])
    tracer.set_weights(wrapper, *weights)
