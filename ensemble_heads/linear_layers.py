"""Arithmetic of layers that are linear in their input: scaling inputs and outputs.

A layer's weights are taken as float64 arrays, so that folding several batch norms into
one layer loses nothing before the result is cast back.
"""

import dataclasses
import math

import numpy as np

from ensemble_heads.keras_api import keras

_CONVOLUTION = "convolution"  # kernel [*window, inputs / groups, outputs]
_TRANSPOSED = "transposed"  # kernel [*window, outputs, inputs]
_DEPTHWISE = "depthwise"  # kernel [*window, inputs, multiplier]
_SEPARABLE = "separable"  # depthwise kernel, then pointwise [*ones, inputs, outputs]
_DENSE = "dense"  # kernel [inputs, outputs]

# Exact classes: a subclass may do anything with its kernel (standardise it, say).
_KINDS = {
    getattr(keras.layers, name): kind
    for kind, names in {
        _CONVOLUTION: "Conv1D Conv2D Conv3D",
        _TRANSPOSED: "Conv1DTranspose Conv2DTranspose Conv3DTranspose",
        _DEPTHWISE: "DepthwiseConv1D DepthwiseConv2D",
        _SEPARABLE: "SeparableConv1D SeparableConv2D",
        _DENSE: "Dense",
    }.items()
    for name in names.split()
}


def is_foldable(layer):
    """Whether a layer is one of those known to be linear before its activation."""
    return (
        type(layer) in _KINDS
        and getattr(layer, "quantization_mode", None) is None
        and len(layer.weights) == _number_of_kernels(layer) + bool(layer.use_bias)
    )


def is_linear(layer):
    """Whether nothing but the identity comes after the layer's matrix product."""
    activation = getattr(layer, "activation", None)
    return activation is None or activation is keras.activations.linear


def channel_axis(layer, rank):
    """Position of the channels in the layer's tensors of a given rank."""
    if _KINDS[type(layer)] == _DENSE or layer.data_format == "channels_last":
        return rank - 1
    return 1


def adds_no_padding(layer, input_shape):
    """Whether every output sees every tap of the kernel on real inputs.

    Only then is a constant added to the inputs the same as a bias.

    Args:
        layer: a layer that `is_foldable`.
        input_shape: tuple with the batch; None for unknown sizes.
    """
    kind = _KINDS[type(layer)]
    if kind == _DENSE:
        return True
    if kind == _TRANSPOSED:
        return {*layer.kernel_size, *layer.strides} == {1}
    if layer.padding == "valid" or set(layer.kernel_size) == {1}:
        return True
    if layer.padding != "same":
        return False
    first = 2 if channel_axis(layer, len(input_shape)) == 1 else 1
    sizes = input_shape[first : first + len(layer.kernel_size)]
    # one number or one per axis, depending on the layer
    dilations = np.broadcast_to(layer.dilation_rate, len(sizes))
    strides = np.broadcast_to(layer.strides, len(sizes))
    return all(
        size is not None and _same_padding(size, kernel, stride, dilation) == 0
        for size, kernel, stride, dilation in zip(
            sizes, layer.kernel_size, strides, dilations, strict=True
        )
    )


@dataclasses.dataclass(frozen=True)
class LinearWeights:
    """Weights of a linear layer, float64.

    Attributes:
        layer: the layer that they come from.
        kernels: tuple of arrays, in the order of the layer's weights.
        bias: `[outputs]`; zeros where the layer has none.
        has_bias: bool, whether the layer that takes these needs a bias.
    """

    layer: object
    kernels: tuple
    bias: np.ndarray
    has_bias: bool

    @classmethod
    def of(cls, layer):
        """The weights that a layer has now."""
        arrays = [as_float64(weight) for weight in layer.weights]
        count = _number_of_kernels(layer)
        kernels, rest = tuple(arrays[:count]), arrays[count:]
        bias = rest[0] if rest else np.zeros(_number_of_outputs(layer, kernels))
        return cls(layer, kernels, bias, bool(rest))

    def then(self, scale, shift):
        """Weights that give `scale * outputs + shift`, both `[outputs]`."""
        *first, last = self.kernels
        kind = _KINDS[type(self.layer)]
        if kind == _TRANSPOSED:
            last = last * scale[:, None]
        elif kind == _DEPTHWISE:
            last = last * scale.reshape(last.shape[-2:])
        else:
            last = last * scale
        bias = self.bias * scale + shift
        return dataclasses.replace(
            self, kernels=(*first, last), bias=bias, has_bias=True
        )

    def after(self, scale, shift):
        """Weights that take x where these take `scale * x + shift`, both `[inputs]`.

        With a `shift` other than 0, exact only if `adds_no_padding`.
        """
        kind = _KINDS[type(self.layer)]
        first, *rest = self.kernels
        if kind == _TRANSPOSED:
            moved = _window_sum(first, 2) @ shift
            first = first * scale
        elif kind in (_DEPTHWISE, _SEPARABLE):
            moved = (_window_sum(first, 2) * shift[:, None]).reshape(-1)
            first = first * scale[:, None]
            if rest:
                moved = moved @ _window_sum(rest[0], 2)
        else:
            moved = self._grouped(_window_sum(first, 2), shift).sum(axis=0)
            first = self._grouped(first, scale)
        return dataclasses.replace(
            self,
            kernels=(first, *rest),
            bias=self.bias + moved,
            has_bias=self.has_bias or bool(np.any(shift)),
        )

    def arrays(self):
        """List of arrays in the order of the weights of a layer that takes these."""
        return [*self.kernels, self.bias] if self.has_bias else [*self.kernels]

    def _grouped(self, kernel, inputs):
        """`kernel * inputs`, where output group g only sees input group g."""
        groups = getattr(self.layer, "groups", 1)
        width, outputs = kernel.shape[-2:]
        columns = inputs.reshape(groups, width).T  # [width, groups]
        return kernel * np.repeat(columns, outputs // groups, axis=1)


def as_float64(weight):
    """A variable's value as a float64 array."""
    return np.asarray(weight.numpy()).astype(np.float64)


def _number_of_kernels(layer):
    return 2 if _KINDS[type(layer)] == _SEPARABLE else 1


def _number_of_outputs(layer, kernels):
    *_, inner, outer = kernels[-1].shape
    kind = _KINDS[type(layer)]
    if kind == _DEPTHWISE:
        return inner * outer
    return inner if kind == _TRANSPOSED else outer


def _window_sum(kernel, channel_axes):
    return kernel.sum(axis=tuple(range(kernel.ndim - channel_axes)))


def _same_padding(size, kernel, stride, dilation):
    """Zeros that padding `same` adds along one axis."""
    covered = (math.ceil(size / stride) - 1) * stride + (kernel - 1) * dilation + 1
    return max(covered - size, 0)
