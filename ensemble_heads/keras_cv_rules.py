"""Width rules of the layers that keras-cv's backbones are made of.

Matched by class name, so that keras-cv need not be imported. Where a layer derives
its inner widths from its outer ones, the axes of its weights are not told: it can be
narrowed, but narrower copies cannot start from its trained weights.
"""

from ensemble_heads import axes as ax
from ensemble_heads import ties
from ensemble_heads.width_rules import width_rule


@width_rule("SqueezeAndExcite2D")
def squeeze_and_excite(tracer, node):
    """Keeps the channels; the bottleneck scales."""
    layer = node.layer
    (x,) = tracer.input_axes(node)
    one, channels = ax.fixed(1), x[-1]
    squeezed = tracer.width(layer, "bottleneck_filters", layer.bottleneck_filters)
    tracer.set_config(layer, filters=channels, bottleneck_filters=squeezed)
    tracer.set_weights(
        layer,
        [one, one, channels, squeezed],
        [squeezed],
        [one, one, squeezed, channels],
        [channels],
    )
    tracer.set_outputs(node, x)


@width_rule("MBConvBlock", "FusedMBConvBlock")
def inverted_residual_block(tracer, node):
    """Expansion and squeeze follow the input; an identity block keeps its channels."""
    layer = node.layer
    (x,) = tracer.input_axes(node)
    out = x[-1]
    if layer.strides != 1 or layer.input_filters != layer.output_filters:
        out = tracer.width(layer, "output_filters", layer.output_filters)
    tracer.set_config(layer, input_filters=x[-1], output_filters=out)
    tracer.set_like(node, out)


@width_rule("CrossStagePartial")
def cross_stage_partial(tracer, node):
    """The two halves of the channels stay equal."""
    layer = node.layer
    out = tracer.width(layer, "filters", layer.filters)
    out = ax.product(ties.split_product(out, [2, layer.filters // 2]))
    tracer.set_config(layer, filters=out)
    tracer.set_like(node, out)
