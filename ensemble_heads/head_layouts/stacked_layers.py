"""Layers that run all heads at once, on channels `[batch, …, heads * channels]`.

The channels of a head lie side by side, those of the first head first.
"""

import tensorflow as tf

from ensemble_heads.head_layouts.head_layout import check_num_heads
from ensemble_heads.keras_api import keras, register

# How the convolutions of all heads can be run; which is fastest is measured.
PRODUCTS = ("loop", "grouped", "matmul")


def shape_of(tensor):
    """List of the sizes: an int where it is known, else a scalar tensor."""
    dynamic = tf.shape(tensor)
    static = tensor.shape.as_list()
    return [dynamic[i] if n is None else n for i, n in enumerate(static)]


def matmul_per_head(inputs, kernel):
    """Products of every head's channels with its own matrix.

    Args:
        inputs: `[batch, …, heads * in]`.
        kernel: `[heads, in, out]`.

    Returns:
        `[batch, …, heads * out]`.
    """
    heads, size, units = kernel.shape
    shape = shape_of(inputs)
    rows = tf.transpose(tf.reshape(inputs, [-1, heads, size]), [1, 0, 2])
    products = tf.transpose(tf.matmul(rows, kernel), [1, 0, 2])
    return tf.reshape(products, [*shape[:-1], heads * units])


class _Stacked(keras.layers.Layer):
    """Base of the layers here: a number of heads, and what a kernel needs."""

    def __init__(
        self,
        num_heads,
        use_bias=True,
        activation=None,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        kernel_regularizer=None,
        bias_regularizer=None,
        kernel_constraint=None,
        bias_constraint=None,
        **kwargs,
    ):
        check_num_heads(num_heads)
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.use_bias = use_bias
        self.activation = keras.activations.get(activation)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.bias_regularizer = keras.regularizers.get(bias_regularizer)
        self.kernel_constraint = keras.constraints.get(kernel_constraint)
        self.bias_constraint = keras.constraints.get(bias_constraint)
        self.supports_masking = True

    def _channels_per_head(self, input_shape):
        channels = input_shape[-1]
        if channels is None or channels % self.num_heads:
            raise ValueError(
                "The channels must be those of all heads side by side, a multiple of "
                f"`num_heads`. Received: an input of shape {tuple(input_shape)} and "
                f"num_heads={self.num_heads}"
            )
        return channels // self.num_heads

    def _add_weights(self, kernel_shape, outputs):
        self.kernel = self.add_weight(
            name="kernel",
            shape=kernel_shape,
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
            constraint=self.kernel_constraint,
        )
        self.bias = None
        if self.use_bias:
            self.bias = self.add_weight(
                name="bias",
                shape=(self.num_heads * outputs,),
                initializer=self.bias_initializer,
                regularizer=self.bias_regularizer,
                constraint=self.bias_constraint,
            )

    def _finish(self, outputs):
        if self.use_bias:
            outputs = tf.nn.bias_add(outputs, tf.convert_to_tensor(self.bias))
        return self.activation(outputs)

    def get_config(self):
        return {
            **super().get_config(),
            "num_heads": self.num_heads,
            "use_bias": self.use_bias,
            "activation": keras.activations.serialize(self.activation),
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
            "bias_regularizer": keras.regularizers.serialize(self.bias_regularizer),
            "kernel_constraint": keras.constraints.serialize(self.kernel_constraint),
            "bias_constraint": keras.constraints.serialize(self.bias_constraint),
        }


