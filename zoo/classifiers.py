"""The last layers of the zoo's models: outputs that are wide enough, whatever came."""

from ensemble_heads.keras_api import keras
from zoo.moe import MixtureOfLogisticExperts
from zoo.precision import output_dtype

layers = keras.layers

CLASSIFIERS = ("logistic", "moe")


def l2(strength):
    """The regulariser strength / 2 * sum(w^2), as YouTube-8M's code counts it."""
    return keras.regularizers.L2(strength / 2) if strength else None


def outputs(classifier, x, classes, num_experts, strength):
    """The probabilities of either classifier, a key of `CLASSIFIERS`; see below."""
    if classifier == "logistic":
        return logistic(x, classes, strength)
    return probabilities(mixture_logits(x, classes, num_experts, strength))


def logistic(x, classes, strength):
    """One logistic regression per class, the layer `classifier`.

    Args:
        x: symbolic tensor `[batch, features]`.
        classes: int.
        strength: float >= 0, c of c / 2 * sum(w^2) over the kernel.

    Returns:
        Symbolic probabilities `[batch, classes]`, in float32 at least.
    """
    return layers.Dense(
        classes,
        activation="sigmoid",
        kernel_regularizer=l2(strength),
        dtype=output_dtype(),
        name="classifier",
    )(x)


def mixture_logits(x, classes, num_experts, strength):
    """One mixture of logistic experts per class, the layer `moe`.

    Args:
        x: symbolic tensor `[batch, features]`.
        classes: int.
        num_experts: int, K, without the dummy expert.
        strength: float >= 0, c of c / 2 * sum(w^2) over both kernels.

    Returns:
        Symbolic logits `[batch, classes]`, in float32 at least.
    """
    return MixtureOfLogisticExperts(
        classes,
        num_experts,
        gate_regularizer=l2(strength),
        expert_regularizer=l2(strength),
        name="moe",
    )(x)


def probabilities(logits):
    """Their sigmoid, the layer `probabilities`, in float32 at least."""
    return layers.Activation("sigmoid", name="probabilities", dtype=output_dtype())(
        logits
    )
