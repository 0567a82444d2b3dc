"""Average precision of scored entries, exact, with tied scores at one threshold."""

import tensorflow as tf

from ensemble_heads.metrics.ranking import order_of_floats


def average_precisions(scores, hits, weights, positives, classes=None):
    """Average precision of each class, from all its entries in any order.

    AP = sum over the hits of the precision at their score, over all positives. The
    precision at a score s counts every entry that scores s or more: entries of equal
    score share one threshold, so no order among them is ever made up.

    >>> import tensorflow as tf
    >>> from ensemble_heads import metrics
    >>> metrics.average_precisions(
    ...     [0.9, 0.8, 0.8, 0.1], [True, True, False, False], tf.ones(4), [2.0]
    ... ).numpy().round(3)  # (1/1 + 2/3) / 2
    array([0.833])

    Args:
        scores: float32 `[entries]`, higher is more confident; NaN is no entry.
        hits: bool `[entries]`, whether the predicted label is right.
        weights: `[entries]`, >= 0; weight 0 is no entry.
        positives: float64 `[classes]`, the weight of all labels, predicted or not.
        classes: int `[entries]` from 0 to classes - 1, or None where all entries
            belong to one class.

    Returns:
        float64 `[classes]` in [0, 1]; 0 for a class without positives.
    """
    positives = tf.convert_to_tensor(positives, tf.float64)
    found, seen, owners = by_threshold(scores, hits, weights, classes)
    if classes is None:
        precisions = tf.math.divide_no_nan(tf.cumsum(found), tf.cumsum(seen))
        sums = tf.reduce_sum(found * precisions)[tf.newaxis]
        return tf.math.divide_no_nan(sums, positives)
    num_classes = tf.size(positives)
    precisions = tf.math.divide_no_nan(
        cumsum_within(found, owners, num_classes),
        cumsum_within(seen, owners, num_classes),
    )
    sums = tf.math.unsorted_segment_sum(found * precisions, owners, num_classes)
    return tf.math.divide_no_nan(sums, positives)


def by_threshold(scores, hits, weights, classes=None):
    """Entries in order of class and falling score, those of equal score taken as one.

    Args:
        scores, hits, weights, classes: as for `average_precisions`.

    Returns:
        (float64 `[entries]`, the weight of the hits at each threshold; the same of
        all entries; int32 `[entries]`, the class, or None). Where there are fewer
        thresholds than entries, the last ones weigh nothing and are of class 0.
    """
    scores = tf.convert_to_tensor(scores, tf.float32)
    weights = tf.cast(weights, tf.float64)
    weights = tf.where(tf.math.is_nan(scores), tf.zeros_like(weights), weights)
    count = tf.size(scores)
    keys = order_of_floats(scores)
    if classes is not None:
        # Classes one after another: a class' keys lie 2^32 below those before.
        keys -= tf.cast(classes, tf.int64) * 2**32
    keys, order = tf.math.top_k(keys, k=count)
    hit_weights = tf.gather(tf.where(hits, weights, tf.zeros_like(weights)), order)
    weights = tf.gather(weights, order)

    is_new = tf.concat([tf.ones_like(keys[:1], tf.bool), keys[1:] != keys[:-1]], 0)
    group = tf.cumsum(tf.cast(is_new, tf.int32)) - 1  # of equal class and score
    found = tf.math.unsorted_segment_sum(hit_weights, group, count)
    seen = tf.math.unsorted_segment_sum(weights, group, count)
    if classes is None:
        return found, seen, None
    owners = tf.gather(tf.cast(classes, tf.int32), order)
    owners = tf.math.unsorted_segment_max(owners, group, count)
    return found, seen, tf.maximum(owners, 0)  # of groups that are none


def cumsum_within(values, owners, num_owners):
    """Cumulative sums that start anew with each owner; owners come in order."""
    totals = tf.math.unsorted_segment_sum(values, owners, num_owners)
    before = tf.cumsum(totals, exclusive=True)
    return tf.cumsum(values) - tf.gather(before, owners)
