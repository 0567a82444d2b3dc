"""What metrics of scored labels share: the form of their input, and its checks."""

import tensorflow as tf

from ensemble_heads.metrics.checked_metric import CheckedMetric
from ensemble_heads.metrics.summed_metric import add_to


class ScoredMetric(CheckedMetric):
    """Base of metrics that compare targets with scores; does nothing itself.

    Examples of weight 0 are left out entirely, whatever they hold.
    """

    rules = (
        "`y_pred` must not be NaN, which has no rank",
        "`y_true` must be multi-hot, 0 or 1",
        "`sample_weight` must be finite and at least 0",
    )

    def __init__(self, name=None, dtype=None):
        super().__init__(name=name, dtype=dtype)
        self._direction = "up"  # Keras 3 callbacks: higher is better

    def _take(self, y_true, y_pred, sample_weight):
        """Checked input of one batch.

        Args:
            y_true: `[batch, classes]`, multi-hot, of any dtype.
            y_pred: `[batch, classes]`, of any floating dtype.
            sample_weight: `[batch]` or `[batch, 1]` or one number, >= 0, or None.

        Returns:
            (bool labels `[batch, classes]`, float32 scores `[batch, classes]`,
            float64 weights `[batch]`).

        Raises:
            ValueError: wrong shapes.
        """
        labels, scores = tf.convert_to_tensor(y_true), tf.convert_to_tensor(y_pred)
        _check_shapes(labels, scores)
        scores = tf.cast(scores, tf.float32)
        labels = labels if labels.dtype != tf.bool else tf.cast(labels, tf.uint8)
        right = labels == 1
        wrong = right != (labels != 0)  # NaN is neither
        absent = tf.math.is_nan(scores)
        weights = _weights(sample_weight, scores)
        bad_weights = ~(tf.math.is_finite(weights) & (weights >= 0))
        if sample_weight is not None:
            counts = (weights != 0)[:, tf.newaxis]
            right, wrong, absent = right & counts, wrong & counts, absent & counts
            scores = tf.where(counts, scores, tf.zeros_like(scores))
            weights = tf.where(bad_weights, tf.zeros_like(weights), weights)
        self._count_refused(absent, wrong, bad_weights)
        return right, scores, weights


class AveragedMetric(ScoredMetric):
    """Base of weighted means of one number per example; does nothing itself."""

    def __init__(self, name=None, dtype=None):
        super().__init__(name=name, dtype=dtype)
        # float64: float32 loses examples from 2^24 on, and digits long before.
        self._total, self._count = (
            self.add_weight(name=part, shape=(), initializer="zeros", dtype="float64")
            for part in ("total", "count")
        )

    def result(self):
        total, count = map(tf.convert_to_tensor, (self._total, self._count))
        return self._checked(tf.math.divide_no_nan(total, count))

    def _add(self, values, weights):
        add_to(self._total, tf.reduce_sum(tf.cast(values, tf.float64) * weights))
        add_to(self._count, tf.reduce_sum(weights))


def _check_shapes(labels, scores):
    both = f"y_true of shape {labels.shape} and y_pred of shape {scores.shape}"
    if labels.shape.rank != 2 or scores.shape.rank != 2:
        raise ValueError(
            f"`y_true` and `y_pred` must be of shape [batch, classes]. Received: {both}"
        )
    if not labels.shape.is_compatible_with(scores.shape):
        raise ValueError(
            f"`y_true` and `y_pred` must be of the same shape. Received: {both}"
        )
    if not scores.dtype.is_floating:
        raise ValueError(
            f"`y_pred` must be of a floating dtype. Received: {scores.dtype.name}"
        )


def _weights(sample_weight, scores):
    batch = tf.shape(scores)[0]
    if sample_weight is None:
        return tf.ones([batch], tf.float64)
    weights = tf.cast(tf.convert_to_tensor(sample_weight), tf.float64)
    rank = weights.shape.rank
    if rank == 2 and weights.shape[1] == 1:
        weights = weights[:, 0]
    elif rank == 0:
        weights = tf.fill([batch], weights)
    elif rank != 1:
        raise ValueError(
            "`sample_weight` must be one number per example, of shape [batch]. "
            f"Received: sample_weight of shape {weights.shape}"
        )
    if not weights.shape.is_compatible_with(scores.shape[:1]):
        raise ValueError(
            "`sample_weight` must have as many entries as `y_pred` examples. Received: "
            f"sample_weight of shape {weights.shape}, y_pred of shape {scores.shape}"
        )
    return weights
