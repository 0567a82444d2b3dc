"""Pooling of regions of a feature map, for detection on given proposals."""

import tensorflow as tf

from ensemble_heads import axes as ax
from ensemble_heads import ties
from ensemble_heads.keras_api import keras, register
from ensemble_heads.predictions import widen
from ensemble_heads.width_rules import width_rule


@register
class RegionPooling(keras.layers.Layer):
    """Features of a grid of bins over each proposal (RoIAlign).

    A bin's value is the mean of `samples` x `samples` bilinear interpolations, evenly
    spread over it; points beyond the centres of the outermost pixels take those.
    Boxes are not rounded to pixels, so they have to be neither large nor in the
    map's own units.

    The mean of interpolations along y and x is two matrix products with weights that
    only depend on the box. So it has gradients, runs in 16 bits and under XLA
    wherever these do.

    Args:
        size: int >= 1, bins along either side.
        samples: int >= 1, samples per bin along either side.
        **kwargs: arguments of `keras.layers.Layer`.

    Input shape: a list of a feature map `[batch, height, width, channels]`, height and
        width known, and proposals `[batch, proposals, 4]`, normalised (y1, x1, y2, x2).
    Output shape: `[batch, proposals, size, size, channels]`.

    >>> features = tf.reshape(tf.range(16.0), [1, 4, 4, 1])
    >>> lower_right = tf.constant([[[0.5, 0.5, 1.0, 1.0]]])
    >>> RegionPooling(size=2, samples=1)([features, lower_right]).numpy().squeeze()
    array([[10., 11.],
           [14., 15.]], dtype=float32)

    Raises:
        ValueError: `size` or `samples` is no positive integer; inputs of other shapes.

    References:
        He et al. 2017, arXiv:1703.06870, section 3; after the RoI pooling of Girshick
        2015, arXiv:1504.08083, which takes maxima over boxes rounded to pixels.
    """

    def __init__(self, size, samples=2, **kwargs):
        super().__init__(**{"autocast": False, **kwargs})  # boxes need all their bits
        for name, value in (("size", size), ("samples", samples)):
            whole = isinstance(value, int) and not isinstance(value, bool)
            if not whole or value < 1:
                raise ValueError(
                    f"`{name}` must be a positive integer. Received: {name}={value!r}"
                )
        self.size = size
        self.samples = samples

    def build(self, input_shape):
        _check_shapes(input_shape)
        super().build(input_shape)

    def call(self, inputs):
        features, proposals = inputs
        features = tf.cast(features, self.compute_dtype)
        height, width, channels = features.shape[1:]
        y1, x1, y2, x2 = tf.unstack(widen(proposals), axis=-1)
        along_y = self._weights(y1, y2, height, features.dtype)
        along_x = self._weights(x1, x2, width, features.dtype)
        batch, count = tf.shape(proposals)[0], tf.shape(proposals)[1]
        # [batch, proposals * size, height] @ [batch, height, width * channels]
        along_y = tf.reshape(along_y, [batch, count * self.size, height])
        rows = along_y @ tf.reshape(features, [batch, height, width * channels])
        rows = tf.reshape(rows, [batch, count, self.size, width, channels])
        pooled = along_x[:, :, tf.newaxis] @ rows
        shape = self.compute_output_shape([features.shape, proposals.shape])
        return tf.ensure_shape(pooled, shape)

    def _weights(self, start, end, pixels, dtype):
        """Weights of the pixels along one axis in every bin.

        Args:
            start, end: `[batch, proposals]`.
            pixels: int.

        Returns:
            `[batch, proposals, size, pixels]`; each bin's sum to 1.
        """
        points = self.size * self.samples
        places = (tf.range(points, dtype=start.dtype) + 0.5) / points
        start, end = start[..., tf.newaxis], end[..., tf.newaxis]
        at = (start + (end - start) * places) * pixels - 0.5
        at = tf.clip_by_value(at, 0.0, pixels - 1.0)[..., tf.newaxis]
        weights = tf.maximum(1.0 - tf.abs(at - tf.range(pixels, dtype=at.dtype)), 0.0)
        shape = [tf.shape(start)[0], tf.shape(start)[1], self.size, self.samples]
        weights = tf.reduce_mean(tf.reshape(weights, [*shape, pixels]), axis=3)
        return tf.cast(weights, dtype)

    def compute_output_shape(self, input_shape):
        features, proposals = input_shape
        bins = (self.size, self.size)
        return (features[0], proposals[1], *bins, features[-1])

    def get_config(self):
        return {**super().get_config(), "size": self.size, "samples": self.samples}


def _check_shapes(shapes):
    both = isinstance(shapes, (list, tuple)) and len(shapes) == 2
    features, proposals = map(tuple, shapes) if both else ((), ())
    fits = len(features) == 4 and len(proposals) == 3 and proposals[-1] == 4
    if not fits or None in features[1:]:
        raise ValueError(
            "`inputs` must be a feature map [batch, height, width, channels], its "
            "sizes known, and proposals [batch, proposals, 4]. Received: inputs of "
            f"shapes {features}, {proposals}"
        )


@width_rule(RegionPooling)
def _region_pooling(tracer, node):
    """Channels pass; sides of the map and of the boxes keep their sizes."""
    features, proposals = tracer.input_axes(node)
    for axis in (*features[1:-1], *proposals[1:]):
        ties.pin(axis)
    bins = ax.fixed(node.layer.size)
    tracer.set_outputs(node, [features[0], proposals[1], bins, bins, features[-1]])
