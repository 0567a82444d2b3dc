"""Snapshot ensembles: the models that one training run passes through."""

from ensemble_heads.combining import combine, copy_of
from ensemble_heads.keras_api import keras
from ensemble_heads.losses.ensemble_loss import integer_at_least


class Snapshots(keras.callbacks.Callback):
    """Copies a model at the end of every cycle of its learning rate, while it trains.

    The schedule of the paper is Keras' own, with all cycles alike. Five cycles of 40
    epochs, for example:

    ```python
    >>> import ensemble_heads as eh
    >>> keras = eh.keras_api.keras
    >>> steps_per_epoch = 391
    >>> schedule = keras.optimizers.schedules.CosineDecayRestarts(
    ...     0.1, first_decay_steps=40 * steps_per_epoch, t_mul=1.0, m_mul=1.0)
    >>> optimizer = keras.optimizers.SGD(schedule, momentum=0.9)
    >>> snapshots = eh.Snapshots(cycle_epochs=40)

    ```

    After `single.fit(…, epochs=200, callbacks=[snapshots])`, `snapshots.ensemble()` is
    a multi-headed model of all five, `snapshots.ensemble(last=3)` of the last three.

    Args:
        cycle_epochs: int >= 1, epochs in a cycle.

    Attributes:
        models: list of functional `keras.Model`, the snapshots so far.

    Raises:
        ValueError: a bad `cycle_epochs`; in `fit`, a model that `eh.combine` refuses.

    References:
        Huang et al. 2017, Snapshot Ensembles, arXiv:1704.00109.
    """

    def __init__(self, cycle_epochs):
        super().__init__()
        self.cycle_epochs = integer_at_least("cycle_epochs", cycle_epochs, 1)
        self.models = []

    def on_train_begin(self, logs=None):
        copy_of(self.model)  # What cannot be copied is told before the first epoch.

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self.cycle_epochs == 0:
            number = len(self.models)
            self.models.append(copy_of(self.model, f"snapshot_{number}"))

    def ensemble(self, last=None, ensembler="mean"):
        """The multi-headed model of the snapshots.

        Args:
            last: int >= 1, only so many of the latest. Default: all.
            ensembler: as for `eh.combine`.

        Raises:
            ValueError: there are not so many snapshots.
        """
        count = len(self.models) if last is None else integer_at_least("last", last, 1)
        if not 1 <= count <= len(self.models):
            raise ValueError(
                f"`last` must be at most the number of snapshots, {len(self.models)}, "
                f"of which there must be one. Received: last={last}"
            )
        return combine(self.models[-count:], ensembler, name="snapshots")
