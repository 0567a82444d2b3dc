"""The losses of the paper in NumPy float64, naively on probabilities."""

import numpy as np


def softmax(logits):
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def sigmoid(logits):
    return 1.0 / (1.0 + np.exp(-logits))


def identity(logits):
    return logits


LINKS = {
    "softmax": softmax,
    "sigmoid": sigmoid,
    "exponential": np.exp,
    "linear": identity,
}


def categorical(target, p, alpha=1.0, gamma=0.0):
    return (-target * np.log(p) * alpha * (1.0 - p) ** gamma).sum(-1)


def binary(target, p, gamma=0.0, alpha=None):
    losses = -target * np.log(p) - (1.0 - target) * np.log(1.0 - p)
    right = target * p + (1.0 - target) * (1.0 - p)
    losses = losses * (1.0 - right) ** gamma
    if alpha is not None:
        losses = losses * (target * alpha + (1.0 - target) * (1.0 - alpha))
    return losses.mean(-1)


def squared(target, p):
    return ((target - p) ** 2).mean(-1)


def absolute(target, p):
    return np.abs(target - p).sum(-1)


def poisson(target, p):
    return (p - target * np.log(p)).mean(-1)


def softmax_divergence(p, q):
    return (p * np.log(p / q)).sum(-1)


def sigmoid_divergence(p, q):
    return (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).mean(-1)


def combine(z, link, of="probabilities"):
    """The ensemble's prediction from logits `[batch, heads, …]`, as probabilities."""
    if of == "logits":
        return LINKS[link](z.mean(1))
    return LINKS[link](z).mean(1)


def ensembling(loss, truth, z, link, weight, of="probabilities"):
    """Equation 2. `loss(target, p)`, `truth` as it enters l(g, .)."""
    heads, ensemble = LINKS[link](z), combine(z, link, of)
    auxiliary = sum(loss(truth, heads[:, i]) for i in range(z.shape[1]))
    return (1 - weight) * auxiliary + z.shape[1] * weight * loss(truth, ensemble)


def codistillation(loss, truth, z, link, weight, of="probabilities", teacher=None):
    """Equation 3; `teacher` stands for p_ens where no gradient flows into it."""
    heads, ensemble = LINKS[link](z), combine(z, link, of)
    teacher = ensemble if teacher is None else teacher
    auxiliary = sum(loss(teacher, heads[:, i]) for i in range(z.shape[1]))
    return weight * auxiliary + z.shape[1] * loss(truth, ensemble)


def modular(loss, truth, z, link, coupling):
    """Equation 4 of Joint Training of Neural Network Ensembles."""
    heads, whole = LINKS[link](z), combine(z, link, "logits")
    own = np.mean([loss(truth, heads[:, i]) for i in range(z.shape[1])], 0)
    return coupling * loss(truth, whole) + (1 - coupling) * own


def ambiguity_form(loss, divergence, truth, z, link, coupling):
    """Equation 6 of Joint Training of Neural Network Ensembles."""
    heads, whole = LINKS[link](z), combine(z, link, "logits")
    own = np.mean([loss(truth, heads[:, i]) for i in range(z.shape[1])], 0)
    apart = np.mean([divergence(whole, heads[:, i]) for i in range(z.shape[1])], 0)
    return own - coupling * apart


def lowest(losses, count):
    """Sum of the `count` lowest of `[batch, heads]`."""
    return np.sort(losses, axis=1)[:, :count].sum(1)


def softened_divergence(teacher, z, link, temperature):
    """T^2 sum_i KL(p_teacher || p_i) of logits `[batch, C]` and `[batch, heads, C]`."""
    divergence = {"softmax": softmax_divergence, "sigmoid": sigmoid_divergence}[link]
    p, q = LINKS[link](teacher / temperature), LINKS[link](z / temperature)
    return temperature**2 * sum(divergence(p, q[:, i]) for i in range(z.shape[1]))


def gradient(function, z, step=1e-6):
    """Central differences of `function(z).sum()`, good to about 1e-8."""
    result = np.zeros_like(z)
    for index in np.ndindex(z.shape):
        shift = np.zeros_like(z)
        shift[index] = step
        difference = function(z + shift).sum() - function(z - shift).sum()
        result[index] = difference / (2 * step)
    return result
