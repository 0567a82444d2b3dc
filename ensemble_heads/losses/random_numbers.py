"""Random numbers that follow from a seed and an example, and from nothing else."""

import math

import tensorflow as tf

from ensemble_heads.losses.ensemble_loss import integer_at_least

_GOLDEN = 0x9E3779B9  # 2^32 over the golden ratio: multiples of it spread evenly
_xor, _or, _shift = (
    tf.bitwise.bitwise_xor,
    tf.bitwise.bitwise_or,
    tf.bitwise.right_shift,
)
_MOST_DRAWS = 10  # a Poisson(1) number above it comes once in 10^8


def check_seed(seed):
    """The seed as an int; ValueError if it does not fit into 31 bits."""
    if integer_at_least("seed", seed, 0) >= 2**31:
        raise ValueError(f"`seed` must be below 2^31. Received: seed={seed}")
    return int(seed)


def fingerprints(tensors):
    """A number for every example, the same wherever the example occurs.

    Args:
        tensors: structure of tensors `[batch, …]`.

    Returns:
        uint32 `[batch]`. Equal examples give equal numbers, others almost never.
    """
    total = tf.constant(0, tf.uint32)
    for number, tensor in enumerate(tf.nest.flatten(tensors)):
        words = _words(tf.convert_to_tensor(tensor))
        places = _mix(_cast(tf.range(1, tf.shape(words)[1] + 1)) + _u(number << 24))
        total += tf.reduce_sum(_mix(_xor(words, places)) * _or(places, _u(1)), axis=1)
    return _mix(total)


def uniform(examples, count, seed):
    """Numbers in [0, 1), the same for the same example.

    Args:
        examples: integer tensor `[batch]`, a number for every example.
        count: int, how many for each.
        seed: int.

    Returns:
        float32 `[batch, count]`, each a function of the seed, its place among the
        `count` and the example's number alone; no device or compiler changes it.
    """
    streams = _mix(_cast(tf.range(count)) * _u(_GOLDEN) + _u(seed))
    bits = _mix(_xor(_mix(_cast(examples))[:, tf.newaxis], streams))
    # The upper 24 bits, which float32 holds exactly.
    return tf.cast(tf.cast(_shift(bits, _u(8)), tf.int32), tf.float32) * 2.0**-24


def numbers_in_step(batch, step):
    """A number for every row of a batch, others in every step: uint32 `[batch]`."""
    return _mix(_xor(_cast(tf.range(batch)), _mix(_cast(step) + _u(_GOLDEN))))


def bootstrap_weights(examples, count, seed):
    """How often each example is in each of several bootstrap samples.

    Of n draws with replacement from n examples, one example gets Binomial(n, 1/n), for
    all but the smallest n Poisson(1): 0 for 37 % of the examples, and 1 on average.

    >>> bootstrap_weights(tf.range(6), 2, seed=1).shape
    TensorShape([6, 2])

    Args:
        examples, count, seed: as for `uniform`; `count` is the number of samples.

    Returns:
        float32 `[batch, count]`, integers from 0.
    """
    numbers = uniform(examples, count, seed)
    weights, below = tf.zeros_like(numbers), 0.0
    for draws in range(_MOST_DRAWS):
        below += math.exp(-1.0) / math.factorial(draws)
        weights += tf.cast(numbers >= below, tf.float32)
    return weights


def _words(tensor):
    """The bits of `[batch, …]` as uint32 `[batch, words]`."""
    if tensor.dtype == tf.string:
        tensor = tf.strings.to_hash_bucket_fast(tensor, 2**31 - 1)
    if tensor.dtype.is_floating and tensor.dtype.size < 4:
        tensor = tf.cast(tensor, tf.float32)
    words = tf.bitcast(tensor, tf.uint32) if tensor.dtype.size >= 4 else _cast(tensor)
    size = tf.reduce_prod(tf.shape(words)[1:])
    return tf.reshape(words, [tf.shape(words)[0], size])


def _mix(bits):
    """Spreads every bit of uint32 numbers over all (the last steps of MurmurHash3)."""
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        bits = _xor(bits, _shift(bits, _u(shift))) * _u(factor)
    return _xor(bits, _shift(bits, _u(16)))


def _u(number):
    return tf.constant(number % 2**32, tf.uint32)


def _cast(numbers):
    return tf.cast(numbers, tf.uint32)
