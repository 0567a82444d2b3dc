"""Width rules of Keras' layers: convolutions, dense layers, norms, elementwise ones.

See `width_rules.width_rule` for what a rule is. Layers that fold or join axes are in
`shape_rules.py`, recurrent and attention layers in `sequence_rules.py`.
"""

from ensemble_heads import axes as ax
from ensemble_heads import ties
from ensemble_heads.keras_api import keras
from ensemble_heads.shape_rules import fixed_shape
from ensemble_heads.width_rules import keras_layers, width_rule

_ONES = ax.fixed(1)


def channel_axis(layer, rank):
    """Position of the channels in a tensor of a layer with a `data_format`."""
    first = getattr(layer, "data_format", None) == "channels_first"
    return 1 if first else rank - 1


def optional(layer, flag, axes):
    """The weight's axes in a list; an empty one where the layer's flag is off."""
    return [axes] if getattr(layer, flag) else []


@width_rule(
    *keras_layers(
        "Conv1D",
        "Conv2D",
        "Conv3D",
        "Conv1DTranspose",
        "Conv2DTranspose",
        "Conv3DTranspose",
    )
)
def convolution(tracer, node):
    """Plain, grouped and transposed convolutions."""
    layer = node.layer
    (x,) = tracer.input_axes(node)
    channel = channel_axis(layer, len(x))
    features, groups = x[channel], getattr(layer, "groups", 1)
    inputs = features
    if groups == 1:
        out = tracer.width(layer, "filters", layer.filters)
    elif groups == features.size():
        # one channel a group, as a depthwise convolution: there are as many groups
        # as channels, so the number of groups is what scales
        inputs = _ONES
        out = ax.product([features, ax.fixed(layer.filters // groups)])
        tracer.set_config(layer, groups=features)
    else:
        width = ax.variable(
            ax.Width(features.size() // groups, layer.name, unit=groups)
        )
        tracer.tie(features, ax.product([ax.fixed(groups), width]))
        inputs = width.resolve()
        out = tracer.width(layer, "filters", layer.filters)
        out = ax.product(ties.split_product(out, [groups, layer.filters // groups]))
    tracer.set_config(layer, filters=out)
    last = [out, inputs] if "Transpose" in type(layer).__name__ else [inputs, out]
    kernel = [*fixed_shape(layer.kernel_size), *last]
    tracer.set_weights(layer, kernel, *optional(layer, "use_bias", [out]))
    tracer.set_like(node, out, channel)


@width_rule(*keras_layers("DepthwiseConv1D", "DepthwiseConv2D"))
def depthwise_convolution(tracer, node):
    """Every channel becomes `depth_multiplier` channels."""
    layer = node.layer
    (x,) = tracer.input_axes(node)
    channel = channel_axis(layer, len(x))
    out = ax.product([x[channel], ax.fixed(layer.depth_multiplier)])
    kernel = [*fixed_shape(layer.kernel_size), x[channel]]
    kernel.append(ax.fixed(layer.depth_multiplier))
    tracer.set_weights(layer, kernel, *optional(layer, "use_bias", [out]))
    tracer.set_like(node, out, channel)


@width_rule(*keras_layers("SeparableConv1D", "SeparableConv2D"))
def separable_convolution(tracer, node):
    """A depthwise convolution, then a pointwise one."""
    layer = node.layer
    (x,) = tracer.input_axes(node)
    channel = channel_axis(layer, len(x))
    multiplier = ax.fixed(layer.depth_multiplier)
    out = tracer.width(layer, "filters", layer.filters)
    depthwise = [*fixed_shape(layer.kernel_size), x[channel], multiplier]
    pointwise = [_ONES for _ in layer.kernel_size]
    pointwise += [ax.product([x[channel], multiplier]), out]
    tracer.set_config(layer, filters=out)
    tracer.set_weights(layer, depthwise, pointwise, *optional(layer, "use_bias", [out]))
    tracer.set_like(node, out, channel)


@width_rule(keras.layers.Dense)
def dense(tracer, node):
    """The last axis becomes `units`."""
    layer = node.layer
    (x,) = tracer.input_axes(node)
    out = tracer.width(layer, "units", layer.units)
    tracer.set_config(layer, units=out)
    tracer.set_weights(layer, [x[-1], out], *optional(layer, "use_bias", [out]))
    tracer.set_outputs(node, [*x[:-1], out])


@width_rule(keras.layers.EinsumDense)
def einsum_dense(tracer, node):
    """Axes by the letters of the equation; of several new axes the last one scales."""
    layer = node.layer
    (x,) = tracer.input_axes(node)
    left, right = layer.equation.replace(" ", "").split("->")
    taken, weight = left.split(",")
    out_shape = node.outputs[0].shape
    letters = dict(_letters(taken, x))
    sizes = dict(_letters(right, out_shape))
    new = [letter for letter in weight if letter in sizes and letter not in letters]
    for letter in new[:-1]:
        letters[letter] = ax.fixed(sizes[letter])
    for letter in new[-1:]:
        letters[letter] = tracer.width(layer, "output_shape", sizes[letter])
    out = [letters[letter] for letter, _ in _letters(right, out_shape)]
    shape = tuple(None if a.size() is None else a for a in out[1:])
    tracer.set_config(layer, output_shape=shape)
    weights = [[letters[letter] for letter in weight]]
    if layer.bias_axes:
        bias = sorted(layer.bias_axes, key=right.index)
        first = min(right.index(letter) for letter in bias)
        weights.append(
            [
                letters[letter] if letter in layer.bias_axes else _ONES
                for letter in right[first:]
            ]
        )
    tracer.set_weights(layer, *weights)
    tracer.set_outputs(node, out)


def _letters(equation_part, axes):
    """Pairs of letter and axis; an ellipsis takes what the letters leave over."""
    before, dots, after = equation_part.partition("...")
    pairs = list(zip(before, axes, strict=not dots))
    if dots:
        end = len(axes) - len(after)
        middle = axes[len(before) : end]
        # counted from the right, since the ellipses of two terms align there
        pairs += [(f".{len(middle) - i}", axis) for i, axis in enumerate(middle)]
        pairs += list(zip(after, axes[end:], strict=True))
    return pairs


@width_rule(*keras_layers("BatchNormalization", "LayerNormalization"))
def normalization(tracer, node):
    """Keeps the shape; weights on the normalised axis or axes."""
    layer = node.layer
    (x,) = tracer.input_axes(node)[:1]
    positions = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
    weight = [x[position] for position in positions]
    weights = optional(layer, "scale", weight) + optional(layer, "center", weight)
    if isinstance(layer, keras.layers.BatchNormalization):
        weights += [weight, weight]
    elif getattr(layer, "rms_scaling", False):
        weights = weights[:1]
    tracer.set_weights(layer, *weights)
    tracer.set_outputs(node, x)


@width_rule(*keras_layers("RMSNormalization"))
def rms_normalization(tracer, node):
    """Keeps the shape; one scale on the normalised axes."""
    (x,) = tracer.input_axes(node)
    axis = node.layer.axis
    positions = axis if isinstance(axis, (list, tuple)) else [axis]
    tracer.set_weights(node.layer, [x[position] for position in positions])
    tracer.set_outputs(node, x)


@width_rule(*keras_layers("GroupNormalization"))
def group_normalization(tracer, node):
    """Keeps the number of groups; one group a channel stays so."""
    layer = node.layer
    (x,) = tracer.input_axes(node)
    axis = x[layer.axis]
    if layer.groups == axis.size():
        tracer.set_config(layer, groups=axis)
    elif layer.groups > 1:
        axis = ax.product(
            ties.split_product(axis, [layer.groups, axis.size() // layer.groups])
        )
    weights = optional(layer, "scale", [axis]) + optional(layer, "center", [axis])
    tracer.set_weights(layer, *weights)
    tracer.set_outputs(node, tracer.input_axes(node)[0])


@width_rule(keras.layers.PReLU)
def parametric_relu(tracer, node):
    """Keeps the shape; one slope for each position that is not shared."""
    (x,) = tracer.input_axes(node)
    shared = node.layer.shared_axes or ()
    alpha = [_ONES if i in shared else axis for i, axis in enumerate(x) if i]
    tracer.set_weights(node.layer, alpha)
    tracer.set_outputs(node, x)


@width_rule(
    *keras_layers(
        "Activation",
        "ReLU",
        "LeakyReLU",
        "ELU",
        "ThresholdedReLU",
        "Softmax",
        "Dropout",
        "SpatialDropout1D",
        "SpatialDropout2D",
        "SpatialDropout3D",
        "GaussianNoise",
        "GaussianDropout",
        "AlphaDropout",
        "ActivityRegularization",
        "UnitNormalization",
        "Masking",
        "Identity",
    )
)
def same_shape(tracer, node):
    """Elementwise layers without weights."""
    tracer.set_outputs(node, tracer.input_axes(node)[0])


@width_rule(
    *keras_layers(
        *(
            f"{kind}Pooling{rank}D"
            for kind in ("Max", "Average", "GlobalMax", "GlobalAverage")
            for rank in (1, 2, 3)
        ),
        *(
            f"{kind}{rank}D"
            for kind in ("UpSampling", "ZeroPadding", "Cropping")
            for rank in (1, 2, 3)
        ),
    )
)
def spatial(tracer, node):
    """Layers that treat every channel alike: pooling, padding, resizing."""
    (x,) = tracer.input_axes(node)[:1]
    out = len(node.outputs[0].shape)
    position = channel_axis(node.layer, len(x))
    channel = out - 1 if position == len(x) - 1 else 1
    for place, axis in enumerate(x):
        if place != position:
            ties.pin(axis)
    tracer.set_like(node, x[position], channel)


@width_rule(keras.layers.Embedding)
def embedding(tracer, node):
    """Adds an axis of `output_dim`."""
    layer = node.layer
    (x,) = tracer.input_axes(node)
    out = tracer.width(layer, "output_dim", layer.output_dim)
    tracer.set_config(layer, output_dim=out)
    tracer.set_weights(layer, [ax.fixed(layer.input_dim), out])
    tracer.set_outputs(node, [*x, out])


@width_rule(*keras_layers("Normalization"))
def adapted_normalization(tracer, node):
    """Holds statistics of these very channels, so that they keep their size."""
    (x,) = tracer.input_axes(node)
    for axis in x:
        ties.pin(axis)
    tracer.set_outputs(node, tracer.input_axes(node)[0])


@width_rule("LayerScale")
def layer_scale(tracer, node):
    """One learned factor a channel, of the size `projection_dim`."""
    (x,) = tracer.input_axes(node)
    tracer.set_config(node.layer, projection_dim=x[-1])
    tracer.set_weights(node.layer, [x[-1]])
    tracer.set_outputs(node, x)
