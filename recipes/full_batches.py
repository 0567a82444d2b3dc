"""Batches of one size, as TPUs need them, in which each example counts once."""

import tensorflow as tf


def fill(data, size):
    """The same batches, the smaller ones filled up with examples of weight 0.

    Args:
        data: `tf.data.Dataset` of `(inputs, labels)`, in batches of at most `size`.
        size: int >= 1.

    Returns:
        `tf.data.Dataset` of `(inputs, labels, weights)` with static shapes; weights
        float32 `[size]`, 1 for what is in `data`, otherwise 0. What fills up are
        copies of a batch's last example, so that all numbers stay usual ones.
    """

    def filled(inputs, labels):
        count = tf.shape(tf.nest.flatten(labels)[0])[0]
        fits = tf.debugging.Assert(count <= size, ["Batches must be of at most", size])
        place = tf.range(size)
        with tf.control_dependencies([fits]):
            taken = tf.minimum(place, count - 1)
        rows = tf.nest.map_structure(
            lambda part: tf.gather(part, taken), (inputs, labels)
        )
        return (*rows, tf.cast(place < count, tf.float32))

    return data.map(filled, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
