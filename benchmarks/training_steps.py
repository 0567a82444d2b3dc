"""Training steps of compiled models on random numbers, one at a time."""

import numpy as np
import tensorflow as tf


def random_batches(shape, size, classes=10):
    """Endless `tf.data.Dataset` of one batch of `(inputs, labels)`.

    Args:
        shape: tuple of int, of one example.
        size: int, examples; those of all replicas, who share them.
        classes: int, numbers that the labels are drawn from.
    """
    random = np.random.default_rng(0)
    inputs = random.normal(size=(size, *shape))
    labels = tf.constant(random.integers(0, classes, size))
    options = tf.data.Options()
    policy = tf.data.experimental.AutoShardPolicy.DATA
    options.experimental_distribute.auto_shard_policy = policy
    data = tf.data.Dataset.from_tensors((tf.constant(inputs, tf.float32), labels))
    return data.repeat().with_options(options)


def stepper(model, batches, first_steps=1):
    """Function that takes one training step and returns what it logs.

    Args:
        model: compiled `keras.Model`.
        batches: endless `tf.data.Dataset`.
        first_steps: int, steps that are taken before.
    """
    # Makes the train function, and traces it.
    model.fit(batches, steps_per_epoch=first_steps, shuffle=False, verbose=0)
    iterator = iter(model.distribute_strategy.experimental_distribute_dataset(batches))
    return lambda: model.train_function(iterator)
