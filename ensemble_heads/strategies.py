"""Where a model trains: TensorFlow's distribution strategies by name."""

import tensorflow as tf

NAMES = ("auto", "default", "mirrored", "multi_worker", "tpu")


def strategy(name="auto"):
    """A `tf.distribute` strategy.

    Models are built and compiled in its `scope()`; batches are global, split over
    the replicas.

    >>> strategy("default").num_replicas_in_sync
    1

    Args:
        name: `"default"`, one device; `"mirrored"`, all GPUs of this host (without
            GPUs: its logical CPU devices); `"multi_worker"`, the hosts that TF_CONFIG
            lists; `"tpu"`, the TPU that the environment names; `"auto"`, mirrored
            where there are several GPUs, else the default.

    Returns:
        A `tf.distribute.Strategy`.

    Raises:
        ValueError: an unknown name, or no TPU that could be reached.
    """
    if name not in NAMES:
        raise ValueError(
            f"`name` must be one of {', '.join(NAMES)}. Received: name={name!r}"
        )
    if name == "auto":
        several = len(tf.config.list_logical_devices("GPU")) > 1
        name = "mirrored" if several else "default"
    makers = {
        "default": tf.distribute.get_strategy,
        "mirrored": _mirrored,
        "multi_worker": tf.distribute.MultiWorkerMirroredStrategy,
        "tpu": _tpu,
    }
    return makers[name]()


def _mirrored():
    gpus = tf.config.list_logical_devices("GPU")
    devices = gpus or tf.config.list_logical_devices("CPU")
    return tf.distribute.MirroredStrategy([device.name for device in devices])


def _tpu():
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver.connect()
    except (ValueError, RuntimeError, tf.errors.OpError) as error:
        raise ValueError(
            "`name` must be another strategy where no TPU can be reached. On a TPU VM "
            "install TensorFlow's TPU build; for a remote TPU set TPU_NAME, and "
            "project and zone where they are not the default. "
            f"Received: name='tpu' and {type(error).__name__}: {error}"
        ) from error
    return tf.distribute.TPUStrategy(resolver)
