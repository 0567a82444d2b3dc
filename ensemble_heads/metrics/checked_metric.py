"""What metrics share that count bad values in their state."""

import tensorflow as tf

from ensemble_heads.metrics.summed_metric import SummedMetric, add_to


class CheckedMetric(SummedMetric):
    """Base of metrics that refuse bad values; does nothing itself.

    Batches with bad values are counted in the state rather than raised at once, so
    that steps compiled by XLA find them too: `result` raises when called eagerly, as
    `fit` and `evaluate` do at their ends, and is NaN inside a graph.

    Attributes:
        rules: tuple of str, what a batch must hold; a subclass says which.
    """

    rules = ()

    def __init__(self, name=None, dtype=None):
        super().__init__(name=name, dtype=dtype)
        self._refused = self.add_weight(
            name="refused",
            shape=(len(self.rules),),
            initializer="zeros",
            dtype="float64",
        )

    def _count_refused(self, *flags):
        """Counts a batch where any of the bool tensors, one per rule, is true."""
        found = tf.stack([tf.reduce_any(flag) for flag in flags])
        add_to(self._refused, tf.cast(found, tf.float64))

    def _checked(self, value):
        """The value in this metric's dtype, or what is to happen after bad input."""
        refused = tf.convert_to_tensor(self._refused)
        if tf.executing_eagerly():
            for count, rule in zip(refused.numpy(), self.rules, strict=True):
                if count:
                    raise ValueError(
                        f"Metric `{self.name}`: {rule}. Received: other values in "
                        f"{count:.0f} batches since the last reset"
                    )
        nan = tf.constant(float("nan"), value.dtype)
        value = tf.where(tf.reduce_any(refused > 0), nan, value)
        return tf.cast(value, self.dtype)
