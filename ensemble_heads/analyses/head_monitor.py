"""The heads' errors while a model trains, in the logs and in TensorBoard."""

import tensorflow as tf

from ensemble_heads import strategies
from ensemble_heads.analyses.collecting import Collector
from ensemble_heads.analyses.dominance import module_dominance
from ensemble_heads.analyses.pairwise import disagreement, mean_disagreement
from ensemble_heads.keras_api import keras
from ensemble_heads.losses.ensemble_loss import integer_at_least


class HeadMonitor(keras.callbacks.Callback):
    """Watches module dominance, the heads' accuracies and their disagreement.

    At the end of an epoch it runs the heads on held-out data once, and adds to the
    logs `val_module_dominance` (`ModuleDominance.lead`), `val_head_accuracy_mean`,
    `…_min`, `…_max` and `val_head_disagreement`, the mean over pairs. Callbacks that
    come after it in the list see them, as does what `fit` returns.

    Args:
        data: held-out data, as `collect` takes it.
        log_dir: str or path of a folder for TensorBoard: the same numbers, and
            `head_error/<head>`. Default: none is written.
        every: int >= 1, epochs from one look to the next. The last value stands in the
            logs in between; the first epoch is always looked at.
        output, batch_size: as for `collect`.
        prefix: str, what the names begin with.

    Attributes:
        epochs: list of int, epochs looked at, counted from 1.
        history: list of as many `ModuleDominance`, for `plot_module_dominance`.

    Raises:
        ValueError: `every` is no integer of at least 1; as training begins, an output
            of several labels per example, or what is wrong with the first batch.
    """

    def __init__(
        self, data, log_dir=None, every=1, output=None, batch_size=128, prefix="val_"
    ):
        super().__init__()
        self.data = data
        self.log_dir = log_dir
        self.every = integer_at_least("every", every, 1)
        self.output = output
        self.batch_size = batch_size
        self.prefix = prefix
        self.epochs, self.history = [], []
        self._collector = self._writer = self._last = None

    def on_train_begin(self, logs=None):
        # Anew each time: `compile` may have said since what raw outputs mean.
        self._collector = Collector(self.model, self.output, self.batch_size)
        if not self._collector.one_class:
            raise ValueError(
                "`HeadMonitor` must watch an output of one class per example. "
                f"Received: output `{self._collector.name}`, of several labels"
            )
        self._collector.check(self.data)  # Not after an epoch of training.
        self._last = None
        number, _ = strategies.task(self.model.distribute_strategy)
        if self.log_dir is not None and number == 0:  # of several workers one writes
            self._writer = tf.summary.create_file_writer(str(self.log_dir))

    def on_epoch_end(self, epoch, logs=None):
        if self._last is None or epoch % self.every == 0:
            self._last = self._look(epoch)
        if logs is not None:
            logs.update(self._last)

    def on_train_end(self, logs=None):
        if self._writer is not None:
            self._writer.close()
        self._writer = self._collector = None

    def _look(self, epoch):
        """{name: value} of the model as it is; also kept and written."""
        predictions = self._collector(self.data)
        found = module_dominance(predictions)
        accuracies = 1.0 - found.head_errors
        values = {
            "module_dominance": found.lead,
            "head_accuracy_mean": accuracies.mean(),
            "head_accuracy_min": accuracies.min(),
            "head_accuracy_max": accuracies.max(),
            "head_disagreement": mean_disagreement(disagreement(predictions)),
        }
        values = {self.prefix + name: float(value) for name, value in values.items()}
        self.epochs.append(epoch + 1)
        self.history.append(found)
        if self._writer is not None:
            self._write(epoch, values, found.head_errors)
        return values

    def _write(self, epoch, values, errors):
        with self._writer.as_default(step=epoch):
            for name, value in values.items():
                tf.summary.scalar(name, value)
            for head, error in enumerate(errors):
                tf.summary.scalar(f"{self.prefix}head_error/{head}", error)
        self._writer.flush()
