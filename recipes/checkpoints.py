"""Checkpoints from which training goes on as if it had never stopped."""

import math
import tempfile

import tensorflow as tf

from ensemble_heads.keras_api import KERAS_3, build_optimizer, keras
from recipes import folders
from recipes.common import SettingError, same_command

# What TensorFlow says of checkpoints that are damaged or of another model.
_UNREADABLE = (
    *(ValueError, AssertionError, LookupError, RuntimeError),
    tf.errors.OpError,
)


class Checkpoints:
    """The newest states of a compiled model, its optimizer among them.

    A checkpoint counts from the moment that TensorFlow's `checkpoint` file names it,
    which it does once all of it is written; what a killed process left half-written
    is never read. Of several workers all read the folder and the chief alone writes
    it: the others only take part, since TensorFlow reduces some variables over all
    workers to save them, and remove what they have written elsewhere.

    Args:
        folder: `Path`.
        model: compiled `keras.Model`; its optimizer is built.
        keep: int, how many of the newest to keep.
        writes: bool, False for all workers but the chief.
    """

    def __init__(self, folder, model, keep=2, writes=True):
        self._folder, self._writes = folder, writes
        self._step = tf.Variable(0, dtype=tf.int64, trainable=False)
        # Lists of variables: on Keras 3 TensorFlow does not find all by itself, since
        # it does not look into lists that are attributes of layers.
        self._checkpoint = tf.train.Checkpoint(
            weights=_variables(model.weights),
            optimizer=_state_of(model.optimizer, model.trainable_variables),
            random=_random_states(model),
            step=self._step,
        )
        self._manager = tf.train.CheckpointManager(
            self._checkpoint, str(folder), max_to_keep=keep
        )

    def restore(self, *others):
        """Takes the newest state; returns its step, 0 where there is none.

        Args:
            *others: `Path` of more folders of such states.

        Raises:
            SettingError: it cannot be read, or is that of another model.
        """
        folders_of_states = (self._folder, *others)
        found = [tf.train.latest_checkpoint(str(one)) for one in folders_of_states]
        path = max(filter(None, found), key=_step_of, default=None)
        if path is None:
            return 0
        try:
            status = self._checkpoint.restore(path)
            status.assert_existing_objects_matched()
        except _UNREADABLE as error:
            reason = str(error).strip().splitlines()[0]
            rule = (
                f"hold checkpoints of this very model, but {path} does not fit it "
                f"({reason}). Choose another folder, or pass --overwrite to start anew"
            )
            raise SettingError("workdir", rule, self._folder.parent) from error
        return int(tf.convert_to_tensor(self._step))  # it may be mirrored

    def save(self, step):
        """Writes the present state.

        Args:
            step: int, training steps made so far.

        Raises:
            SettingError: it cannot be written; the checkpoints before stay.
        """
        self._step.assign(step)
        if not self._writes:
            with tempfile.TemporaryDirectory() as elsewhere:
                manager = tf.train.CheckpointManager(self._checkpoint, elsewhere, 1)
                manager.save(checkpoint_number=step)
            return
        before = self._manager.latest_checkpoint
        try:
            self._manager.save(checkpoint_number=step)
        except (OSError, tf.errors.OpError) as error:
            self._remove_failed(step)
            reason = str(error).strip().splitlines()[0]
            kept = f"the one before, {before}, is kept" if before else "there is none"
            rule = (
                f"have room for checkpoints: the one of step {step} could not be "
                f"written ({reason}); {kept}. {same_command()} goes on from there"
            )
            raise SettingError("workdir", rule, self._folder.parent) from error

    def _remove_failed(self, step):
        """Gives back the room that a checkpoint took which came to nothing."""
        for pattern in (f"ckpt-{step}.*", f"ckpt-{step}_temp"):
            for path in self._folder.glob(pattern):
                folders.remove(path)


class BestCheckpoint:
    """The first of the states that did best on held-out data.

    Args:
        folder: `RunFolder`.
        model: compiled `keras.Model`.
        measure: str, what of the log chooses, the higher the better; where it is not
            logged, nothing is kept.
    """

    def __init__(self, folder, model, measure):
        self._folder, self._measure = folder, measure
        self._checkpoints = Checkpoints(
            folder.chosen, model, keep=1, writes=folder.writes
        )

    def keep_if_best(self, step):
        """Writes the present state if the log's last record is the best."""
        *earlier, last = self._folder.log
        measure = self._measure
        best = max((r[measure] for r in earlier if measure in r), default=-math.inf)
        if last.get(measure, -math.inf) > best:
            self._checkpoints.save(step)


def _step_of(path):
    """The step of a checkpoint, by its name."""
    return int(path.rpartition("-")[2])


def keep_random_states():
    """Lets models built from now on draw dropout from states that can be saved."""
    if not KERAS_3:
        keras.backend.experimental.enable_tf_random_generator()


def _state_of(optimizer, variables):
    """The variables of an optimizer, which it makes now."""
    # Keras 2 keeps the scale of a mixed_float16 loss apart.
    scale = getattr(optimizer, "_loss_scale", None)
    apart = [] if scale is None else [scale.current_loss_scale, scale.counter]
    if hasattr(optimizer, "build"):
        build_optimizer(optimizer, variables)
        return _variables(optimizer.variables) + apart
    # Those of tensorflow-addons are of Keras 2's legacy kind.
    optimizer._create_all_weights(variables)
    return optimizer.variables() + apart


def _variables(variables):
    return [v.value if KERAS_3 else v for v in variables]


def _random_states(model):
    """States of the model's random numbers, which are no weights."""
    layers = model._flatten_layers()
    if KERAS_3:
        return [g.state.value for layer in layers for g in layer._seed_generators]
    makers = [getattr(layer, "_random_generator", None) for layer in layers]
    return [m._generator for m in makers if getattr(m, "_generator", None) is not None]
