"""Hit@1."""

import tensorflow as tf

from ensemble_heads.keras_api import register
from ensemble_heads.metrics.scored_metric import AveragedMetric


@register
class HitAtOne(AveragedMetric):
    """Share of examples whose best prediction is one of their labels.

    Of several best predictions the lowest class counts, as NumPy's `argmax` takes it.
    An example without labels counts, and is a miss, as in the YouTube-8M starter code.

    >>> from ensemble_heads import metrics
    >>> metric = metrics.HitAtOne()
    >>> metric.update_state([[1, 0, 1], [0, 1, 0]], [[0.1, 0.2, 0.7], [0.5, 0.4, 0.1]])
    >>> float(metric.result())
    0.5

    Args:
        name: str.
        dtype: dtype of the result.

    Input: see `GlobalAveragePrecision`; `sample_weight` weighs the mean.
    """

    def __init__(self, name="hit_at_1", dtype=None):
        super().__init__(name=name, dtype=dtype)

    def update_state(self, y_true, y_pred, sample_weight=None):
        labels, scores, weights = self._take(y_true, y_pred, sample_weight)
        best = tf.argmax(scores, axis=-1)
        self._add(tf.gather(labels, best, batch_dims=1), weights)
