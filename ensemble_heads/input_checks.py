"""What bad targets and numbers get: one paragraph that names the culprit.

Labels out of range are found before training where targets are arrays, and by
assertions in the step where they come from a dataset. A program compiled by XLA
holds no assertions: there, only arrays are checked. NaN is looked for in the first
batch of every `fit`; later steps skip the check.
"""

import contextlib
import math
import re
import textwrap
import types

import numpy as np
import tensorflow as tf

from ensemble_heads.target_shapes import left_aligned

# Starts every message of an assertion in a graph, so that it can be found again in
# the report of the runtime.
_MARK = "ensemble_heads: "

# Soft targets may leave [0, 1] by what low precision loses, but not by more.
_SLACK = 0.01


def label_range(loss, classes):
    """(lowest, highest, what they are called) of a base loss' targets, or None.

    Args:
        loss: `BaseLoss`.
        classes: int, the last axis of the predictions.
    """
    if loss is not None and loss.family == "poisson":
        return 0, math.inf, "numbers of events, 0 or more,"
    if loss is None or loss.link is None or classes is None:
        return None
    if loss.sparse:
        return 0, classes - 1, f"class numbers from 0 to {classes - 1}"
    return -_SLACK, 1.0 + _SLACK, "probabilities from 0 to 1"


def check_target_array(loss, shape, target, output, weights, has_masks):
    """Raises ValueError if an array of targets fits neither output nor range.

    Args:
        loss: `BaseLoss` or None.
        shape: tuple, that of the predictions, with None for unknown sizes.
        target: anything; only NumPy arrays, lists and eager tensors are looked at.
        output: str, the output's name for the message.
        weights: sample weights or None; what has the weight 0 may hold anything.
        has_masks: callable () -> bool, whether the model has masks: the step alone
            knows then what counts. Asked only where something is out of range.
    """
    if loss is None or not _is_array(target):
        return
    values = np.asarray(target)
    if values.dtype.kind not in "iufb" or not values.size:
        return
    _check_shape(loss, shape, values)
    limits = label_range(loss, shape[-1])
    if limits is None:
        return
    if weights is not None:
        counts = np.asarray(weights) != 0
        if counts.shape != values.shape[: counts.ndim]:
            return  # the step tells what is wrong with them
        values = values[counts]
    if getattr(loss, "ignore_class", None) is not None:
        values = values[values != loss.ignore_class]
    outside = values.size and (values.min() < limits[0] or values.max() > limits[1])
    if outside and not has_masks():
        message = _label_message(limits, output).removeprefix(_MARK)
        raise ValueError(f"{message} {values.min()} to {values.max()}")


def assert_labels(loss, target, prediction, weights, output):
    """The target, after an assertion in the graph that its range is right.

    Args:
        loss: `BaseLoss`.
        target: tensor.
        prediction: `EnsemblePrediction`.
        weights: sample weights or None; what has the weight 0 may hold anything.
        output: str, the output's name for the message.
    """
    values = tf.convert_to_tensor(target)
    limits = label_range(loss, prediction.ensemble.logits.shape[-1])
    if limits is None or not (values.dtype.is_integer or values.dtype.is_floating):
        return values
    low, high = limits[:2]
    if values.dtype.is_integer:
        most = values.dtype.max
        low, high = math.ceil(low), math.floor(min(high, most))
    inside = (values >= low) & (values <= high)
    counted = loss.counted(target, prediction)
    if counted is not None:
        inside |= left_aligned(~counted, inside)
    if weights is not None:
        inside |= left_aligned(~tf.cast(weights, tf.bool), inside)
    if values.dtype.is_floating:
        # NaN is the first batch's business, and must not be reported as a label.
        inside |= tf.math.is_nan(values)
    message = _label_message(limits, output)
    check = _assert(
        tf.reduce_all(inside),
        [message, tf.reduce_min(values), "to", tf.reduce_max(values)],
    )
    with tf.control_dependencies(check):
        return tf.identity(values)


def without_uncounted(loss, target, prediction, weights):
    """Class numbers, with 0 in place of what is none where nothing counts.

    It must not reach TensorFlow's cross entropy, which refuses it or gives NaN, and
    0 x NaN is NaN. Other losses are finite for any finite target. Arguments as for
    `assert_labels`.
    """
    classes = prediction.ensemble.logits.shape[-1]
    nothing_is_left_out = prediction.mask is None and weights is None
    if nothing_is_left_out or classes is None or not getattr(loss, "sparse", False):
        return target
    values = tf.convert_to_tensor(target)
    numbers = tf.cast(values, tf.int64)
    outside = (numbers < 0) | (numbers >= classes)
    left_out = tf.zeros_like(outside)
    if prediction.mask is not None:
        left_out |= left_aligned(~prediction.mask, values)
    if weights is not None:
        left_out |= left_aligned(~tf.cast(weights, tf.bool), values)
    counted = loss.mask(target, prediction.ensemble)
    if counted is not None:  # the ignored class itself says that it is ignored
        left_out &= left_aligned(counted, values)
    return tf.where(outside & left_out, tf.zeros_like(values), values)


