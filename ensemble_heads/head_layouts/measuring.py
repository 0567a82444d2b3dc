"""Which way of running heads is fastest here: measured, once for each kind."""

import dataclasses
import json
import math
import statistics
import time

import tensorflow as tf

from ensemble_heads.keras_api import keras

BATCH = 32
_ROUNDS, _WARM_UP = 7, 2
_UNKNOWN_SIZE = 32  # stands for sizes that are not known before the data come
# Another way has to be faster by this factor, more than two runs differ by chance.
MARGIN = 1.1

_fastest = {}


@dataclasses.dataclass(frozen=True)
class Choice:
    """How `"auto"` decided.

    Attributes:
        execution: `"separate"` or `"stacked"`.
        reason: str.
        seconds: {execution: seconds of a training step of some heads}, or {}.
    """

    execution: str
    reason: str
    seconds: dict


def is_possible():
    """Whether this process measures for itself; workers could choose differently."""
    alone = (tf.distribute.OneDeviceStrategy, tf.distribute.MirroredStrategy)
    return not tf.distribute.has_strategy() or isinstance(
        tf.distribute.get_strategy(), alone
    )


def choose(separate, stacked, features):
    """The `Choice` between two layouts of the same heads.

    Args:
        separate, stacked: `HeadLayout`.
        features: structure of the symbolic tensors that heads take.
    """
    values = tf.nest.map_structure(lambda x: _example(x.shape, x.dtype), features)
    steps = [training_step(layout, values) for layout in (separate, stacked)]
    times = dict(zip(("separate", "stacked"), seconds(steps), strict=True))
    wins = times["stacked"] * MARGIN < times["separate"]
    device = tf.zeros([]).device.rpartition("/device:")[2] or "this device"
    reason = (
        f"a training step of {separate.num_heads} heads took "
        f"{1e3 * times['separate']:.2f} ms separate and "
        f"{1e3 * times['stacked']:.2f} ms stacked on {device}"
    )
    return Choice("stacked" if wins else "separate", reason, times)


def fastest_product(make, shape):
    """The fastest product of a `StackedConv`.

    Args:
        make: callable `(product=…) -> StackedConv`.
        shape: tuple, that of its input.
    """
    if not is_possible():
        return "loop"
    loop = make(product="loop")
    key = _kind(loop, shape)
    if key not in _fastest:
        values = _example(shape, "float32")
        steps = {
            name: training_step(make(product=name), values) for name in loop.products()
        }
        steps = {name: step for name, step in steps.items() if _runs(step)}
        times = dict(zip(steps, seconds(steps.values()), strict=True))
        best = min(times, key=times.get, default="loop")
        wins = best != "loop" and times[best] * MARGIN < times.get("loop", math.inf)
        _fastest[key] = best if wins else "loop"
    return _fastest[key]


def _runs(step):
    """False where TensorFlow has no kernel.

    Of gradients of grouped convolutions on CPUs, it has none in float16, and none at
    all without AVX-512.
    """
    try:
        step()
    except tf.errors.OpError:
        return False
    return True


def training_step(layer, values):
    """A function that runs a layer on values and differentiates it, compiled."""
    layer(values)

    @tf.function
    def step():
        sources = [x for x in tf.nest.flatten(values) if x.dtype.is_floating]
        with tf.GradientTape() as tape:
            tape.watch(sources)
            outputs = tf.nest.flatten(layer(values))
            total = sum(tf.reduce_sum(tf.cast(x, tf.float32) ** 2) for x in outputs)
        found = tape.gradient(total, [*sources, *layer.trainable_variables])
        return [total, *(tf.reduce_sum(x) for x in found if x is not None)]

    return step


def seconds(steps):
    """List of the median seconds of functions that take turns."""
    times = [[] for _ in steps]
    for number in range(-_WARM_UP, _ROUNDS):
        for step, took in zip(steps, times, strict=True):
            begin = time.perf_counter()
            for tensor in tf.nest.flatten(step()):
                tensor.numpy()
            if number >= 0:
                took.append(time.perf_counter() - begin)
    return [statistics.median(took) for took in times]


def _example(shape, dtype):
    """Values of a shape, the batch first."""
    shape = [BATCH, *(_UNKNOWN_SIZE if n is None else n for n in shape[1:])]
    dtype = tf.as_dtype(dtype)
    if dtype.is_floating:
        return tf.cast(tf.random.stateless_normal(shape, [0, 1]), dtype)
    return tf.zeros(shape, dtype)


def _kind(layer, shape):
    """What a convolution's speed depends on, as a string."""
    config = layer.get_config()
    keys = ("num_heads", "filters", "kernel_size", "strides", "padding")
    kept = {key: config[key] for key in (*keys, "dilation_rate", "groups")}
    kept |= {"shape": shape[1:], "dtype": layer.compute_dtype}
    return json.dumps([kept, tf.zeros([]).device, keras.backend.floatx()])
