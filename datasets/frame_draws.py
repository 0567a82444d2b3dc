"""Which frames of a video are drawn: a function of seed, epoch and record alone.

A counter-based generator, so that thousands of records have a stream of their own
without any state: not on which worker, in which batch or after which restart a record
comes decides its frames. Written once for NumPy and TensorFlow, with the same results.
"""

import hashlib
import types

import numpy as np
import tensorflow as tf

# The steps of SplitMix64 (Steele, Lea and Flood 2014, figure 17).
_GAMMA = 0x9E3779B97F4A7C15
_ROUNDS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))

_NUMPY = types.SimpleNamespace(
    number=np.uint64,
    cast=lambda values: np.asarray(values).astype(np.uint64),
    slots=lambda count: np.arange(1, count + 1, dtype=np.uint64),
    xor=np.bitwise_xor,
    shift=np.right_shift,
    signed=lambda values: values.astype(np.int64),
)
_TENSORFLOW = types.SimpleNamespace(
    number=lambda value: tf.constant(value, tf.uint64),
    cast=lambda values: tf.cast(values, tf.uint64),
    slots=lambda count: tf.cast(tf.range(1, count + 1), tf.uint64),
    xor=tf.bitwise.bitwise_xor,
    shift=tf.bitwise.right_shift,
    signed=lambda values: tf.cast(values, tf.int64),
)


def file_key(name):
    """int in [0, 2^63), the same for a file of this name in any folder."""
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def draw(count, available, seed, epoch, key, number, graph=False):
    """Draws frames with replacement, each available one equally likely.

    Args:
        count: int, frames to draw.
        available: int `[records]`, >= 1 and below 2^31.
        seed: int >= 0.
        epoch, key, number: int `[records]`: the epoch, the `file_key` and the number
            of the record in its file.
        graph: bool, tensors in place of NumPy arrays.

    Returns:
        int64 `[records, count]`, from 0 to below `available`.
    """
    with np.errstate(over="ignore"):
        ops = _TENSORFLOW if graph else _NUMPY
        state = _mix(ops.cast(epoch) + ops.number(seed) * ops.number(_GAMMA), ops)
        state = _mix(ops.xor(state, ops.cast(key)), ops)
        state = _mix(state + ops.cast(number), ops)
        steps = ops.slots(count) * ops.number(_GAMMA)
        bits = _mix(state[:, None] + steps, ops)
        # 32 bits times the number of frames: biased by less than 1e-7.
        high = ops.shift(bits, ops.number(32)) * ops.cast(available)[:, None]
        return ops.signed(ops.shift(high, ops.number(32)))


def _mix(state, ops):
    for shift, factor in _ROUNDS:
        state = ops.xor(state, ops.shift(state, ops.number(shift))) * ops.number(factor)
    return ops.xor(state, ops.shift(state, ops.number(31)))
