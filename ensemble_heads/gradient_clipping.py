"""Clipping of gradients on several replicas, where Keras 3 has it wrong."""

import tensorflow as tf


def reduce_before_clipping(optimizer, gradients):
    """Sums gradients over replicas and clips the sum, where Keras 3 would not.

    Keras 3 clips, and looks for overflow, on every replica before the all-reduce.
    Here the sum is clipped and each replica given its n-th part, which the
    optimizer's own clipping lets pass and its all-reduce adds up again.

    Args:
        optimizer: Keras 3 optimizer.
        gradients: list of tensors or None, scaled by the optimizer's loss scale.
    """
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    clips = inner.clipnorm or inner.global_clipnorm or inner.clipvalue
    if replicas == 1 or not (clips or inner is not optimizer):
        return gradients
    present = [tf.convert_to_tensor(g) for g in gradients if g is not None]
    context = tf.distribute.get_replica_context()
    present = context.all_reduce(tf.distribute.ReduceOp.SUM, present)
    scale = tf.cast(optimizer.scale_loss(tf.constant(1.0)), tf.float32)
    clipped = _clip(inner, [g / tf.cast(scale, g.dtype) for g in present])
    parts = iter([g * tf.cast(scale / replicas, g.dtype) for g in clipped])
    return [None if g is None else next(parts) for g in gradients]


def _clip(optimizer, gradients):
    if optimizer.clipnorm:
        return [tf.clip_by_norm(g, optimizer.clipnorm) for g in gradients]
    if optimizer.global_clipnorm:
        return tf.clip_by_global_norm(gradients, optimizer.global_clipnorm)[0]
    if optimizer.clipvalue:
        limit = optimizer.clipvalue
        # Overflow must stay visible, or the loss scale would never be lowered.
        return [
            tf.where(tf.math.is_finite(g), tf.clip_by_value(g, -limit, limit), g)
            for g in gradients
        ]
    return gradients
