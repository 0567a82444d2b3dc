"""Layers over the frames of videos: masks of padding, and poolings that respect them.

A batch of videos is padded to the length of the longest. Here padded frames never
count: a video gives the same result however far it is padded, in training too, and
whatever the padding holds. A video without any frame gives zeros.
"""

import tensorflow as tf

from ensemble_heads import axes as ax
from ensemble_heads import ties
from ensemble_heads.keras_api import keras, register
from ensemble_heads.predictions import widen
from ensemble_heads.shape_rules import fixed_shape
from ensemble_heads.width_rules import width_rule

# Where the sum of |x| is below, the squares have left float32 and the result is 0.
_SMALLEST = 1e-18


@register
class FrameMask(keras.layers.Layer):
    """Which frames of each video are real, from the number of its frames.

    Call arguments: `num_frames`, integers `[batch]` (a negative one counts as 0, one
    beyond the frames as all of them), and `frames`, `[batch, frames, ...]`, of which
    only the shape is used.
    Output shape: bool `[batch, frames]`.

    >>> FrameMask()(tf.constant([1, 3]), tf.zeros([2, 3, 5])).numpy().tolist()
    [[True, False, False], [True, True, True]]
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def compute_mask(self, num_frames, mask=None):
        return None

    def call(self, num_frames, frames):
        return tf.sequence_mask(num_frames, tf.shape(frames)[1])


@register
class ClearPadding(keras.layers.Layer):
    """Frames with zeros where `mask` is false, NaN and infinities included.

    Call arguments: frames `[batch, frames, features]`, and `mask`, bool
    `[batch, frames]`; without one all frames are kept.
    Output shape: that of the frames.

    >>> x = tf.constant([[[1.0], [float("nan")]]])
    >>> ClearPadding()(x, mask=tf.constant([[True, False]])).numpy().tolist()
    [[[1.0], [0.0]]]
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, inputs, mask=None):
        return clear(inputs, mask)


