"""Width rules of Keras' layers: convolutions, dense layers, norms, shapes, merges.

See `width_rules.width_rule` for what a rule is. Recurrent and attention layers and
wrappers are in `sequence_rules.py`.
"""

from ensemble_heads import axes as ax
from ensemble_heads.keras_api import keras
from ensemble_heads.width_rules import keras_layers, width_rule

_ONES = ax.fixed(1)


def channel_axis(layer, rank):
    """Position of the channels in a tensor of a layer with a `data_format`."""
    first = getattr(layer, "data_format", None) == "channels_first"
    return 1 if first else rank - 1


def fixed_shape(shape):
    """Axes of a shape that cannot change."""
    return tuple(ax.fixed(size) for size in shape)


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
        out = ax.product(ax.split_product(out, [groups, layer.filters // groups]))
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
            ax.split_product(axis, [layer.groups, axis.size() // layer.groups])
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
            ax.pin(axis)
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


@width_rule(keras.layers.Flatten)
def flatten(tracer, node):
    """Folds all axes but the batch into one; channels last in any data format."""
    (x,) = tracer.input_axes(node)
    rest = list(x[1:])
    if getattr(node.layer, "data_format", None) == "channels_first" and rest:
        rest = [*rest[1:], rest[0]]
    tracer.set_outputs(node, [x[0], ax.product(rest)])


@width_rule(keras.layers.Reshape)
def reshape(tracer, node):
    """Refolds the axes; sizes in `target_shape` follow the widths."""
    (x,) = tracer.input_axes(node)
    out = refold(x[1:], node.outputs[0].shape[1:])
    target = tuple(
        -1 if size == -1 else axis
        for size, axis in zip(node.layer.target_shape, out, strict=True)
    )
    tracer.set_config(node.layer, target_shape=target)
    tracer.set_outputs(node, [x[0], *out])


def refold(axes, sizes):
    """Axes of the given original sizes that hold what `axes` held, in that order."""
    if tuple(axis.size() for axis in axes) == tuple(sizes):
        return list(axes)
    if None in sizes or any(axis.size() is None for axis in axes):
        return _refold_unknown(axes, sizes)
    return ax.split_product(ax.product(list(axes)), list(sizes))


def _refold_unknown(axes, sizes):
    """The same where one run of axes is of unknown size: only the rest is matched."""
    known = 0
    while known < min(len(axes), len(sizes)) and axes[-1 - known].size() == sizes[
        -1 - known
    ] not in (None,):
        known += 1
    front = axes[: len(axes) - known]
    if any(axis.widths() for axis in front):
        raise ax.TieError("a width is folded into an axis of unknown size")
    tail = list(axes[len(axes) - known :])
    return [*fixed_shape(sizes[: len(sizes) - known]), *tail]


@width_rule(keras.layers.Permute)
def permute(tracer, node):
    """Moves the axes."""
    (x,) = tracer.input_axes(node)
    tracer.set_outputs(node, [x[0], *(x[place] for place in node.layer.dims)])


@width_rule(keras.layers.RepeatVector)
def repeat_vector(tracer, node):
    """Adds an axis before the last."""
    (x,) = tracer.input_axes(node)
    tracer.set_outputs(node, [x[0], ax.fixed(node.layer.n), x[1]])


@width_rule(keras.layers.Concatenate)
def concatenate(tracer, node):
    """Puts the axes one behind the other and ties all others."""
    tracer.set_outputs(node, join(tracer, node, node.layer.axis))


def join(tracer, node, axis):
    """Axes of the concatenation of a call's inputs."""
    shapes = tracer.input_axes(node)
    axis %= len(shapes[0])
    for shape in shapes[1:]:
        for place, (a, b) in enumerate(zip(shapes[0], shape, strict=True)):
            if place != axis and a.size() is not None and b.size() is not None:
                tracer.tie(a, b)
    out = list(tracer.input_axes(node)[0])
    out[axis] = ax.concat([shape[axis] for shape in tracer.input_axes(node)])
    return out


@width_rule(
    *keras_layers("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum")
)
def merge(tracer, node):
    """Ties all inputs, but for axes that are broadcast."""
    tracer.set_outputs(node, broadcast(tracer, node))


def broadcast(tracer, node):
    """Axes of an elementwise operation on a call's inputs, which it ties."""
    shapes = tracer.input_axes(node)
    rank = max(map(len, shapes))
    for place in range(1, rank + 1):
        aligned = [shape[-place] for shape in shapes if place <= len(shape)]
        wide = [axis for axis in aligned if axis.size() not in (1, None)]
        for axis in wide[1:]:
            tracer.tie(wide[0], axis)
    out = []
    for place in range(rank, 0, -1):
        aligned = [s[-place] for s in tracer.input_axes(node) if place <= len(s)]
        out.append(next((axis for axis in aligned if axis.size() != 1), aligned[0]))
    return out


@width_rule(keras.layers.Dot)
def dot(tracer, node):
    """Ties the two axes that are summed over."""
    first, second = tracer.input_axes(node)
    axes = node.layer.axes
    i, j = (axes, axes) if isinstance(axes, int) else axes
    i, j = i % len(first), j % len(second)
    tracer.tie(first[i], second[j])
    first, second = tracer.input_axes(node)
    left = [axis for place, axis in enumerate(first) if place != i]
    right = [axis for place, axis in enumerate(second) if place not in (0, j)]
    out = left + right
    tracer.set_outputs(node, out if len(out) > 1 else [*out, _ONES])


@width_rule(*keras_layers("Normalization"))
def adapted_normalization(tracer, node):
    """Holds statistics of these very channels, so that they keep their size."""
    (x,) = tracer.input_axes(node)
    for axis in x:
        ax.pin(axis)
    tracer.set_outputs(node, tracer.input_axes(node)[0])


@width_rule("LayerScale")
def layer_scale(tracer, node):
    """One learned factor a channel, of the size `projection_dim`."""
    (x,) = tracer.input_axes(node)
    tracer.set_config(node.layer, projection_dim=x[-1])
    tracer.set_weights(node.layer, [x[-1]])
    tracer.set_outputs(node, x)
