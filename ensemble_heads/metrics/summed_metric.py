"""What streaming metrics share whose state is sums over examples."""

import tensorflow as tf

from ensemble_heads.keras_api import keras


class SummedMetric(keras.metrics.Metric):
    """Base of metrics whose variables are sums over examples; does nothing itself."""

    def reset_state(self):
        for variable in self.variables:  # Keras 2 would assign scalars
            variable.assign(tf.zeros(variable.shape, variable.dtype))

    def merge_state(self, metrics):
        """Adds what other metrics of the same configuration have seen."""
        for other in metrics:
            if other.get_config() != {**self.get_config(), "name": other.name}:
                raise ValueError(
                    "`metrics` must have this metric's own configuration "
                    f"{self.get_config()}. Received: {other.get_config()}"
                )
            for own, more in zip(self.variables, other.variables, strict=True):
                add_to(own, tf.convert_to_tensor(more))


def add_to(variable, value):
    """Adds to a metric's variable, in a replica or outside of all."""
    if tf.distribute.in_cross_replica_context():  # has no `assign_add` in Keras 2
        variable.assign(tf.convert_to_tensor(variable) + value)
    else:
        variable.assign_add(value)
