"""What metrics share that see the predictions of all heads at once."""

import numbers

import tensorflow as tf

from ensemble_heads.metrics.checked_metric import CheckedMetric
from ensemble_heads.metrics.summed_metric import add_to


class AllHeadsMetric(CheckedMetric):
    """Base of means over examples of a number that all heads make together.

    `eh.MultiHeadModel.compile` knows it by `of_all_heads`: it feeds such a metric the
    stack of all heads instead of one prediction, and logs it once.

    A metric of one's own defines `measure`.

    Every example has one class; targets of several labels are refused. Examples of
    weight 0 are left out, whatever they hold, and so in `fit` are those whose labels
    the loss or the model leaves out.

    Args:
        threshold: float, above which an output of one unit says yes. 0.5 is for
            probabilities; raw outputs need 0.
        name: str.
        dtype: dtype of the result.

    Input:
        `y_true`: class numbers `[batch, …]` or `[batch, …, 1]`, or one-hot or soft
        `[batch, …, classes]`. `y_pred`: `[batch, heads, …, classes]`, any scores of
        which higher is better. `sample_weight`: `[batch, …]`, or with fewer axes, of
        finite numbers of at least 0.

    Attributes:
        of_all_heads: True.
        uses_labels: bool; one that does not takes labels that are none, too.
    """

    of_all_heads = True
    uses_labels = True
    rules = (
        "`y_pred` must not be NaN, which has no rank",
        "`y_true` must be class numbers from 0, or have one highest class",
        "`sample_weight` must be finite and at least 0",
    )

    def __init__(self, threshold=0.5, name=None, dtype=None):
        super().__init__(name=name, dtype=dtype)
        if not isinstance(threshold, numbers.Real):
            raise ValueError(
                f"`threshold` must be a number. Received: threshold={threshold!r}"
            )
        self.threshold = float(threshold)
        # float64: float32 loses examples from 2^24 on, and digits long before.
        self._total, self._count = (
            self.add_weight(name=part, shape=(), initializer="zeros", dtype="float64")
            for part in ("total", "count")
        )

    def measure(self, labels, classes, num_classes):
        """The number of every example (or position).

        Args:
            labels: int32 `[batch, …]`, the true classes.
            classes: int32 `[batch, heads, …]`, those that the heads predict.
            num_classes: int, at least 2.

        Returns:
            `[batch, …]`, of any dtype that casts to float64.
        """
        raise NotImplementedError

    def update_state(self, y_true, y_pred, sample_weight=None):
        labels, scores = tf.convert_to_tensor(y_true), tf.convert_to_tensor(y_pred)
        _check_shapes(labels, scores)
        labels, wrong, classes = self._classes(labels, scores)
        num_classes = max(scores.shape[-1], 2)
        values = self.measure(labels, classes, num_classes)
        values = tf.cast(values, tf.float64)
        weights = _weights(sample_weight, values)
        wrong |= (labels < 0) | (labels >= num_classes)
        wrong &= self.uses_labels
        absent = tf.reduce_any(tf.math.is_nan(scores), axis=[1, -1])
        counts = weights != 0
        bad_weights = ~(tf.math.is_finite(weights) & (weights >= 0))
        self._count_refused(absent & counts, wrong & counts, bad_weights)
        add_to(self._total, tf.reduce_sum(values * weights))
        add_to(self._count, tf.reduce_sum(weights))

    def result(self):
        total, count = map(tf.convert_to_tensor, (self._total, self._count))
        return self._checked(tf.math.divide_no_nan(total, count))

    def get_config(self):
        return {**super().get_config(), "threshold": self.threshold}

    def _classes(self, labels, scores):
        """True classes, whether there is none, and predicted classes.

        int32 and bool `[batch, …]`, int32 `[batch, heads, …]`.
        """
        if scores.shape[-1] == 1:
            said = tf.cast(scores[..., 0] > self.threshold, tf.int32)
        else:
            said = tf.argmax(scores, axis=-1, output_type=tf.int32)
        same_rank = labels.shape.rank == scores.shape.rank - 1
        if same_rank and labels.shape[-1] != 1:
            shares = tf.cast(labels, tf.float32)
            highest = shares == tf.reduce_max(shares, axis=-1, keepdims=True)
            wrong = tf.math.count_nonzero(highest, axis=-1) != 1  # NaN is none
            return tf.argmax(shares, axis=-1, output_type=tf.int32), wrong, said
        labels = labels[..., 0] if same_rank else labels
        whole = tf.cast(labels, tf.int32)
        return whole, tf.cast(whole, labels.dtype) != labels, said


def _check_shapes(labels, scores):
    stack, rank = scores.shape, labels.shape.rank
    if stack.rank is None or stack.rank < 3 or None in (stack[1], stack[-1]):
        raise ValueError(
            "`y_pred` must be the predictions of all heads, of shape [batch, heads, …, "
            f"classes]. Received: y_pred of shape {stack}"
        )
    one = stack[:1].concatenate(stack[2:])
    fits = rank == one.rank and labels.shape[-1] in (1, one[-1])
    fits = fits and labels.shape[:-1].is_compatible_with(one[:-1])
    if not fits and not (
        rank == one.rank - 1 and labels.shape.is_compatible_with(one[:-1])
    ):
        raise ValueError(
            f"`y_true` must be of shape {one[:-1]} or {one} for such predictions. "
            f"Received: y_true of shape {labels.shape}, y_pred of shape {stack}"
        )


def _weights(sample_weight, values):
    """Weights of the shape of the values, whose first axes they may have."""
    if sample_weight is None:
        return tf.ones_like(values)
    weights = tf.cast(tf.convert_to_tensor(sample_weight), tf.float64)
    if weights.shape.rank == values.shape.rank + 1 and weights.shape[-1] == 1:
        weights = weights[..., 0]
    if weights.shape.rank > values.shape.rank:
        raise ValueError(
            "`sample_weight` must be of the shape of class numbers, or have fewer "
            f"axes. Received: sample_weight of shape {weights.shape} for {values.shape}"
        )
    while weights.shape.rank < values.shape.rank:
        weights = weights[..., tf.newaxis]
    return tf.broadcast_to(weights, tf.shape(values))