class FramePooling(keras.layers.Layer):
    """What the poolings over frames have in common.

    Call arguments: frames `[batch, frames, features]`, and `mask`, bool
    `[batch, frames]`; without one all frames count. Both sizes may be unknown.
    Output shape: `[batch, features]`, in the layer's compute dtype. Sums are in
    float32 also for float16 and bfloat16. A video without frames gives 0.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True  # takes one, and gives none

    def compute_mask(self, inputs, mask=None):
        return None

    def call(self, inputs, mask=None):
        pooled = self.pool(clear(widen(inputs), mask), mask)
        return tf.cast(pooled, inputs.dtype)

    def pool(self, frames, mask):
        """Pools frames, 0 where padded and of 32 bits at least; `mask` may be None."""
        raise NotImplementedError


@register
class SelfWeightedAveragePooling(FramePooling):
    """SWAP: sum_i |x_i| x_i / sum_i |x_i| per feature; 0 where all x_i are 0.

    Its gradient is 0 there too. Shapes as for `FramePooling`.

    >>> SelfWeightedAveragePooling()(tf.constant([[[1.0], [-3.0]]])).numpy().tolist()
    [[-2.0]]

    References:
        EnsembleNet, equation 4.
    """

    def pool(self, frames, mask):
        sizes = tf.abs(frames)
        total = tf.reduce_sum(sizes, axis=1)
        some = total > _SMALLEST
        mean = tf.reduce_sum(sizes * frames, axis=1) / tf.where(some, total, 1.0)
        return tf.where(some, mean, 0.0)


@register
class AverageFramePooling(FramePooling):
    """The mean over the real frames. Shapes as for `FramePooling`.

    >>> x = tf.constant([[[1.0], [3.0], [9.0]]])
    >>> mask = tf.constant([[True, True, False]])
    >>> AverageFramePooling()(x, mask=mask).numpy().tolist()
    [[2.0]]
    """

    def pool(self, frames, mask):
        total = tf.reduce_sum(frames, axis=1)
        if mask is None:
            count = tf.cast(tf.shape(frames)[1], total.dtype)
        else:
            count = tf.reduce_sum(tf.cast(mask, total.dtype), axis=1, keepdims=True)
        return total / tf.maximum(count, 1.0)


@register
class MaxFramePooling(FramePooling):
    """The largest value of each feature over the real frames; as `FramePooling`.

    >>> x = tf.constant([[[-1.0], [-3.0], [0.0]]])
    >>> mask = tf.constant([[True, True, False]])
    >>> MaxFramePooling()(x, mask=mask).numpy().tolist()
    [[-1.0]]
    """

    def pool(self, frames, mask):
        least = frames.dtype.min
        if mask is not None:
            frames = tf.where(mask[..., tf.newaxis], frames, least)
        largest = tf.reduce_max(frames, axis=1)
        return tf.where(largest > least, largest, 0.0)


@register
class AttentionFramePooling(FramePooling):
    """sum_i a_i x_i with a = softmax_i(v . x_i) over the real frames, v learned.

    One weight a frame, shared by all features. Shapes as for `FramePooling`.

    Args:
        kernel_initializer: of v, `[features, 1]`. Zeros would begin as the average.
        kernel_regularizer: of v.
    """

    def __init__(
        self, kernel_initializer="glorot_uniform", kernel_regularizer=None, **kwargs
    ):
        super().__init__(**kwargs)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)

    def build(self, input_shape):
        self.kernel = self.add_weight(
            name="kernel",
            shape=(input_shape[-1], 1),
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
        )
        self.built = True

    def pool(self, frames, mask):
        scores = tf.matmul(frames, tf.cast(self.kernel, frames.dtype))
        if mask is not None:
            scores = tf.where(mask[..., tf.newaxis], scores, scores.dtype.min)
        weights = clear(tf.nn.softmax(scores, axis=1), mask)
        return tf.reduce_sum(weights * frames, axis=1)

    def get_config(self):
        return {
            **super().get_config(),
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "kernel_regularizer": keras.regularizers.serialize(self.kernel_regularizer),
        }


POOLINGS = {
    "swap": SelfWeightedAveragePooling,
    "average": AverageFramePooling,
    "max": MaxFramePooling,
    "attention": AttentionFramePooling,
}


@register
class SplitFeatures(keras.layers.Layer):
    """Cuts the last axis into consecutive pieces.

    Args:
        sizes: sizes of the pieces, which make up the whole axis.

    Input shape: `[batch, ..., sum of sizes]`.
    Output shape: a list of `[batch, ..., size]`.

    >>> [x.shape.as_list() for x in SplitFeatures((2, 1))(tf.ones([4, 3]))]
    [[4, 2], [4, 1]]

    Raises:
        ValueError: the last axis of the inputs is not as long as all pieces.
    """

    def __init__(self, sizes, **kwargs):
        super().__init__(**kwargs)
        self.sizes = tuple(sizes)
        self.supports_masking = True

    def build(self, input_shape):
        if input_shape[-1] != sum(self.sizes):
            raise ValueError(
                f"`sizes` must sum to the last axis of the inputs, {input_shape[-1]}. "
                f"Received: sizes={self.sizes}"
            )
        self.built = True

    def compute_mask(self, inputs, mask=None):
        return [mask for _ in self.sizes]

    def call(self, inputs):
        return tf.split(inputs, self.sizes, axis=-1)

    def get_config(self):
        return {**super().get_config(), "sizes": self.sizes}


def clear(values, mask):
    """Values `[batch, frames, ...]` with 0 where `mask` is false; all without one."""
    if mask is None:
        return values
    return tf.where(mask[..., tf.newaxis], values, tf.zeros([], values.dtype))


@width_rule(FrameMask)
def _frame_mask(tracer, node):
    tracer.set_outputs(node, fixed_shape(node.outputs[0].shape))


@width_rule(ClearPadding)
def _clear_padding(tracer, node):
    tracer.set_outputs(node, tracer.input_axes(node)[0])


@width_rule(FramePooling)
def _frame_pooling(tracer, node):
    batch, _, features = tracer.input_axes(node)[0]
    weights = [[features, ax.fixed(1)] for _ in node.layer.weights]
    tracer.set_weights(node.layer, *weights)
    tracer.set_outputs(node, [batch, features])


@width_rule(SplitFeatures)
def _split_features(tracer, node):
    *lead, features = tracer.input_axes(node)[0]
    ties.pin(features)
    tracer.set_outputs(node, *([*lead, ax.fixed(size)] for size in node.layer.sizes))
