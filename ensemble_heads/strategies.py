"""Where a model trains: TensorFlow's distribution strategies by name."""

import os

import tensorflow as tf

from ensemble_heads import clusters
from ensemble_heads.keras_api import KERAS_3

NAMES = ("auto", "default", "mirrored", "multi_worker", "tpu")


def strategy(name="auto", timeout=300):
    """A `tf.distribute` strategy.

    Models are built and compiled in its `scope()`; batches are global, split over
    the replicas.

    >>> strategy("default").num_replicas_in_sync
    1

    Args:
        name: `"default"`, one device; `"mirrored"`, all GPUs of this host (without
            GPUs: its logical CPU devices); `"multi_worker"`, the hosts that TF_CONFIG,
            Kubernetes or Slurm lists, see docs/distribution.md; `"tpu"`, the TPU that
            the environment names; `"auto"`, mirrored where there are several GPUs,
            else the default.
        timeout: float, seconds to wait for other workers, or for the TPU's.

    `"multi_worker"` must be asked for before TensorFlow computes anything. A process is
    a worker of one cluster only: later calls return the same strategy.

    Returns:
        A `tf.distribute.Strategy`.

    Raises:
        ValueError: an unknown name, no TPU that could be reached, or workers that are
            not named or do not answer.
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
        "multi_worker": lambda: _multi_worker(timeout),
        "tpu": lambda: _tpu(timeout),
    }
    return makers[name]()


def task(strategy):
    """(number of this process, of how many) that train together; the first is chief."""
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return 0, 1
    resolver = strategy.cluster_resolver
    spec = resolver.cluster_spec().as_dict()
    chiefs, workers = (len(spec.get(job, ())) for job in clusters.JOBS)
    if not workers + chiefs:
        return 0, 1
    before = chiefs if resolver.task_type == "worker" else 0
    return before + resolver.task_id, chiefs + workers


def _mirrored():
    gpus = tf.config.list_logical_devices("GPU")
    devices = gpus or tf.config.list_logical_devices("CPU")
    return tf.distribute.MirroredStrategy([device.name for device in devices])


_made = []  # the one strategy of several workers


def _multi_worker(timeout):
    if not _made:
        resolver = clusters.resolve(timeout)
        clusters.await_workers(resolver, timeout)
        kind = tf.distribute.MultiWorkerMirroredStrategy
        _made.append((_ForKeras3 if KERAS_3 else kind)(resolver))
    return _made[0]


class _ForKeras3(tf.distribute.MultiWorkerMirroredStrategy):
    """The strategy, reducing two things more that Keras 3.15 asks it for.

    Without them no model can be fitted (keras-team/keras, issue 20585).
    """

    def reduce(self, reduce_op, value, axis):
        if isinstance(value, tuple | list | dict):
            # A whole first batch, of which only shapes and dtypes are looked at; they
            # need not be equal on all workers.
            return tf.nest.map_structure(
                lambda part: self.experimental_local_results(part)[0], value
            )
        if axis is not None:
            # What is logged is a number on each replica, which has no axis.
            first, *others = self.experimental_local_results(value)
            axis = None if first.shape.rank == 0 else axis
            if not others:  # then it is a tensor, and must say where it is
                with tf.device(self.extended.worker_devices[0]):
                    value = tf.identity(first)
        return super().reduce(reduce_op, value, axis)


def _tpu(timeout):
    kind = tf.distribute.cluster_resolver.TPUClusterResolver
    try:
        # Given, since "local" is known as an argument only.
        resolver = kind(os.environ.get("TPU_NAME"))
        clusters.await_answers(clusters.addresses(resolver), timeout)
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, RuntimeError, OSError, tf.errors.OpError) as error:
        raise clusters.ClusterError(
            "`name` must be another strategy where no TPU can be reached. On a TPU VM "
            "install TensorFlow's TPU build and set TPU_NAME=local; for a remote TPU "
            "set TPU_NAME to its name or to grpc://host:port. "
            f"Received: name='tpu' and {type(error).__name__}: {error}"
        ) from error
    return tf.distribute.TPUStrategy(resolver)