class FirstBatch:
    """Looks for NaN in the first batch of every `fit`.

    Knows that batch by the optimizer's count of steps, which the host sets and the
    training step compares with its own.
    """

    def __init__(self):
        self._step = tf.Variable(0, dtype=tf.int64, trainable=False)
        self._loss_is_due = True

    def begin(self, step):
        """The next batch is the first one.

        Args:
            step: scalar integer, how many steps the optimizer has made.
        """
        self._step.assign(tf.cast(step, tf.int64))
        self._loss_is_due = True

    def check(self, step, inputs, targets, loss):
        """Asserts, for the first batch, that there is no NaN, and names where it is.

        Args:
            step: scalar integer, how many steps the optimizer has made.
            inputs, targets: structures of tensors.
            loss: scalar tensor.

        Returns:
            List of tensors for `tf.control_dependencies`.
        """
        is_first = tf.equal(tf.cast(step, tf.int64), tf.convert_to_tensor(self._step))

        def check():
            with tf.control_dependencies(_assert_no_nan(inputs, targets, loss)):
                return tf.constant(True)

        checked = tf.cond(is_first, check, lambda: tf.constant(True))
        return [] if tf.executing_eagerly() else [checked]

    def watching(self, function):
        """A train function that also looks at the first loss it returns.

        It finds NaN where the graph cannot: in a program compiled by XLA.
        """

        def watched(iterator):
            logs = function(iterator)
            if self._loss_is_due:
                self._loss_is_due = False
                loss = logs.get("loss") if isinstance(logs, dict) else None
                if tf.is_tensor(loss) and np.isnan(loss.numpy()).any():
                    raise ValueError(_nan_message("loss").removeprefix(_MARK))
            return logs

        return watched


@contextlib.contextmanager
def clear_errors():
    """Turns what the runtime reports of bad input to the one paragraph it is about.

    Those are the assertions of this module, and in Keras 2 a ValueError raised while
    a step is traced, which comes with the code that raised it.
    """
    try:
        yield
    except ValueError as error:
        _, traced, report = str(error).partition("in user code:")
        found = re.search(r"^    ValueError: (.*)\Z", report, re.MULTILINE | re.DOTALL)
        if not traced or found is None:
            raise
        raise ValueError(textwrap.dedent(found.group(1)).strip()) from None
    except tf.errors.InvalidArgumentError as error:
        found = re.search(rf"assertion failed: \[({_MARK}.*)\]", str(error))
        if found is None:
            raise
        text = found.group(1).replace("] [", " ").removeprefix(_MARK)
        raise ValueError(text) from error


def _check_shape(loss, shape, values):
    # All that is asked of a prediction here is its shape.
    prediction = types.SimpleNamespace(logits=tf.TensorSpec((None, *shape[1:])))
    try:
        loss.match(values[:1], prediction)
    except ValueError:
        loss.match(values, prediction)  # The same, with the whole shape to tell.


def _assert(condition, data):
    if tf.executing_eagerly():
        if not condition:
            text = " ".join(str(getattr(d, "numpy", lambda d=d: d)()) for d in data)
            raise ValueError(text.removeprefix(_MARK))
        return []
    return [tf.debugging.Assert(condition, data)]


def _assert_no_nan(inputs, targets, loss):
    # The loss alone would not do: ReLU on oneDNN's kernels makes 0 of NaN, and the
    # gradients of the weights before it are NaN all the same.
    bad_input, bad_target = _any_nan(inputs), _any_nan(targets)
    bad_loss = tf.math.is_nan(loss)
    return [
        *_assert(~bad_input, [_nan_message("input (`x`)")]),
        *_assert(bad_input | ~bad_target, [_nan_message("target (`y`)")]),
        *_assert(
            bad_input | bad_target | ~bad_loss,
            [_nan_message("loss (not its inputs and targets)")],
        ),
    ]


def _any_nan(structure):
    flags = [
        tf.reduce_any(tf.math.is_nan(tensor))
        for tensor in tf.nest.flatten(structure)
        if tf.is_tensor(tensor) and tensor.dtype.is_floating
    ]
    return tf.reduce_any(tf.stack(flags)) if flags else tf.constant(False)


def _label_message(limits, output):
    return (
        f"{_MARK}`y` must hold {limits[2]} for output `{output}`, as its loss and "
        "number of units say. Received: values from"
    )


def _nan_message(what):
    return (
        f"{_MARK}The first batch must hold no NaN, but its {what} does. Look at how "
        "the data are read and scaled, at the initial weights and the learning rate. "
        f"Received: NaN in the {what}"
    )


def _is_array(target):
    return isinstance(target, (np.ndarray, list)) or (
        tf.is_tensor(target) and hasattr(target, "numpy")
    )
