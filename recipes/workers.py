"""The processes that train one run together, of which the first alone writes."""

import contextlib
import functools
import os
import sys

import tensorflow as tf

import ensemble_heads as eh
from ensemble_heads import strategies
from ensemble_heads.clusters import ClusterError
from recipes.common import SettingError, same_command

LOST = os.EX_TEMPFAIL  # the exit code of those that another worker has left alone
# What collectives raise where a worker is gone.
_LOST_ERRORS = (
    *(tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError),
    *(tf.errors.DeadlineExceededError, tf.errors.FailedPreconditionError),
    tf.errors.InternalError,
)


@functools.lru_cache(maxsize=1)  # a process trains by one strategy
def _made(name, timeout):
    return Workers(name, timeout)


def workers_of(settings):
    """The `Workers` of some `TrainingSettings`; must come before TensorFlow's work."""
    return _made(settings.strategy, settings.worker_timeout)


class Workers:
    """This process among those of a strategy.

    Args:
        name: str, as for `eh.strategy`.
        timeout: float, as for `eh.strategy`.

    Attributes:
        strategy: `tf.distribute.Strategy`.
        number: int, of this one; 0 is the chief.
        count: int, of how many.

    Raises:
        SystemExit: the workers are not named or do not answer.
    """

    def __init__(self, name, timeout=300):
        try:
            self.strategy = eh.strategy(name, timeout)
        except ClusterError as error:
            sys.exit(str(error))
        self.number, self.count = strategies.task(self.strategy)

    @property
    def is_chief(self):
        return self.number == 0

    def gather(self, value):
        """List of the ints that all workers gave; returns once all have come here."""
        if self.count == 1:
            return [int(value)]
        own = tf.constant([int(value)], tf.int64)
        pieces = iter([own])  # the first local replica brings it, the others nothing
        spread = self.strategy.experimental_distribute_values_from_function(
            lambda _: next(pieces, own[:0])
        )
        return self.strategy.gather(spread, axis=0).numpy().tolist()

    def meet(self):
        """Waits until all workers have come here."""
        self.gather(0)

    def check_shared(self, path, step):
        """Raises `SettingError` unless all workers found the same step in a folder."""
        found = self.gather(step)
        if len(set(found)) > 1:
            rule = f"be one folder for all workers, but they found the steps {found}"
            raise SettingError("workdir", rule, path)

    def share_training(self, make, whole):
        """What `fit` is given.

        Args:
            make: callable -> `tf.data.Dataset` of batches.
            whole: bool, whether they are the global ones, and not this worker's rows.
        """
        if self.count == 1:
            return make()
        if whole:
            return self.share(make())
        local = self.strategy.num_replicas_in_sync // self.count

        def own(context):
            data = make()
            batch = tf.nest.flatten(data.element_spec)[0].shape[0]
            return data if local == 1 else data.rebatch(batch // local)

        return self.strategy.distribute_datasets_from_function(own)

    def share(self, data):
        """A data set of global batches, of which each worker takes its own rows."""
        if self.count == 1:
            return data
        options = tf.data.Options()
        # By files, batches would not be those of one worker.
        policy = tf.data.experimental.AutoShardPolicy.DATA
        options.experimental_distribute.auto_shard_policy = policy
        return data.with_options(options)

    @contextlib.contextmanager
    def clear_errors(self):
        """Ends this process where another one has gone, and says how to go on."""
        try:
            yield
        except _LOST_ERRORS as error:
            if self.count == 1:
                raise
            reason = str(error).strip().splitlines()
            told = [line for line in reason if "ollective" in line] or reason
            print(
                f"Worker {self.number} of {self.count} ends, since another one is "
                f"gone ({told[0].strip()}). Start all of them again. {same_command()} "
                "goes on from the newest checkpoint.",
                file=sys.stderr,
                flush=True,
            )
            sys.stdout.flush()
            # Not by an exception: TensorFlow would wait for those that are gone.
            os._exit(LOST)
