"""One pass over data, in which every head is heard on every example."""

import numpy as np
import tensorflow as tf

from ensemble_heads import input_checks, model_inputs
from ensemble_heads.analyses.head_predictions import HeadPredictions, two_classes
from ensemble_heads.keras_api import keras
from ensemble_heads.labelled_batches import labelled_batches
from ensemble_heads.losses.ensemble_loss import integer_at_least
from ensemble_heads.multi_head_model import MultiHeadModel


def collect(model, data, output=None, batch_size=128, verbose=1):
    """What every head and the ensemble say of data, beside its labels.

    ```python
    >>> import numpy as np
    >>> import ensemble_heads as eh
    >>> keras = eh.keras_api.keras
    >>> inputs = keras.Input((4,))
    >>> shared = keras.layers.Dense(8, activation="relu", name="shared")(inputs)
    >>> classes = keras.layers.Dense(3, activation="softmax")(shared)
    >>> model = eh.multi_head(keras.Model(inputs, classes), fork_at="shared")
    >>> data = np.ones([6, 4]), np.array([0, 1, 2, 0, 1, 2])
    >>> said = eh.analyses.collect(model, data, batch_size=4, verbose=0)
    >>> said.head_logits.shape
    (6, 2, 3)
    >>> round(eh.analyses.accuracies(said).ensemble, 3)
    0.333

    ```

    Args:
        model: `eh.MultiHeadModel`, a classifier.
        data: finite `tf.data.Dataset` or Keras `PyDataset` (`Sequence`) of batches
            `(x, y)` or `(x, y, sample_weight)`, or such a tuple of arrays. Labels are
            class numbers `[batch]` or `[batch, 1]`, one-hot `[batch, classes]`, or for
            sigmoid outputs 0 and 1 of the output's shape. Sample weights are of the
            labels' shape or its beginning, and weigh in every analysis. Positions of a
            sequence count as examples. Left out are those that the model masks, of its
            loss' `ignore_class`, or of weight 0, as fill up batches.
        output: str, name of the output to look at, where there are several.
        batch_size: int, of arrays.
        verbose: 0 or 1, whether to show the progress.

    Returns:
        `HeadPredictions` in the data's order, every example once.

    Raises:
        ValueError: an output that is no classifier's, data without an end, without
            labels or without examples, or labels or weights that do not fit the
            output.
    """
    return Collector(model, output, batch_size, verbose)(data)


