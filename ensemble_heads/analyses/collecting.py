"""One pass over data, in which every head is heard on every example."""

import numpy as np
import tensorflow as tf

from ensemble_heads.analyses.head_predictions import HeadPredictions, two_classes
from ensemble_heads.keras_api import keras
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
        data: finite `tf.data.Dataset` of batches `(x, y)`, or such a tuple of arrays.
            Sample weights that follow are not looked at. Labels are class numbers
            `[batch]` or `[batch, 1]`, one-hot `[batch, classes]`, or for sigmoid
            outputs 0 and 1 of the output's shape. Positions of a sequence count as
            examples; those that the model masks, or of its loss' `ignore_class`, are
            left out.
        output: str, name of the output to look at, where there are several.
        batch_size: int, of arrays.
        verbose: 0 or 1, whether to show the progress.

    Returns:
        `HeadPredictions` in the data's order, every example once.

    Raises:
        ValueError: an output that is no classifier's, data without an end, without
            labels or without examples, or labels that do not fit the output.
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
        self.batch_size = batch_size
        self.verbose = verbose
        self.ignored = _ignored_class(model, self.index)
        units = model.wrapper.layout.head_shapes[self.index][-1]
        self.one_class = self.link == "softmax" or units == 1
        self._said = tf.function(self._forward, reduce_retracing=True)

    def __call__(self, data):
        """The `HeadPredictions` of a data set."""
        parts = []
        batches, count = _batches(data, self.batch_size, self.model.outputs_like)
        bar = keras.utils.Progbar(count, verbose=self.verbose, unit_name="batch")
        for x, y, _ in batches:
            heads, ensemble, mask = self._said(x)
            parts.append(self._flat(heads.numpy(), ensemble.numpy(), mask, y))
            if self.verbose:
                bar.update(len(parts))
        if self.verbose and count is None and parts:
            bar.update(len(parts), finalize=True)
        if not parts:
            raise ValueError("`data` must hold at least one batch. Received: none")
        labels, heads, ensemble = (np.concatenate(column) for column in zip(*parts))
        one_unit = self.link == "sigmoid" and heads.shape[-1] == 1
        if one_unit:
            heads, ensemble = two_classes(heads), two_classes(ensemble)
        link = "softmax" if one_unit else self.link
        ensembler = self.model.flat_ensemblers()[self.index]
        return HeadPredictions(
            labels, heads, ensemble, link, ensembler, self.form, one_unit
        )

    def _forward(self, x):
        said = self.model.forward(x, training=False)[self.index]
        return (
            tf.cast(said.heads.logits, tf.float32),
            tf.cast(said.ensemble.logits, tf.float32),
            said.mask,
        )

    def _flat(self, heads, ensemble, mask, y):
        """Labels, heads and ensemble of a batch, positions laid out as examples."""
        if y is None:
            raise ValueError("`data` must hold labels. Received: inputs alone")
        target = self.model.outputs_like.flatten(y, "y")[self.index]
        labels, counted = self._labels(np.asarray(target), ensemble.shape)
        heads = np.moveaxis(heads, 1, -2)  # [batch, …, heads, classes]
        if mask is not None:
            counted = counted & np.asarray(mask).reshape(-1)
        heads = heads.reshape(-1, *heads.shape[-2:])
        ensemble = ensemble.reshape(-1, ensemble.shape[-1])
        return labels[counted], heads[counted], ensemble[counted]

    def _labels(self, target, shape):
        """Labels of a batch, and which of them count."""
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
        if is_dense:
            self._check_rows(target, np.isin(target, (0, 1)), "0 or 1")
            if several:
                labels = target.reshape(-1, classes) == 1
                return labels, np.ones(len(labels), bool)
            self._check_rows(target, target.sum(axis=-1) == 1, "one-hot")
            target = np.argmax(target, axis=-1)
        target = target.reshape(-1)
        counted = np.ones(len(target), bool)
        if self.ignored is not None and not is_dense:
            counted = target != self.ignored
        most = max(classes, 2) - 1
        known = (target >= 0) & (target <= most) & (target == np.floor(target))
        self._check_rows(target, known | ~counted, f"whole, from 0 to {most}")
        return target.astype("int64"), counted

    def _check_rows(self, target, right, rule):
        if not np.all(right):
            raise ValueError(
                f"Labels of output `{self.name}` must be {rule}. "
                f"Received: {np.asarray(target)[~right][:3].tolist()}"
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


def _batches(data, batch_size, outputs_like):
    """Batches `(x, y, weights)`, and how many there are, or None."""
    unpack = keras.utils.unpack_x_y_sample_weight
    if isinstance(data, tf.data.Dataset):
        count = int(data.cardinality())
        if count == tf.data.INFINITE_CARDINALITY:
            raise ValueError(
                "`data` must have an end: every example is taken once. "
                "Received: a dataset that repeats for ever"
            )
        return map(unpack, data), None if count < 0 else count
    if not isinstance(data, (tuple, list)):
        raise ValueError(
            "`data` must be a tf.data.Dataset of batches, or a tuple (x, y) of arrays. "
            f"Received: data of class {type(data).__name__}"
        )
    x, y, _ = unpack(data)
    if y is not None and outputs_like.is_single:
        y = np.asarray(y)
    arrays = tf.nest.flatten((x, y) if y is not None else x)
    sizes = {len(array) for array in arrays}
    if len(sizes) != 1:
        raise ValueError(
            "`data` must hold arrays of one length. "
            f"Received: arrays of lengths {[len(array) for array in arrays]}"
        )
    (size,) = sizes
    starts = range(0, size, batch_size)

    def batch(start):
        rows = slice(start, start + batch_size)
        cut = tf.nest.map_structure(lambda array: tf.constant(array[rows]), x)
        if y is None:
            return cut, None, None
        return cut, tf.nest.map_structure(lambda array: array[rows], y), None

    return map(batch, starts), len(starts)
