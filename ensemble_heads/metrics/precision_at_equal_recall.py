"""PERR, the precision at equal recall rate."""

import tensorflow as tf

from ensemble_heads.keras_api import register
from ensemble_heads.metrics.entry_buffer import under_xla
from ensemble_heads.metrics.ranking import best_classes
from ensemble_heads.metrics.scored_metric import AveragedMetric

_EMPTY = ("zero", "skip")


@register
class PrecisionAtEqualRecall(AveragedMetric):
    """Precision among as many best predictions as an example has labels, averaged.

    Of equal scores the lower class comes first. (The YouTube-8M starter code also
    takes no prediction of 0 or less for a hit, which tells apart no probabilities.)

    >>> from ensemble_heads import metrics
    >>> metric = metrics.PrecisionAtEqualRecall()
    >>> metric.update_state([[1, 0, 1], [0, 1, 0]], [[0.1, 0.2, 0.7], [0.4, 0.5, 0.1]])
    >>> float(metric.result())  # (1/2 + 1/1) / 2
    0.75

    Args:
        examples_without_labels: `"zero"` counts them as 0, as the starter code does;
            `"skip"` leaves them out.
        name: str.
        dtype: dtype of the result.

    Input: see `GlobalAveragePrecision`; `sample_weight` weighs the mean.

    Raises:
        ValueError: another `examples_without_labels`.
    """

    def __init__(self, examples_without_labels="zero", name="perr", dtype=None):
        super().__init__(name=name, dtype=dtype)
        if examples_without_labels not in _EMPTY:
            raise ValueError(
                f"`examples_without_labels` must be one of {_EMPTY}. Received: "
                f"examples_without_labels={examples_without_labels!r}"
            )
        self.examples_without_labels = examples_without_labels

    def update_state(self, y_true, y_pred, sample_weight=None):
        labels, scores, weights = self._take(y_true, y_pred, sample_weight)
        wanted = tf.reduce_sum(tf.cast(labels, tf.int32), axis=-1)
        # XLA needs a number that it knows beforehand, and then sorts all classes.
        most = tf.maximum(tf.reduce_max(wanted), 0)  # a replica's batch can be empty
        depth = scores.shape[-1] if under_xla() else most
        _, best = best_classes(scores, depth)
        hits = tf.gather(labels, best, batch_dims=1)
        hits &= tf.range(depth) < wanted[:, tf.newaxis]
        found = tf.math.count_nonzero(hits, axis=-1, dtype=tf.float64)
        precisions = tf.math.divide_no_nan(found, tf.cast(wanted, tf.float64))
        if self.examples_without_labels == "skip":
            weights = tf.where(wanted > 0, weights, tf.zeros_like(weights))
        self._add(precisions, weights)

    def get_config(self):
        own = {"examples_without_labels": self.examples_without_labels}
        return {**super().get_config(), **own}
