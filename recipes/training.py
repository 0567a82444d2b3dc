"""Parts of training: start anew, evaluate each example once, time the steps."""

import dataclasses
import statistics
import time

import numpy as np
import tensorflow as tf

import ensemble_heads as eh
from ensemble_heads.keras_api import keras


class Restartable:
    """A compiled model that can start again from other weights.

    For a small network, tracing the training step costs as much as training. So the
    runs of one method share a compiled model, each with weights of its own.

    Args:
        model: compiled `keras.Model`.

    Attributes:
        model: the same.
    """

    def __init__(self, model):
        self.model = model
        model.optimizer.build(model.trainable_variables)
        self._initial = [np.array(value) for value in model.optimizer.variables]

    def restart(self, drawn):
        """Takes the weights of `drawn`, a model built alike; the optimizer forgets."""
        self.model.set_weights(drawn.get_weights())
        for variable, value in zip(
            self.model.optimizer.variables, self._initial, strict=True
        ):
            variable.assign(value)


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """How a classifier does on a data set.

    Attributes:
        examples: int, how many were seen.
        accuracy: float in [0, 1]; of a multi-headed model, the ensemble's.
        cross_entropy: float, in nats per example.
        head_accuracies: tuple of float, one per head; empty without heads.
        oracle_accuracy: float, the share of examples that any head gets right; None
            without heads.
    """

    examples: int
    accuracy: float
    cross_entropy: float
    head_accuracies: tuple[float, ...] = ()
    oracle_accuracy: float | None = None


class Evaluator:
    """Evaluates a classifier that gives probabilities, on whole data sets.

    Args:
        model: `keras.Model`, images -> `[batch, classes]`.
        element_spec: that of the data sets: `(images, labels)`.
    """

    def __init__(self, model, element_spec):
        def predict(inputs):
            if isinstance(model, eh.MultiHeadModel):
                prediction = model.forward(inputs, training=False)[0]
                return prediction.ensemble.values, prediction.heads.values
            return model(inputs, training=False), None

        self._predict = tf.function(predict, input_signature=[element_spec[0]])

    def __call__(self, dataset, examples):
        """Sees every example exactly once.

        Args:
            dataset: `tf.data.Dataset` of `(inputs, labels)`, labels int `[batch]`.
            examples: int, how many it must hold.

        Returns:
            An `Evaluation`.

        Raises:
            RuntimeError: the dataset held another number of examples.
        """
        batches = [(*self._predict(inputs), labels) for inputs, labels in dataset]
        ensemble, heads, labels = zip(*batches)
        labels = np.concatenate(labels)
        if len(labels) != examples:
            raise RuntimeError(
                f"The evaluation must see {examples} examples exactly once, "
                f"but saw {len(labels)}"
            )
        probabilities = np.concatenate(ensemble)
        chosen = probabilities[np.arange(len(labels)), labels]
        head_accuracies, oracle = (), None
        if heads[0] is not None:
            right = np.concatenate(heads).argmax(-1) == labels[:, np.newaxis]
            head_accuracies = tuple(map(float, right.mean(axis=0)))
            oracle = float(right.any(axis=1).mean())
        return Evaluation(
            len(labels),
            float((probabilities.argmax(-1) == labels).mean()),
            float(-np.log(np.maximum(chosen, 1e-7)).mean()),
            head_accuracies,
            oracle,
        )


class EvaluateEvery(keras.callbacks.Callback):
    """Evaluates after every n-th epoch and after the last one.

    Attributes:
        results: {epoch, from 1: what `evaluate` returned}.
    """

    def __init__(self, evaluate, epochs):
        super().__init__()
        self._evaluate, self._every = evaluate, epochs
        self.results = {}

    def on_epoch_end(self, epoch, logs=None):
        done = epoch + 1
        if done % self._every == 0 or done == self.params["epochs"]:
            self.results[done] = self._evaluate()


class StepTimer(keras.callbacks.Callback):
    """Measures seconds per training step, the wait for data included.

    The first epoch is left out: it traces, compiles and warms up. Only where there is
    no other, its own later half is taken.
    """

    def on_train_begin(self, logs=None):
        self._epochs = []

    def on_epoch_begin(self, epoch, logs=None):
        self._epochs.append([])
        self._last = None

    def on_train_batch_end(self, batch, logs=None):
        now = time.perf_counter()
        if self._last is not None:
            self._epochs[-1].append(now - self._last)
        self._last = now

    @property
    def seconds_per_step(self):
        """The median, or None where an epoch has a single step."""
        first, *later = self._epochs
        times = sum(later, []) or first[len(first) // 2 :]
        return statistics.median(times) if times else None
