"""Where 16 bits are too few: outputs of models, and lengths of vectors."""

from ensemble_heads.keras_api import keras


def output_dtype():
    """float32 where the policy computes in 16 bits, so that probabilities stay exact.

    Returns:
        What a layer takes as `dtype`; None leaves the policy as it is.
    """
    narrow = keras.mixed_precision.global_policy().compute_dtype in (
        "float16",
        "bfloat16",
    )
    return "float32" if narrow else None


def pooling_3d_dtype():
    """float32 where the policy computes in float16, for which the CPU has no kernel.

    Only of pooling in three dimensions; in bfloat16 it has one for maxima.

    Returns:
        What a layer takes as `dtype`; None leaves the policy as it is.
    """
    half = keras.mixed_precision.global_policy().compute_dtype == "float16"
    return "float32" if half else None


def unit_length(x, name):
    """Divides vectors by their L2 norm, in float32 at least; a zero vector stays 0.

    Args:
        x: symbolic tensor `[batch, ..., features]`.
        name: name of the layer.
    """
    return keras.layers.UnitNormalization(name=name, dtype=output_dtype())(x)