class Collector:
    """`collect` for several passes of one model, which compiles its graph only once.

    Arguments as those of `collect`.

    Attributes:
        one_class: bool, whether every example has one class.
    """

    def __init__(self, model, output=None, batch_size=128, verbose=0):
        if not isinstance(model, MultiHeadModel):
            raise ValueError(
                "`model` must be an eh.MultiHeadModel; eh.combine([network]) makes a "
                "plain network one of one head. Received: model of class "
                f"{type(model).__name__}"
            )
        self.model = model
        self.index = _output_index(model.outputs_like.names, output)
        self.link = model.flat_links[self.index]
        self.name = model.outputs_like.names[self.index]
        if self.link not in ("softmax", "sigmoid"):
            raise ValueError(
                f"Output `{self.name}` must be a classifier's: softmax or sigmoid, or "
                "raw outputs of a model that was compiled with a loss on logits. "
                f"Received: a {self.link} output"
            )
        raw = model.wrapper.flat_links[self.index] == "linear"
        self.form = "logits" if raw else "probabilities"
        self.batch_size = integer_at_least("batch_size", batch_size, 1)
        self.verbose = verbose
        self.ignored = _ignored_class(model, self.index)
        units = model.wrapper.layout.head_shapes[self.index][-1]
        self.one_class = self.link == "softmax" or units == 1
        self._specs = tf.nest.flatten(model_inputs.input_specs(model))
        self._said = tf.function(self._forward, reduce_retracing=True)

    def __call__(self, data):
        """The `HeadPredictions` of a data set."""
        parts = []
        batches, count = labelled_batches(
            data, self.model.outputs_like, self.batch_size
        )
        bar = keras.utils.Progbar(count, verbose=self.verbose, unit_name="batch")
        for batch in batches:
            parts.append(self._batch(*batch))
            if self.verbose:
                bar.update(len(parts))
        if self.verbose and count is None and parts:
            bar.update(len(parts), finalize=True)
        return self._predictions(parts)

    def check(self, data):
        """Raises what is wrong with the first batch of a data set, or with its form."""
        batches, _ = labelled_batches(data, self.model.outputs_like, self.batch_size)
        for batch in batches:
            self._batch(*batch)
            break

    def _predictions(self, parts):
        """`HeadPredictions` of batches: tuples of labels, heads, ensemble, weights."""
        if not parts:
            raise ValueError("`data` must hold at least one batch. Received: none")
        labels, heads, ensemble, weights = map(np.concatenate, zip(*parts))
        one_unit = self.link == "sigmoid" and heads.shape[-1] == 1
        if one_unit:
            heads, ensemble = two_classes(heads), two_classes(ensemble)
        return HeadPredictions(
            *(labels, heads, ensemble),
            link="softmax" if one_unit else self.link,
            ensembler=self.model.flat_ensemblers()[self.index],
            form=self.form,
            one_unit=one_unit,
            weights=None if np.all(weights == 1) else weights,
        )

    def _forward(self, x):
        said = self.model.forward(x, training=False)[self.index]
        return (
            tf.cast(said.heads.logits, tf.float32),
            tf.cast(said.ensemble.logits, tf.float32),
            said.mask,
        )

    def _batch(self, x, y, weights):
        """Labels, heads, ensemble and weights; positions laid out as examples."""
        if y is None:
            raise ValueError("`data` must hold labels. Received: inputs alone")
        self._require_batch(x)
        with input_checks.clear_errors():
            heads, ensemble, mask = self._said(x)
        outputs_like = self.model.outputs_like
        target = outputs_like.flatten(y, "y")[self.index]
        weight = outputs_like.flatten(weights, "sample_weight", shared=True)[self.index]
        weight = self._weights(weight, tuple(ensemble.shape[:-1]))
        counted = weight != 0
        if mask is not None:
            counted &= np.asarray(mask).reshape(-1)
        shape = tuple(ensemble.shape)
        labels, counted = self._labels(np.asarray(target), shape, counted)
        heads = np.moveaxis(heads.numpy(), 1, -2)  # [batch, …, heads, classes]
        heads = heads.reshape(-1, *heads.shape[-2:])
        ensemble = ensemble.numpy().reshape(-1, ensemble.shape[-1])
        return labels[counted], heads[counted], ensemble[counted], weight[counted]

    def _require_batch(self, x):
        """Raises ValueError if an input is one example instead of a batch of them."""
        given = tf.nest.flatten(x)
        if len(given) != len(self._specs):
            return  # Keras tells what is missing.
        for tensor, spec in zip(given, self._specs):
            one = spec.shape[1:]
            # Keras takes [batch] for [batch, 1].
            if (
                one != (1,)
                and one.rank == tensor.shape.rank
                and (one.is_compatible_with(tensor.shape))
            ):
                raise ValueError(
                    "`data` must hold batches: a dataset of single examples needs "
                    f"`.batch(…)`. Received: an input of shape {tensor.shape} for "
                    f"{spec.shape}"
                )

    def _weights(self, weights, shape):
        """float64 `[examples]` of sample weights that broadcast from the left."""
        weights = np.ones(shape) if weights is None else np.asarray(weights)
        given = shape if weights.shape == (*shape, 1) else weights.shape
        wanted = [shape[: i + 1] for i in range(len(shape))]
        if weights.dtype.kind not in "biuf" or given not in wanted:
            raise ValueError(
                f"Sample weights of output `{self.name}` must be numbers of shape "
                f"{' or '.join(map(str, wanted))}. "
                f"Received: {weights.dtype} of shape {weights.shape}"
            )
        aligned = weights.reshape(given + (1,) * (len(shape) - len(given)))
        return np.broadcast_to(aligned, shape).reshape(-1).astype("float64")

    def _labels(self, target, shape, counted):
        """Labels of a batch, and which of them count; others may be anything."""
        classes = shape[-1]
        several = self.link == "sigmoid" and classes > 1
        is_dense = target.shape == shape and classes > 1
        is_sparse = target.shape in (shape[:-1], (*shape[:-1], 1))
        if not (is_dense if several else is_dense or is_sparse):
            wanted = [] if several else [shape[:-1]]
            raise ValueError(
                f"Labels of output `{self.name}` must be of shape "
                f"{' or '.join(map(str, [*wanted, shape]))}. "
                f"Received: labels of shape {target.shape}"
            )
        if target.dtype.kind not in "biuf":
            raise ValueError(
                f"Labels of output `{self.name}` must be numbers. "
                f"Received: labels of type {target.dtype}"
            )
        if is_dense:
            target = target.reshape(-1, classes)
            either = np.isin(target, (0, 1)) | ~counted[:, np.newaxis]
            self._require(target, either, "0 or 1")
            if several:
                return target == 1, counted
            self._require(target, (target.sum(axis=-1) == 1) | ~counted, "one-hot")
            return np.argmax(target, axis=-1), counted
        target = target.reshape(-1)
        if self.ignored is not None:
            counted = counted & (target != self.ignored)
        most = max(classes, 2) - 1
        known = (target >= 0) & (target <= most) & (target == np.floor(target))
        self._require(target, known | ~counted, f"whole, from 0 to {most}")
        return np.where(counted, target, 0).astype("int64"), counted

    def _require(self, target, right, rule):
        if not np.all(right):
            raise ValueError(
                f"Labels of output `{self.name}` must be {rule}. "
                f"Received: {target[~right][:3].tolist()}"
            )


def _output_index(names, output):
    if output is None and len(names) == 1:
        return 0
    if output not in names:
        raise ValueError(
            f"`output` must be one of the outputs {names}. Received: output={output!r}"
        )
    return names.index(output)


def _ignored_class(model, index):
    plan = getattr(model, "_plan", None)
    base = None if plan is None else plan.base_losses[index]
    return getattr(base, "ignore_class", None)
