"""Accuracy of an oracle that picks the right head."""

import tensorflow as tf

from ensemble_heads.keras_api import register
from ensemble_heads.metrics.all_heads_metric import AllHeadsMetric


@register
class OracleAccuracy(AllHeadsMetric):
    """Share of examples that at least one head classifies rightly.

    >>> from ensemble_heads import metrics
    >>> metric = metrics.OracleAccuracy()
    >>> heads = [[[0.9, 0.1], [0.2, 0.8]], [[0.9, 0.1], [0.7, 0.3]]]
    >>> metric.update_state([1, 1], heads)  # [batch, heads, classes]
    >>> float(metric.result())
    0.5

    As `head_metrics=[eh.metrics.OracleAccuracy()]` of `compile` it is logged once, as
    `oracle_accuracy`. Arguments and input as for `AllHeadsMetric`.

    References:
        Lee et al. 2015, arXiv:1511.06314, section 3.
    """

    def __init__(self, threshold=0.5, name="oracle_accuracy", dtype=None):
        super().__init__(threshold, name=name, dtype=dtype)
        self._direction = "up"  # Keras 3 callbacks: higher is better

    def measure(self, labels, classes, num_classes):
        return tf.reduce_any(classes == labels[:, tf.newaxis], axis=1)
