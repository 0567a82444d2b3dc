"""What every loss of an ensemble is, and the checks that several of them share."""

import dataclasses
import math
import numbers

import tensorflow as tf

from ensemble_heads.ensemblers import Mean


@dataclasses.dataclass(frozen=True)
class HeadedOutput:
    """One output of a multi-headed model, as a loss looks at it in `compile`.

    Attributes:
        name: str, for messages.
        base_loss: `BaseLoss`, l.
        link: str, what the heads' raw outputs mean (see `predictions`).
        shape: tuple, that of one head's output, None where it is not known.
        num_heads: int, N.
        ensembler: Keras layer.
    """

    name: str
    base_loss: object
    link: str
    shape: tuple
    num_heads: int
    ensembler: object


class EnsembleLoss:
    """Base of losses of an ensemble; subclasses implement `call`.

    A loss of your own, the largest loss of any head:

    ```python
    >>> import tensorflow as tf
    >>> import ensemble_heads as eh
    >>> @eh.keras_api.register
    ... class WorstHead(eh.losses.EnsembleLoss):
    ...     def call(self, base_loss, target, prediction):
    ...         return tf.reduce_max(self.head_losses(base_loss, target, prediction), 1)
    >>> WorstHead()
    WorstHead()

    ```
    """

    def __call__(self, base_loss, target, prediction):
        """The loss of every example, not reduced.

        Args:
            base_loss: `BaseLoss`, l.
            target: tensor, the ground truth g.
            prediction: `EnsemblePrediction` of one output.

        Returns:
            `[batch, …]` without the last axis of the predictions. Not reduced: the
            caller weights the examples and divides by the *global* batch size.
        """
        return self.call(base_loss, target, prediction)

    def call(self, base_loss, target, prediction):
        raise NotImplementedError(
            f"`{type(self).__name__}` must implement "
            "`call(base_loss, target, prediction)`."
        )

    def head_losses(self, base_loss, target, prediction):
        """l(g, p_i) of all heads `[batch, heads, …]`, in one call of the base loss."""
        return of_each_head(base_loss, target, prediction.heads, base_loss)

    def head_distillations(self, base_loss, teacher, prediction):
        """l(teacher, p_i) of all heads `[batch, heads, …]`, as `head_losses`.

        Args:
            base_loss: `BaseLoss`, l.
            teacher: `Prediction` `[batch, …]`.
            prediction: `EnsemblePrediction`.
        """

        def distillation(logits, student):
            return base_loss.distillation(teacher.with_logits(logits), student)

        return of_each_head(base_loss, teacher.logits, prediction.heads, distillation)

    def check(self, output):
        """Looks at one output of the model in `compile`.

        Args:
            output: `HeadedOutput`.

        Raises:
            ValueError: this loss cannot train such an output.
        """

    def observe(self, inputs, outputs, training):
        """What the loss wants to know of a batch's inputs besides the predictions.

        Args:
            inputs: what the model is called on.
            outputs: `Outputs` of the model.
            training: bool.

        Returns:
            None, or a list with an entry for each output, which `call` finds as
            `prediction.observed`.
        """
        return None

    def look_at_outputs(self, parts):
        """Looks at all outputs of a batch together, before `call` gets each alone.

        Args:
            parts: list of `(base_loss, target, prediction, loss_weight)`, for every
                output that has a loss and targets; what is found is left in the
                predictions as `prediction.chosen`.
        """

    def ensembler_gradient(self, num_heads):
        """Factor on the gradient from a parametric ensembler into the heads, or None.

        Args:
            num_heads: int, N.
        """
        return None

    def get_config(self):
        return {}

    @classmethod
    def from_config(cls, config):
        return cls(**config)

    def __repr__(self):
        arguments = ", ".join(f"{k}={v!r}" for k, v in self.get_config().items())
        return f"{type(self).__name__}({arguments})"


def of_each_head(base_loss, target, heads, function):
    """`function(target, head)` of all heads `[batch, heads, …]`.

    Heads are run as if they were examples, with the target repeated. A user's own
    loss may look at the whole batch, and is called head by head.

    Args:
        base_loss: `BaseLoss`, tells whether examples are taken by themselves.
        target: tensor `[batch, …]`.
        heads: `Prediction` `[batch, heads, …]`.
        function: callable `(tensor, Prediction) -> [batch, …]`.
    """
    if not base_loss.by_example:
        return tf.stack([function(target, head) for head in heads.heads()], axis=1)
    logits = heads.logits
    count = int(logits.shape[1])
    target = tf.repeat(tf.convert_to_tensor(target), count, axis=0)
    flat = tf.reshape(logits, tf.concat([[-1], tf.shape(logits)[2:]], axis=0))
    flat = tf.ensure_shape(flat, [None, *logits.shape[2:]])
    losses = function(target, heads.with_logits(flat))
    shape = tf.concat([[-1, count], tf.shape(losses)[1:]], axis=0)
    known = [None, count, *losses.shape[1:]]
    return tf.ensure_shape(tf.reshape(losses, shape), known)


def finite_number(name, value):
    """The argument `name` as a float; ValueError if it is not finite or no number."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(
            f"`{name}` must be a finite number. Received: {name}={value!r}"
        )
    return number


def number_at_least(name, value, least, why):
    """The argument `name` as a float; ValueError with the reason if it is less."""
    number = finite_number(name, value)
    if number < least:
        raise ValueError(
            f"`{name}` must be at least {least}: {why}. Received: {name}={value!r}"
        )
    return number


def integer_at_least(name, value, least):
    """The argument `name` as an int; ValueError if it is none or less."""
    is_integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not is_integer or value < least:
        raise ValueError(
            f"`{name}` must be an integer of at least {least}. "
            f"Received: {name}={value!r}"
        )
    return int(value)


def require_mean(loss, output, of):
    """Checks that the model predicts the mean that a loss trains.

    Args:
        loss: `EnsembleLoss`, for the message.
        output: `HeadedOutput`.
        of: `"probabilities"` or `"logits"`, as for `eh.ensemblers.Mean`.

    Raises:
        ValueError: the ensembler is another one.
    """
    ensembler = output.ensembler
    # Where the heads' outputs are raw, both means are the same.
    if isinstance(ensembler, Mean) and (ensembler.of == of or output.link == "linear"):
        return
    has = f"Mean({ensembler.of!r})" if isinstance(ensembler, Mean) else ensembler.name
    raise ValueError(
        f"`ensembler` must be eh.ensemblers.Mean({of!r}) under "
        f"`ensemble_loss` {loss!r}, which trains that mean: output `{output.name}` "
        "would be trained as one thing and predicted as another. Pass it to "
        f"`eh.multi_head`. Received: ensembler={has}"
    )
