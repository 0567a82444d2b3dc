"""Labelled data in the forms that Keras' `evaluate` takes, once from end to end."""

import numpy as np
import tensorflow as tf

from ensemble_heads.keras_api import KERAS_3, SEQUENCE, keras

_FORMS = (
    "`data` must be a tf.data.Dataset of batches, a Keras "
    f"{SEQUENCE.__name__}, or a tuple (x, y) of arrays."
)


def labelled_batches(data, outputs_like, batch_size=128):
    """The batches of labelled data, every example once.

    Args:
        data: finite `tf.data.Dataset` of batches or Keras `PyDataset` (`Sequence` in
            Keras 2) of them, or a tuple of arrays: `(x, y)` or `(x, y,
            sample_weight)`, each one array or a structure of arrays.
        outputs_like: `Outputs` of the model; with a single one, lists of numbers are
            as good as arrays for y and weights.
        batch_size: int >= 1, of arrays.

    Returns:
        An iterator over `(x, y, sample_weight)`, x of tensors, what is missing None;
        and the number of batches, None where it is not known.

    Raises:
        ValueError: data of another form or without an end, or arrays that are not of
            one length.
    """
    if isinstance(data, tf.data.Dataset):
        count = int(data.cardinality())
        _require_end(count != tf.data.INFINITE_CARDINALITY)
        return map(_unpacked, data), None if count < 0 else count
    if isinstance(data, SEQUENCE):
        count = data.num_batches if KERAS_3 else len(data)
        _require_end(count is not None)
        return (_unpacked(data[place]) for place in range(count)), count
    if not isinstance(data, (tuple, list)):
        raise ValueError(f"{_FORMS} Received: data of class {type(data).__name__}")
    x, *others = keras.utils.unpack_x_y_sample_weight(data)
    if outputs_like.is_single:
        others = [None if part is None else np.asarray(part) for part in others]
    parts = x, *others
    starts = range(0, _length(parts), batch_size)
    return (_unpacked(_rows(parts, at, batch_size)) for at in starts), len(starts)


def _unpacked(batch):
    x, y, weights = keras.utils.unpack_x_y_sample_weight(batch)
    return tf.nest.map_structure(tf.convert_to_tensor, x), y, weights


def _require_end(has_one):
    if not has_one:
        raise ValueError(
            "`data` must have an end: every example is taken once. "
            "Received: a dataset that repeats for ever"
        )


def _length(parts):
    """How many examples there are in a structure of arrays."""
    arrays = [array for array in tf.nest.flatten(parts) if array is not None]
    for array in arrays:
        if not len(getattr(array, "shape", ())):
            raise ValueError(
                f"{_FORMS} The first axis of an array is the batch. "
                f"Received: a {type(array).__name__} in place of an array"
            )
    sizes = {len(array) for array in arrays}
    if len(sizes) != 1:
        raise ValueError(
            "`data` must hold arrays of one length. "
            f"Received: arrays of lengths {[len(array) for array in arrays]}"
        )
    return sizes.pop()


def _rows(parts, start, count):
    return tf.nest.map_structure(
        lambda array: None if array is None else array[start : start + count], parts
    )
