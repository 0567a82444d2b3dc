"""Predictions of heads and ensembles, kept as logits so that averages stay finite.

A head gives raw outputs z. The link of an output says what the single model makes of
them: "softmax" or "sigmoid" probabilities, "exponential" rates, or nothing ("linear").
Averages of probabilities are taken in log space, in float32 or wider: heads as sure as
z = +-1e4 would otherwise give log 0 and gradients that are not finite.
"""

import math

import tensorflow as tf

LINKS = ("softmax", "sigmoid", "exponential", "linear")

# Where only probabilities are known, they are kept this far from 0 and 1 before the
# logarithm, as Keras' own losses do (keras.backend.epsilon()).
EPSILON = 1e-7


class Prediction:
    """What one head, a stack of heads or an ensemble says of one output.

    Attributes:
        logits: float tensor `[batch, …]` or `[batch, heads, …]`, the raw form, in
            float32 or wider.
        link: `"softmax"` (over the last axis), `"sigmoid"`, `"exponential"` or
            `"linear"`.
        form: `"probabilities"` when the single model's output has the link applied,
            `"logits"` when it is left raw.
    """

    def __init__(self, logits, link="linear", form="probabilities"):
        if link not in LINKS:
            raise ValueError(f"`link` must be one of {LINKS}. Received: link={link!r}")
        self.logits = widen(logits)
        self.link = link
        self.form = form
        self._given = None

    @classmethod
    def from_values(cls, values, link="linear", form="probabilities"):
        """The prediction whose `values` are these, e.g. a layer's output."""
        values = widen(values)
        if form == "logits" or link == "linear":
            return cls(values, link, form)
        most = values.dtype.max if link == "exponential" else 1.0 - EPSILON
        inside = tf.clip_by_value(values, EPSILON, most)
        logits = tf.math.log(inside)
        if link == "sigmoid":
            logits -= tf.math.log1p(-inside)
        prediction = cls(logits, link, form)
        prediction._given = values
        return prediction

    @property
    def probabilities(self):
        """The link applied to the logits; the logits themselves for "linear"."""
        return apply_link(self.logits, self.link)

    @property
    def values(self):
        """The prediction in the form of the single model's output."""
        if self._given is not None:
            return self._given
        return self.logits if self.form == "logits" else self.probabilities

    def with_logits(self, logits):
        """A prediction of the same link and form."""
        return Prediction(logits, self.link, self.form)

    def stop_gradient(self):
        """The same prediction as a constant."""
        constant = self.with_logits(tf.stop_gradient(self.logits))
        if self._given is not None:
            constant._given = tf.stop_gradient(self._given)
        return constant

    def heads(self):
        """Splits a stack `[batch, heads, …]` into a list of predictions."""
        return [self.with_logits(z) for z in tf.unstack(self.logits, axis=1)]


class EnsemblePrediction:
    """What a multi-headed model says of one output.

    Attributes:
        heads: `Prediction` `[batch, heads, …]`, p_i of the paper.
        ensemble: `Prediction` `[batch, …]`, p_ens of the paper.
        parametric: bool, whether the ensembler has weights to train.
        mask: bool tensor `[batch, …]` of the positions that count, or None.
        step: integer scalar, how many steps the optimizer has made; None outside of
            training and evaluation.
        observed: what the loss has made of the inputs (`EnsembleLoss.observe`).
        weights: sample weights of this output as they were given, or None.
        chosen: what the loss has made of all outputs together, or None
            (`EnsembleLoss.look_at_outputs`).
    """

    step = None
    observed = None
    weights = None
    chosen = None

    def __init__(self, heads, ensemble, parametric=False, mask=None):
        self.heads = heads
        self.ensemble = ensemble
        self.parametric = parametric
        self.mask = mask

    @property
    def num_heads(self):
        return int(self.heads.logits.shape[1])


def widen(tensor):
    """Casts to float32 unless the tensor is wider already."""
    tensor = tf.convert_to_tensor(tensor)
    return tensor if tensor.dtype == tf.float64 else tf.cast(tensor, tf.float32)


def apply_link(logits, link):
    """Softmax over the last axis, sigmoid, exponential, or nothing."""
    if link == "softmax":
        return tf.nn.softmax(logits)
    if link == "exponential":
        return tf.exp(logits)
    return tf.sigmoid(logits) if link == "sigmoid" else logits


def mean_of_probabilities(logits, link="linear", axis=1, form="probabilities"):
    """The prediction whose probabilities are the heads' mean probabilities.

    Arguments and result as for `mixture`, without weights.
    """
    stack = Prediction(logits, link, form)
    if link == "linear":
        return stack.with_logits(tf.reduce_mean(stack.logits, axis))
    return mixture(logits, -math.log(stack.logits.shape[axis]), link, axis, form)


def mixture(logits, log_weights, link="linear", axis=1, form="probabilities"):
    """The prediction whose probabilities are p = sum_i w_i p_i over the heads.

    softmax: log p = logsumexp_i(log w_i + log_softmax z_i), which serves as logits.
    sigmoid: logit p = logsumexp_i(log w_i + log sigmoid(z_i))
                       - logsumexp_i(log w_i + log sigmoid(-z_i)).
    exponential: log p = logsumexp_i(log w_i + z_i).
    linear: the plain weighted sum, since there is nothing to apply.

    Args:
        logits: float tensor, the heads' raw outputs along `axis`.
        log_weights: log w, of weights that sum to 1; broadcasts against `logits`.
        link: `"softmax"`, `"sigmoid"`, `"exponential"` or `"linear"`.
        axis: int, the axis of the heads; not the last one for softmax.
        form: form of the single model's output, kept in the result.

    Returns:
        A `Prediction` without the axis of the heads. Values and gradients are finite
        for every finite input.
    """
    stack = Prediction(logits, link, form)

    def log_sum(logs):
        return tf.reduce_logsumexp(log_weights + logs, axis)

    if link == "softmax":
        return stack.with_logits(log_sum(tf.nn.log_softmax(stack.logits)))
    if link == "sigmoid":
        yes = log_sum(tf.math.log_sigmoid(stack.logits))
        return stack.with_logits(yes - log_sum(tf.math.log_sigmoid(-stack.logits)))
    if link == "exponential":
        return stack.with_logits(log_sum(stack.logits))
    return stack.with_logits(tf.reduce_sum(tf.exp(log_weights) * stack.logits, axis))


def mean_of_logits(logits, link="linear", axis=1, form="probabilities"):
    """The prediction of the mean raw output, then the link.

    For softmax this is the normalised geometric mean of the heads' probabilities.
    Arguments and result as for `mean_of_probabilities`.
    """
    stack = Prediction(logits, link, form)
    return stack.with_logits(tf.reduce_mean(stack.logits, axis))


def scale_gradient(tensor, factor):
    """The tensor itself, with its gradient multiplied by `factor`.

    Section 3 of the EnsembleNet paper puts this on the input of an ensembler that
    has weights, in place of a factor on its loss.

    Args:
        tensor: float tensor.
        factor: float.

    Returns:
        A tensor equal to `tensor`.
    """

    @tf.custom_gradient
    def identity(inputs):
        return tf.identity(inputs), lambda gradient: gradient * factor

    return identity(tensor)
