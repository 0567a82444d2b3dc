"""What metrics share that keep entries of all examples until the end."""

import tensorflow as tf

from ensemble_heads.metrics.scored_metric import ScoredMetric


class BufferedMetric(ScoredMetric):
    """Base of metrics with an `EntryBuffer`, `_buffer`; does nothing itself.

    Attributes:
        unit: str, what the buffer holds; the argument `max_<unit>` bounds it.
    """

    unit = "examples"

    def reset_state(self):
        super().reset_state()
        self._buffer.reset()

    def merge_state(self, metrics):
        super().merge_state(metrics)
        for other in metrics:
            columns, filled, totals = other._buffer.read()
            columns = [tf.boolean_mask(column, filled) for column in columns]
            self._buffer.append(columns, totals)

    def _complete(self, value):
        """The value as `result` gives it, or what is to happen after an overflow.

        Raises:
            ValueError: called eagerly, more has come than the buffer holds.
        """
        overflows = self._buffer.overflows()
        if tf.executing_eagerly() and overflows:
            argument = f"max_{self.unit}"
            raise ValueError(
                f"Metric `{self.name}`: `{argument}` must be at least the number of "
                f"{self.unit} that a replica sees between two resets. Received: "
                f"{argument}={getattr(self, argument)}, and more {self.unit} than that"
            )
        nan = tf.constant(float("nan"), tf.float64)
        return self._checked(tf.where(overflows, nan, value))
