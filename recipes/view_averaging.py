"""Models that average over views: several clips or crops of one example.

An example's views come as one row `[views, …]`, so that no batch and no replica can
hold a part of them.
"""

import tensorflow as tf

import ensemble_heads as eh
from ensemble_heads.keras_api import keras
from ensemble_heads.predictions import EnsemblePrediction, mean_of_probabilities


def over_views(model):
    """A model that shares all variables, to be compiled and evaluated on rows of views.

    Its predictions are the means of the model's over the views, of probabilities as
    `predict` averages them; of a multi-headed model also each head's.

    Args:
        model: `keras.Model` of one input and one output.

    Returns:
        `keras.Model`, inputs `[batch, views, …]` -> `[batch, …]`.
    """
    if isinstance(model, eh.MultiHeadModel):
        return _HeadsOverViews(
            *(model.trunk, model.with_parts().wrapper, model.ensembler, model.links),
            model.width_multiplier,
            name=model.name,
        )
    return _ModelOverViews(model)


class _ModelOverViews(keras.Model):
    def __init__(self, model):
        super().__init__(name=model.name)
        self.model = model

    def call(self, inputs, training=None):
        said = self.model(_one_by_one(inputs), training=training)
        return tf.reduce_mean(_by_example(said, inputs), axis=1)


class _HeadsOverViews(eh.MultiHeadModel):
    def forward(self, inputs, training=None, ensembler_gradient=None):
        predictions = super().forward(_one_by_one(inputs), training, ensembler_gradient)
        return [
            EnsemblePrediction(
                *(_mean(part, inputs) for part in (one.heads, one.ensemble)),
                one.parametric,
            )
            for one in predictions
        ]


def _mean(prediction, inputs):
    logits = _by_example(prediction.logits, inputs)
    return mean_of_probabilities(logits, prediction.link, 1, prediction.form)


def _one_by_one(inputs):
    """`[batch, views, …]` -> `[batch * views, …]`"""
    return tf.reshape(inputs, [-1, *inputs.shape[2:]])


def _by_example(outputs, inputs):
    """`[batch * views, …]` -> `[batch, views, …]`"""
    return tf.reshape(outputs, [-1, inputs.shape[1], *outputs.shape[1:]])