@register
class StackedDense(_Stacked):
    """The Dense layers of all heads as one batched matrix product.

    Args:
        units: int, of one head.
        num_heads: int.
        **kwargs: the arguments of `keras.layers.Dense`.

    Input shape: `[batch, …, heads * in]`.
    Output shape: `[batch, …, heads * units]`.
    Weights: `kernel` `[heads, in, units]`, `bias` `[heads * units]`.

    Raises:
        ValueError: the channels are no multiple of `num_heads`.
    """

    def __init__(self, units, num_heads, **kwargs):
        super().__init__(num_heads, **kwargs)
        self.units = units

    def build(self, input_shape):
        size = self._channels_per_head(input_shape)
        self._add_weights((self.num_heads, size, self.units), self.units)
        super().build(input_shape)

    def call(self, inputs):
        kernel = tf.convert_to_tensor(self.kernel)
        return self._finish(matmul_per_head(inputs, kernel))

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.num_heads * self.units)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@register
class StackedConv(_Stacked):
    """The convolutions of all heads, on inputs of their own, with one kernel.

    Args:
        filters: int, of one head.
        kernel_size: tuple of 1 to 3 int.
        num_heads: int.
        strides, padding, dilation_rate, groups: as Keras' convolutions take them;
            `groups` are those of one head.
        product: `"loop"` runs one convolution after the other, `"grouped"` a single
            grouped one, in up to two dimensions, `"matmul"` a batched matrix product,
            which needs kernels of size 1. The results are the same.
        **kwargs: the other arguments of Keras' convolutions.

    Attributes:
        under_xla: bool, keeps XLA from grouped convolutions. Default False.

    Input shape: `[batch, …, heads * in]`, channels last.
    Output shape: `[batch, …, heads * filters]`.
    Weights: `kernel` `[heads, *kernel_size, in / groups, filters]`, `bias`
    `[heads * filters]`.

    Raises:
        ValueError: the channels are no multiple of `num_heads`, or an unknown or
            unfitting `product`.
    """

    def __init__(
        self,
        filters,
        kernel_size,
        num_heads,
        strides=1,
        padding="valid",
        dilation_rate=1,
        groups=1,
        product="loop",
        **kwargs,
    ):
        super().__init__(num_heads, **kwargs)
        rank = len(kernel_size)
        self.filters = filters
        self.kernel_size = tuple(kernel_size)
        self.strides = _tuple_of(strides, rank)
        self.padding = padding.lower()
        self.dilation_rate = _tuple_of(dilation_rate, rank)
        self.groups = groups
        self.product = product
        self.under_xla = False
        if product not in self.products():
            raise ValueError(
                f"`product` must be one of {self.products()} for kernels of size "
                f"{self.kernel_size}. Received: product={product!r}"
            )

    def products(self):
        """The products that this convolution can be run by."""
        sizes = {*self.kernel_size, *self.strides, self.groups}
        ruled_out = set() if sizes == {1} else {"matmul"}
        if len(self.kernel_size) == 3:
            ruled_out.add("grouped")  # TensorFlow has no kernel for it on CPUs
        return tuple(product for product in PRODUCTS if product not in ruled_out)

    def build(self, input_shape):
        size = self._channels_per_head(input_shape) // self.groups
        shape = (self.num_heads, *self.kernel_size, size, self.filters)
        self._add_weights(shape, self.filters)
        super().build(input_shape)

    def call(self, inputs):
        kernel = tf.convert_to_tensor(self.kernel)
        if self.product == "matmul":
            size = (self.num_heads, *kernel.shape[-2:])
            return self._finish(matmul_per_head(inputs, tf.reshape(kernel, size)))
        if self.padding == "causal":
            width = self.dilation_rate[0] * (self.kernel_size[0] - 1)
            inputs = tf.pad(inputs, [[0, 0], [width, 0], [0, 0]])
        # Gradients of grouped convolutions are 30 to 80 times slower by XLA on CPU.
        if self.product == "grouped" and not self.under_xla:
            rank = kernel.shape.rank
            kernel = tf.transpose(kernel, [*range(1, rank - 1), 0, rank - 1])
            size = self.num_heads * self.filters
            kernel = tf.reshape(kernel, [*kernel.shape[:-2], size])
            return self._finish(self._convolve(inputs, kernel))
        parts = tf.split(inputs, self.num_heads, axis=-1)
        kernels = tf.unstack(kernel, axis=0)
        parts = [self._convolve(*pair) for pair in zip(parts, kernels, strict=True)]
        return self._finish(tf.concat(parts, axis=-1))

    def compute_output_shape(self, input_shape):
        sizes = [
            _convolved(*sizes, self.padding)
            for sizes in zip(
                input_shape[1:-1],
                self.kernel_size,
                self.strides,
                self.dilation_rate,
                strict=True,
            )
        ]
        return (input_shape[0], *sizes, self.num_heads * self.filters)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "padding": self.padding,
            "dilation_rate": self.dilation_rate,
            "groups": self.groups,
            "product": self.product,
        }

    def _convolve(self, inputs, kernel):
        return tf.nn.convolution(
            inputs,
            kernel,
            strides=self.strides,
            padding="SAME" if self.padding == "same" else "VALID",
            dilations=self.dilation_rate,
        )


