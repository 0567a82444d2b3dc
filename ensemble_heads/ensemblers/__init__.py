"""Ensemblers: from the predictions of all heads to the prediction of the ensemble.

* fixed: `Mean`, of probabilities or of logits
* with a gate on the trunk's features: `Gated` (ONE), `MixtureOfExperts`

Any differentiable Keras layer can be one: it takes the stacked predictions
`[batch, heads, …]` in the form of the single model's output (probabilities stay
probabilities) and returns `[batch, …]` in that form. The classes here go further:
they work on logits, and so stay finite where probabilities would be exactly 0 or 1.

A new ensembler is one more file here: see `Ensembler`.
"""

from ensemble_heads.ensemblers.application import (
    build,
    combine,
    predict,
    uses_features,
)
from ensemble_heads.ensemblers.ensembler import Ensembler
from ensemble_heads.ensemblers.feature_gate import FeatureGate
from ensemble_heads.ensemblers.gated import Gated
from ensemble_heads.ensemblers.mean import Mean
from ensemble_heads.ensemblers.mixture_of_experts import MixtureOfExperts
from ensemble_heads.keras_api import keras

__all__ = [
    "Ensembler",
    "FeatureGate",
    "Gated",
    "Mean",
    "MixtureOfExperts",
    "build",
    "combine",
    "get",
    "load",
    "predict",
    "uses_features",
]

_BY_NAME = {"mean": Mean, "gated": Gated, "mixture_of_experts": MixtureOfExperts}


def get(identifier):
    """An ensembler layer from a name or a layer.

    Args:
        identifier: `"mean"`, `"gated"`, `"mixture_of_experts"` or any Keras layer (see
            the module's docstring).

    Returns:
        A Keras layer.

    Raises:
        ValueError: unknown name, or no Keras layer.
    """
    if isinstance(identifier, keras.layers.Layer):
        return identifier
    if isinstance(identifier, str) and identifier in _BY_NAME:
        return _BY_NAME[identifier]()
    raise ValueError(
        f"`ensembler` must be one of {sorted(_BY_NAME)} or a Keras layer that takes "
        "[batch, heads, …] and returns [batch, …]. "
        f"Received: ensembler={identifier!r}"
    )


def load(config, custom_objects=None):
    """Ensembler layers from their configurations, alone or in a list or dict."""
    make = keras.saving.deserialize_keras_object
    if isinstance(config, list):
        return [make(item, custom_objects) for item in config]
    if "class_name" not in config:
        return {key: make(item, custom_objects) for key, item in config.items()}
    return make(config, custom_objects)
