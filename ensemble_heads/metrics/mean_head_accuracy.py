"""Mean accuracy of the heads."""

import tensorflow as tf

from ensemble_heads.keras_api import register
from ensemble_heads.metrics.all_heads_metric import AllHeadsMetric


@register
class MeanHeadAccuracy(AllHeadsMetric):
    """Mean over the heads of the share of examples that a head classifies rightly.

    The mean of `head_0_accuracy`, `head_1_accuracy`, …, in one number. Arguments and
    input as for `AllHeadsMetric`.
    """

    def __init__(self, threshold=0.5, name="mean_head_accuracy", dtype=None):
        super().__init__(threshold, name=name, dtype=dtype)
        self._direction = "up"  # Keras 3 callbacks: higher is better

    def measure(self, labels, classes, num_classes):
        right = classes == labels[:, tf.newaxis]
        return tf.reduce_mean(tf.cast(right, tf.float64), axis=1)