@register
class TileHeads(keras.layers.Layer):
    """Gives every head a copy of its own of what all of them see.

    Args:
        num_heads: int.

    Input shape: `[batch, …, channels]`.
    Output shape: `[batch, …, heads * channels]`.
    """

    def __init__(self, num_heads, **kwargs):
        check_num_heads(num_heads)
        super().__init__(**kwargs)
        self.num_heads = num_heads
        self.supports_masking = True

    def call(self, inputs):
        return tf.concat([inputs] * self.num_heads, axis=-1)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.num_heads * input_shape[-1])

    def get_config(self):
        return {**super().get_config(), "num_heads": self.num_heads}


@register
class HeadsAsExamples(keras.layers.Layer):
    """Runs a layer without weights on every head, as if heads were examples.

    Args:
        layer: Keras layer that has no weights and treats examples by themselves.
        num_heads: int.

    Input shape: `[batch, …, heads * channels]`, or a list of such tensors.
    Output shape: the same with the result of `layer` in place of `…, channels`.
    """

    def __init__(self, layer, num_heads, **kwargs):
        check_num_heads(num_heads)
        super().__init__(**kwargs)
        self.layer = layer
        self.num_heads = num_heads
        self.supports_masking = layer.supports_masking

    def compute_mask(self, inputs, mask=None):
        # Masks are of positions, which heads share.
        return self.layer.compute_mask(inputs, mask) if self.supports_masking else None

    def call(self, inputs):
        flat = [self._to_examples(tensor) for tensor in tf.nest.flatten(inputs)]
        outputs = self.layer(flat if isinstance(inputs, (list, tuple)) else flat[0])
        return self._from_examples(outputs)

    def compute_output_shape(self, input_shape):
        several = isinstance(input_shape[0], (list, tuple))
        shapes = [
            (*shape[:-1], shape[-1] // self.num_heads)
            for shape in (input_shape if several else [input_shape])
        ]
        shape = self.layer.compute_output_shape(shapes if several else shapes[0])
        return (*tuple(shape)[:-1], shape[-1] * self.num_heads)

    def get_config(self):
        return {
            **super().get_config(),
            "layer": keras.saving.serialize_keras_object(self.layer),
            "num_heads": self.num_heads,
        }

    @classmethod
    def from_config(cls, config):
        layer = keras.saving.deserialize_keras_object(config["layer"])
        return cls(**{**config, "layer": layer})

    def _to_examples(self, tensor):
        batch, *sizes, channels = shape_of(tensor)
        channels //= self.num_heads
        apart = tf.reshape(tensor, [batch, *sizes, self.num_heads, channels])
        last = len(sizes) + 1
        apart = tf.transpose(apart, [0, last, *range(1, last), last + 1])
        return tf.reshape(apart, [-1, *sizes, channels])

    def _from_examples(self, tensor):
        _, *sizes, channels = shape_of(tensor)
        apart = tf.reshape(tensor, [-1, self.num_heads, *sizes, channels])
        last = len(sizes) + 2
        apart = tf.transpose(apart, [0, *range(2, last), 1, last])
        return tf.reshape(apart, [-1, *sizes, self.num_heads * channels])


def heads_first(tensor, num_heads):
    """`[batch, heads, …, channels]` of `[batch, …, heads * channels]`."""
    batch, *sizes, channels = shape_of(tensor)
    apart = tf.reshape(tensor, [batch, *sizes, num_heads, channels // num_heads])
    last = len(sizes) + 1
    if not sizes:
        return apart
    return tf.transpose(apart, [0, last, *range(1, last), last + 1])


def _tuple_of(value, rank):
    return (value,) * rank if isinstance(value, int) else tuple(value)


def _convolved(size, kernel, stride, dilation, padding):
    if size is None:
        return None
    if padding == "valid":
        size -= dilation * (kernel - 1)
    return -(-size // stride)
