"""Targets in the shape that a loss works on, or an error that names both shapes."""

import tensorflow as tf


def match_dense(loss, target, prediction, check=True, classes=False):
    """The target in the prediction's shape; `[batch]` becomes `[batch, 1]`.

    Args:
        loss: str, name of the loss, for the message.
        target: tensor or array.
        prediction: anything whose `logits` have a shape.
        check: bool, whether another shape is an error.
        classes: bool, the last axis holds classes, so that class numbers may have
            been meant.

    Raises:
        ValueError: the shapes differ.
    """
    target = tf.convert_to_tensor(target)
    shape = prediction.logits.shape
    if _lacks_last_axis(target.shape, shape) and shape[-1] == 1:
        target = target[..., tf.newaxis]
    if not check or target.shape.is_compatible_with(shape):
        return target
    hint = ""
    if classes and _are_class_numbers(target.shape, shape):
        hint = " Class numbers need `sparse_categorical_crossentropy`."
    raise ValueError(
        f"`loss` {loss} does not fit the output: it takes targets of the "
        f"predictions' own shape, {_text(shape)}.{hint} "
        f"Received: targets of shape {_text(target.shape)}"
    )


def match_sparse(loss, target, prediction):
    """Class numbers as int32 `[batch, …]`; a last axis of 1 is dropped.

    Arguments and errors as for `match_dense`.
    """
    target = tf.convert_to_tensor(target)
    shape = prediction.logits.shape
    if shape[-1] != 1 and _are_class_numbers(target.shape, shape):
        if target.shape.rank == shape.rank:
            target = target[..., 0]
        return tf.cast(target, tf.int32)
    hint = ""
    if shape[-1] == 1:
        hint = " A single output unit needs `binary_crossentropy`."
    elif target.shape.is_compatible_with(shape):
        hint = " One-hot targets need `categorical_crossentropy`."
    raise ValueError(
        f"`loss` {loss} does not fit the output: it takes class numbers of shape "
        f"{_text(shape[:-1])} for predictions of shape {_text(shape)}, at least two "
        f"classes.{hint} Received: targets of shape {_text(target.shape)}"
    )


def left_aligned(tensor, values):
    """A tensor reshaped so that its axes are the first ones of `values`.

    A last axis of 1 that `values` does not have is dropped, as Keras does.
    """
    if values.shape.rank is None:
        more = tf.maximum(tf.rank(values) - tf.rank(tensor), 0)
        ones = tf.ones([more], tf.int32)
        return tf.reshape(tensor, tf.concat([tf.shape(tensor), ones], axis=0))
    if tensor.shape.rank == values.shape.rank + 1 and tensor.shape[-1] == 1:
        return tensor[..., 0]
    for _ in range(values.shape.rank - tensor.shape.rank):
        tensor = tensor[..., tf.newaxis]
    return tensor


def _are_class_numbers(target, shape):
    """Whether `target` is `shape` without its last axis, or with a last axis of 1."""
    if target.rank is not None and target.rank == shape.rank and target[-1] == 1:
        target = target[:-1]
    return target.is_compatible_with(shape[:-1])


def _lacks_last_axis(target, shape):
    return shape.rank is not None and target.rank == shape.rank - 1


def _text(shape):
    return str(tuple(shape)) if shape.rank is not None else "unknown"
