"""Scores in order: which classes are best, and numbers that compare as floats do."""

import tensorflow as tf

from ensemble_heads.metrics.entry_buffer import under_xla


def best_classes(scores, k):
    """The `k` best scores of each example and their classes, of equal ones the lower.

    Args:
        scores: float32 `[batch, classes]`, up to 2^20 classes.
        k: int, or int32 scalar outside of XLA.

    Returns:
        (float32 `[batch, k]`, int32 `[batch, k]`), best first.
    """
    if not under_xla():
        return tf.math.top_k(scores, k=k)
    # XLA's may take any of equal scores, so here no two keys are equal.
    classes = tf.range(tf.shape(scores)[1], dtype=tf.int64)
    _, best = tf.math.top_k(order_of_floats(scores) * 2**20 - classes, k=k)
    return tf.gather(scores, best, batch_dims=1), best


def order_of_floats(values):
    """int64 that compare as the float32 do; no two floats but 0.0 and -0.0 collide."""
    bits = tf.bitcast(values, tf.int32)
    bits = tf.where(bits == tf.int32.min, tf.zeros_like(bits), bits)  # -0.0
    # Of negative floats, those of larger bits are smaller.
    flipped = tf.bitwise.bitwise_xor(bits, tf.constant(tf.int32.max))
    return tf.cast(tf.where(bits < 0, flipped, bits), tf.int64)
