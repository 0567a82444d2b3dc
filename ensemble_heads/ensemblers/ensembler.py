"""What every ensembler is that works in log space."""

from ensemble_heads.keras_api import keras
from ensemble_heads.predictions import Prediction


class Ensembler(keras.layers.Layer):
    """Base of ensemblers that work on `Prediction` objects, in log space.

    Subclasses implement `combine`; those with weights make them in `build`. One that
    sets `uses_features` also gets what the trunk gives: `combine` as the argument
    `features`, a plain call as the second of a list of two inputs.

    Input shape:
        `[batch, heads, …]`, in the form of the single model's output; for ensemblers
        that use features a list of it and of the features.

    Output shape:
        `[batch, …]`, in the same form.

    Attributes:
        uses_features: bool, constant of the class.
    """

    uses_features = False

    def __init__(self, **kwargs):
        # Float32 under every policy: log space has no digits to spare.
        super().__init__(**{"dtype": "float32", **kwargs})

    def combine(self, heads, training=None):
        """The ensemble's prediction.

        Args:
            heads: `Prediction` of logits `[batch, heads, …]`.
            training: bool or None.

        Returns:
            `Prediction` of logits `[batch, …]`, of the same link and form.
        """
        raise NotImplementedError(
            f"`{type(self).__name__}` must implement `combine(heads, training=None)`."
        )

    def call(self, inputs, link="linear", training=None):
        """Combines plain tensors; `link` says what the inputs are made by."""
        more = {}
        if self.uses_features:
            inputs, more["features"] = inputs
        heads = Prediction.from_values(inputs, link)
        return self.combine(heads, training=training, **more).values
