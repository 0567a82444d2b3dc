"""What metrics share that rank the best predictions of all examples together."""

import tensorflow as tf

from ensemble_heads.metrics.average_precision import average_precisions
from ensemble_heads.metrics.buffered_metric import BufferedMetric
from ensemble_heads.metrics.entry_buffer import EntryBuffer
from ensemble_heads.metrics.ranking import best_classes


class PooledPrecision(BufferedMetric):
    """Base of metrics over the pooled best predictions; does nothing itself.

    Args:
        num_classes: int, classes told apart, or None to take all as one.
        top_k, max_examples, refresh, name, dtype: see `GlobalAveragePrecision`.
    """

    def __init__(self, num_classes, top_k, max_examples, refresh, name, dtype):
        super().__init__(name=name, dtype=dtype)
        _check_positive("top_k", top_k)
        if max_examples is not None:
            _check_positive("max_examples", max_examples)
        if not refresh >= 0:
            raise ValueError(f"`refresh` must be at least 0. Received: {refresh=}")
        self.top_k, self.max_examples, self.refresh = top_k, max_examples, refresh
        self._by_class = num_classes is not None
        columns = [([], tf.float32), ([top_k], tf.float32), ([top_k], tf.bool)]
        if self._by_class:
            columns.append(([top_k], tf.int32))
        self._buffer = EntryBuffer(columns, num_classes or 1, max_examples)

    @property
    def state_bytes(self):
        """Bytes that this process holds for the entries now; call it eagerly."""
        return self._buffer.bytes

    def update_state(self, y_true, y_pred, sample_weight=None):
        labels, scores, weights = self._take(y_true, y_pred, sample_weight)
        classes = scores.shape[-1]
        kept = self.top_k if classes is None else min(self.top_k, classes)
        best, places = best_classes(scores, kept)
        hits = tf.gather(labels, places, batch_dims=1)
        missing = [[0, 0], [0, self.top_k - kept]]
        columns = [
            weights,
            tf.pad(best, missing, constant_values=float("nan")),  # is no entry
            tf.pad(hits, missing),
        ]
        if self._by_class:
            columns.append(tf.pad(places, missing))
        self._buffer.append(columns, self._positives(labels, weights))

    @tf.autograph.experimental.do_not_convert
    def result(self):
        if self._buffer.in_updating_graph():
            value = self._buffer.running(self._value, self.refresh)
        else:
            value = self._value(*self._buffer.read())
        return self._complete(value)

    def get_config(self):
        own = ("top_k", "max_examples", "refresh")
        return {**super().get_config(), **{name: getattr(self, name) for name in own}}

    def _positives(self, labels, weights):
        """float64 `[classes]`, or `[1]` where all are taken as one."""
        if not self._by_class:
            counts = tf.reduce_sum(tf.cast(labels, tf.float32), axis=-1)
            return tf.reduce_sum(tf.cast(counts, tf.float64) * weights)[tf.newaxis]
        weights = tf.broadcast_to(weights[:, tf.newaxis], tf.shape(labels))
        return tf.reduce_sum(tf.where(labels, weights, tf.zeros_like(weights)), axis=0)

    def _value(self, columns, filled, positives):
        weights, scores, hits, *classes = columns
        weights = tf.where(filled, weights, tf.zeros_like(weights))
        weights = tf.repeat(weights, self.top_k)
        flat = [tf.reshape(column, [-1]) for column in (scores, hits, *classes)]
        precisions = average_precisions(*flat[:2], weights, positives, *flat[2:])
        return self._summary(precisions, positives)

    def _summary(self, precisions, positives):
        """float64 scalar from the average precision and the positives by class."""
        raise NotImplementedError


def _check_positive(argument, value):
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(
            f"`{argument}` must be an int of at least 1. Received: {argument}={value!r}"
        )
