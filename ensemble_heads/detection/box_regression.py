"""The loss of boxes: smooth L1 on the offsets of the proposal's own class."""

import tensorflow as tf

from ensemble_heads.keras_api import keras, register
from ensemble_heads.predictions import widen


@register
class BoxRegression(keras.losses.Loss):
    """Smooth L1 of the offsets of an object's own class; background learns no box.

    A proposal's loss is the sum over its four offsets of d^2 / 2 where |d| < 1 and
    |d| - 1/2 elsewhere; 0 for the background. Averages count every proposal, those
    of the background too, but no padding.

    >>> import ensemble_heads as eh
    >>> loss = eh.detection.BoxRegression()
    >>> target = [[[1.0, 0.0, 0.0, 0.0, 3.0], [0.0] * 5, [-1.0] + [0.0] * 4]]
    >>> float(loss(target, [[[1.0, 0.0, 0.0, 0.0]] * 3]))  # (1/2 + 5/2 + 0) / 2
    1.5

    Args:
        name: str.
        **kwargs: `reduction` and other arguments of `keras.losses.Loss`.

    Targets: `[batch, proposals, 5]`, class number (0 background, -1 padding) and
        offsets, see `assign_targets`.
    Predictions: `[batch, proposals, 4 * classes]`, the four offsets of each class.

    Raises:
        ValueError: other shapes.

    References:
        Girshick 2015, arXiv:1504.08083, equations 2 and 3.
    """

    def __init__(self, name="box_regression", **kwargs):
        super().__init__(name=name, **kwargs)

    def call(self, y_true, y_pred):
        y_true, y_pred = widen(y_true), widen(y_pred)
        _check_shapes(y_true, y_pred)
        classes = y_pred.shape[-1] // 4
        shape = tf.concat([tf.shape(y_pred)[:-1], [classes, 4]], axis=0)
        own = tf.one_hot(tf.cast(y_true[..., 0], tf.int32) - 1, classes)
        own = tf.cast(own, y_pred.dtype)[..., tf.newaxis]
        offsets = tf.reduce_sum(tf.reshape(y_pred, shape) * own, axis=-2)
        distance = tf.abs(offsets - tf.cast(y_true[..., 1:], y_pred.dtype))
        near = tf.minimum(distance, 1.0)  # so that no gradient goes through a far d^2
        losses = tf.reduce_sum(distance - near + tf.square(near) / 2, axis=-1)
        losses = tf.where(y_true[..., 0] > 0, losses, 0)
        losses._keras_mask = self.counted_positions(
            y_true
        )  # Both lines divide by what counts.
        return losses

    def counted_positions(self, y_true):
        """bool `[batch, proposals]`: which proposals count."""
        return tf.convert_to_tensor(y_true)[..., 0] >= 0


def _check_shapes(y_true, y_pred):
    fits = y_true.shape[-1] == 5 and (y_pred.shape[-1] or 1) % 4 == 0
    alike = y_true.shape[:-1].is_compatible_with(y_pred.shape[:-1])
    if not (fits and alike):
        raise ValueError(
            "`y_true` must hold a class and four offsets for each proposal, "
            "[batch, proposals, 5], and `y_pred` four offsets for each class, "
            "[batch, proposals, 4 * classes]. Received: y_true of shape "
            f"{tuple(y_true.shape)}, y_pred of shape {tuple(y_pred.shape)}"
        )
