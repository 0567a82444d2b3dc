"""The average of all heads."""

from ensemble_heads.ensemblers.ensembler import Ensembler
from ensemble_heads.keras_api import register
from ensemble_heads.predictions import mean_of_logits, mean_of_probabilities


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
