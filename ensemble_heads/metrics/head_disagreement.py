"""How often two heads predict different classes."""

import tensorflow as tf

from ensemble_heads.keras_api import register
from ensemble_heads.metrics.all_heads_metric import AllHeadsMetric


@register
class HeadDisagreement(AllHeadsMetric):
    """Share of examples on which two heads differ, in the mean over pairs of heads.

    Of labels only the shape is looked at. Of a single head it is 0.
    `eh.analyses.disagreement` gives it pair by pair. Arguments and input as for
    `AllHeadsMetric`.
    """

    uses_labels = False

    def __init__(self, threshold=0.5, name="head_disagreement", dtype=None):
        super().__init__(threshold, name=name, dtype=dtype)

    def measure(self, labels, classes, num_classes):
        heads = classes.shape[1]
        # Votes for each class: sum n (n - 1) counts ordered pairs that agree.
        votes = tf.reduce_sum(tf.one_hot(classes, num_classes, dtype=tf.float64), 1)
        agreeing = tf.reduce_sum(votes * (votes - 1.0), axis=-1)
        pairs = heads * (heads - 1)
        return 1.0 - agreeing / pairs if pairs else tf.zeros_like(agreeing)
