"""Aggregation of frames by what they differ in from learned centres (NeXtVLAD)."""

import tensorflow as tf

from ensemble_heads import axes as ax
from ensemble_heads import ties
from ensemble_heads.keras_api import keras, register
from ensemble_heads.predictions import widen
from ensemble_heads.width_rules import width_rule
from zoo.frame_layers import clear


@register
class GroupedVLAD(keras.layers.Layer):
    """NeXtVLAD's sum of residuals over frames and groups.

    A frame's D features are read as G groups of D / G. With the group's attention
    s_ig and its soft assignment a_ig = softmax_k(logits), cluster k collects
    V_k = sum_{i,g} s_ig a_igk (x_ig - c_k), scaled to unit length per cluster. The
    centres c_k are shared by the groups. All of it is in float32 at least.

    Call arguments: a list of frames `[batch, frames, D]`, attention
    `[batch, frames, G]` in [0, 1] and logits of the assignment
    `[batch, frames, G * K]`, the clusters of the first group first; and `mask`, bool
    `[batch, frames]`, of the frames that count.
    Output shape: `[batch, D / G * K]`, the clusters of the first feature first, in the
    compute dtype. A video without frames gives 0.
    Weights: `centers` `[D / G, K]`.

    Args:
        groups: int, G, which must divide D.
        centers_initializer: of the centres.

    Raises:
        ValueError: `groups` does not divide the features or the logits, or is not
            what the attention has.

    References:
        Lin, Xiao & Fan 2018, arXiv:1811.05014, equations 4 to 7.
    """

    def __init__(self, groups, centers_initializer="he_normal", **kwargs):
        super().__init__(**kwargs)
        self.groups = groups
        self.centers_initializer = keras.initializers.get(centers_initializer)
        self.supports_masking = True  # takes one, and gives none

    def build(self, input_shape):
        features, attention, logits = (shape[-1] for shape in input_shape)
        if features % self.groups or logits % self.groups or attention != self.groups:
            raise ValueError(
                "`groups` must be the last axis of the attention and divide those of "
                f"frames and assignment, {attention}, {features} and {logits}. "
                f"Received: groups={self.groups}"
            )
        self.centers = self.add_weight(
            name="centers",
            shape=(features // self.groups, logits // self.groups),
            initializer=self.centers_initializer,
        )
        self.built = True

    def compute_mask(self, inputs, mask=None):
        return None

    def call(self, inputs, mask=None):
        frames, attention, logits = (widen(x) for x in inputs)
        size, clusters = self.centers.shape
        weights = tf.nn.softmax(self._by_group(logits, clusters))
        weights *= self._by_group(clear(attention, mask), 1)
        frames = self._by_group(clear(frames, mask), size)
        sums = tf.matmul(frames, weights, transpose_a=True)  # [batch, D / G, K]
        shares = tf.reduce_sum(weights, axis=1, keepdims=True)
        residuals = sums - shares * tf.cast(self.centers, sums.dtype)
        residuals = tf.nn.l2_normalize(residuals, axis=1)
        pooled = tf.reshape(residuals, [-1, size * clusters])
        return tf.cast(pooled, self.compute_dtype)

    def _by_group(self, values, size):
        """`[batch, frames, groups * size]` -> `[batch, frames * groups, size]`."""
        shape = tf.shape(values)
        return tf.reshape(values, [shape[0], shape[1] * self.groups, size])

    def get_config(self):
        initializer = keras.initializers.serialize(self.centers_initializer)
        own = {"groups": self.groups, "centers_initializer": initializer}
        return {**super().get_config(), **own}


@width_rule(GroupedVLAD)
def _grouped_vlad(tracer, node):
    """The groups stay; features of a group and clusters scale."""
    frames, attention, logits = tracer.input_axes(node)
    groups = node.layer.groups
    ties.pin(attention[-1])
    parts = []
    for axis in (frames[-1], logits[-1]):
        parts.append(ties.split_product(axis, [groups, axis.size() // groups])[1])
    tracer.set_weights(node.layer, parts)
    tracer.set_outputs(node, [frames[0], ax.product(parts)])
