"""Natural exponential families: the log partition function A of each.

The negative log-likelihood of a natural parameter z is A(z) - <T(g), z>, up to what
does not depend on z. Of N heads with the mean parameter z, the mean loss less the loss
of the mean is therefore 1 / N sum_i A(z_i) - A(z), whatever the target (a categorical
one that does not sum to 1 multiplies A by its sum). It is the mean
divergence of the heads from the mean, their ambiguity (Webb et al. 2019,
arXiv:1902.04422, equation 6).
"""

import tensorflow as tf

# The link under which the heads' raw outputs are the natural parameters of a family.
LINKS = {
    "categorical": "softmax",
    "bernoulli": "sigmoid",
    "gaussian": "linear",
    "poisson": "exponential",
}


def mean_and_ambiguity(family, heads):
    """The mean q of the heads, and 1 / N sum_i D(q || q_i), by which l(q) is lower.

    Args:
        family: a key of `LINKS`; the negative log-likelihood is scaled as Keras' loss
            is, a mean over the last axis but for `"categorical"`.
        heads: float tensor `[batch, heads, …]`, z_i.

    Returns:
        The mean natural parameter `[batch, …]`, and the ambiguity `[batch, …]`
        without the last axis.
    """
    if family == "categorical":
        return _categorical(heads)
    mean = tf.reduce_mean(heads, axis=1)
    return mean, _AMBIGUITIES[family](heads, mean)


@tf.custom_gradient
def _categorical(heads):
    """As `mean_and_ambiguity`; both gradients pass over the heads only twice.

    Hundreds of heads of a few classes make every pass dear.
    """
    mean = tf.reduce_mean(heads, axis=1)
    most, powers, total = _exponentials(heads)
    most_of_mean, powers_of_mean, total_of_mean = _exponentials(mean)
    # The largest logits first: of those near 1e4 little else would be left.
    apart = most - tf.expand_dims(most_of_mean, 1) + tf.math.log(total)
    apart = tf.reduce_mean(apart, axis=1) - tf.math.log(total_of_mean)

    def gradient(of_mean, of_apart):
        count = tf.cast(tf.shape(heads)[1], heads.dtype)
        of_apart = tf.expand_dims(of_apart / count, -1)
        of_all = of_mean / count - powers_of_mean * (of_apart / total_of_mean)
        own = powers * (tf.expand_dims(of_apart, 1) / total)
        return own + tf.expand_dims(of_all, 1)

    return (mean, tf.squeeze(apart, -1)), gradient


def _exponentials(logits):
    """The largest logit m, exp(z_k - m), and their sum over the last axis, kept."""
    most = tf.reduce_max(logits, axis=-1, keepdims=True)
    powers = tf.exp(logits - most)
    return most, powers, tf.reduce_sum(powers, axis=-1, keepdims=True)


def _bernoulli(heads, mean):
    return _gap(tf.nn.softplus, heads, mean)


def _gaussian(heads, mean):
    # Not by squares of the numbers themselves, which may be large and close together.
    squares = tf.math.squared_difference(heads, tf.expand_dims(mean, 1))
    return tf.reduce_mean(tf.reduce_mean(squares, axis=1), axis=-1)


def _poisson(heads, mean):
    return _gap(tf.exp, heads, mean)


def _gap(log_partition, heads, mean):
    whole = log_partition(mean)
    apart = tf.reduce_mean(log_partition(heads), axis=1) - whole
    return tf.reduce_mean(apart, axis=-1)


_AMBIGUITIES = {"bernoulli": _bernoulli, "gaussian": _gaussian, "poisson": _poisson}
