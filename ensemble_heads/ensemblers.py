"""Ensemblers: from the predictions of all heads to the prediction of the ensemble.

Any differentiable Keras layer can be one: it takes the stacked predictions
`[batch, heads, …]` in the form of the single model's output (probabilities stay
probabilities) and returns `[batch, …]` in that form. The classes here go further:
they work on logits, and so stay finite where probabilities would be exactly 0 or 1.
"""

import inspect

from ensemble_heads.keras_api import keras, register
from ensemble_heads.predictions import (
    Prediction,
    mean_of_logits,
    mean_of_probabilities,
)


class Ensembler(keras.layers.Layer):
    """Base of ensemblers that work on `Prediction` objects, in log space.

    Subclasses implement `combine`; those with weights make them in `build`.

    Input shape:
        `[batch, heads, …]`, in the form of the single model's output.

    Output shape:
        `[batch, …]`, in the same form.
    """

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
        heads = Prediction.from_values(inputs, link)
        return self.combine(heads, training=training).values


@register
class Mean(Ensembler):
    """The simple average of all heads, the ensembler of the paper's experiments.

    >>> import numpy as np
    >>> heads = np.array([[[0.9, 0.1], [0.5, 0.5]]], "float32")  # [batch, heads, 2]
    >>> np.round(Mean()(heads, link="softmax").numpy(), 3)
    array([[0.7, 0.3]], dtype=float32)

    Args:
        of: `"probabilities"` averages what the single model's output would be,
            `"logits"` averages the raw outputs before softmax or sigmoid. The same
            where the output has neither.
    """

    def __init__(self, of="probabilities", **kwargs):
        super().__init__(**kwargs)
        if of not in ("probabilities", "logits"):
            raise ValueError(
                '`of` must be "probabilities" or "logits". ' + f"Received: of={of!r}"
            )
        self.of = of

    def combine(self, heads, training=None):
        if heads.logits.shape[1] == 1:  # nothing to average, and no FLOPs for it
            return heads.heads()[0]
        average = mean_of_logits if self.of == "logits" else mean_of_probabilities
        return average(heads.logits, heads.link, form=heads.form)

    def get_config(self):
        return {**super().get_config(), "of": self.of}


_BY_NAME = {"mean": Mean}


def get(identifier):
    """An ensembler layer from a name or a layer.

    Args:
        identifier: `"mean"` or any Keras layer (see the module's docstring).

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


def combine(ensembler, heads, training=None):
    """The ensemble's `Prediction` by any ensembler layer.

    Args:
        ensembler: an `Ensembler`, or any Keras layer that works on plain tensors.
        heads: `Prediction` of logits `[batch, heads, …]`.
        training: bool or None.
    """
    if isinstance(ensembler, Ensembler):
        return ensembler.combine(heads, training=training)
    accepts = "training" in inspect.signature(ensembler.call).parameters
    arguments = {"training": training} if accepts else {}
    values = ensembler(heads.values, **arguments)
    return Prediction.from_values(values, heads.link, heads.form)
