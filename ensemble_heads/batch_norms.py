"""Which layers are batch norms, and which of them compute what Keras' own do."""

from ensemble_heads.keras_api import KERAS_3, keras

# Keras 2 has a synchronised batch norm that is not a subclass of its batch norm.
BATCH_NORMS = (keras.layers.BatchNormalization,) + (
    () if KERAS_3 else (keras.layers.experimental.SyncBatchNormalization,)
)
_known = set(BATCH_NORMS)


def known_batch_norm(layer_class):
    """Decorator of a derived batch norm that computes what Keras' own does."""
    _known.add(layer_class)
    return layer_class


def is_known(layer):
    """Whether a layer is a batch norm of Keras' own, or one that computes the same."""
    return type(layer) in _known
