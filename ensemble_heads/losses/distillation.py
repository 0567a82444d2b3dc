"""Distillation: heads that learn from a model trained before."""

import tensorflow as tf

from ensemble_heads import forking, graph, model_inputs
from ensemble_heads.keras_api import register
from ensemble_heads.losses.divergence import (
    check_temperature,
    divergences,
    require_cross_entropy,
)
from ensemble_heads.losses.ensemble_loss import number_at_least
from ensemble_heads.losses.loss_of_heads import LossOfHeads
from ensemble_heads.predictions import Prediction


@register
class Distillation(LossOfHeads):
    """Knowledge distillation from a trained teacher into every head.

    sum_i [l(g, p_i) + w T^2 KL(p_teacher || p_i)], both predictions at temperature T.

    Args:
        teacher: Keras model on the same inputs with the same outputs, in the form that
            `loss` expects (probabilities, or logits with `from_logits=True`). It is
            only asked for predictions. A `.keras` file does not hold it: a loaded
            model predicts, and is trained or evaluated once it is compiled anew.
        temperature: float > 0, T.
        distillation_weight: float >= 0, w.

    Raises:
        ValueError: an argument out of its range; in `compile`, a base loss that is no
            cross entropy, or a teacher with another output or in another form; in
            training, one with several others, or none.

    References:
        Hinton, Vinyals & Dean 2015, arXiv:1503.02531.
    """

    def __init__(self, teacher, temperature=3.0, distillation_weight=1.0):
        if teacher is not None and not callable(teacher):
            raise ValueError(
                f"`teacher` must be a Keras model. Received: teacher={teacher!r}"
            )
        self.teacher = teacher
        self.temperature = check_temperature(temperature)
        self.distillation_weight = number_at_least(
            "distillation_weight",
            distillation_weight,
            0,
            "below it, heads would be pushed away from the teacher",
        )

    def check(self, output):
        require_cross_entropy(self, output)
        outputs = getattr(self.teacher, "outputs", None) or []  # of functional models
        if len(outputs) == 1:
            _check_shape(outputs[0].shape, output.shape)
            _check_form(self.teacher, output.base_loss)

    def observe(self, inputs, outputs, training):
        if self.teacher is None:
            raise ValueError(
                "`teacher` must be given again after loading: a `.keras` file does not "
                "hold it. Compile the model with `eh.losses.Distillation(teacher)`. "
                "Received: teacher=None"
            )
        part = model_inputs.functional_part(self.teacher)
        if part is not None:
            inputs = model_inputs.known_inputs(part, inputs)
        return outputs.flatten(self.teacher(inputs, training=False), "teacher")

    def of_heads(self, base_loss, target, prediction):
        own = self.head_losses(base_loss, target, prediction)
        teacher = self._teachers_prediction(base_loss, prediction)
        apart = divergences(base_loss, teacher, prediction.heads, self.temperature)
        each = own + self.distillation_weight * apart
        return tf.reduce_sum(each, axis=1)

    def get_config(self):
        return {
            "teacher": None,
            "temperature": self.temperature,
            "distillation_weight": self.distillation_weight,
        }

    def _teachers_prediction(self, base_loss, prediction):
        values = tf.convert_to_tensor(prediction.observed)
        _check_shape(values.shape, prediction.ensemble.logits.shape)
        form = "logits" if base_loss.from_logits else "probabilities"
        return Prediction.from_values(values, base_loss.link, form)


def _check_form(teacher, base_loss):
    """Refuses logits for probabilities, and the other way, where the graph tells."""
    if not graph.is_functional(teacher):
        return
    read = graph.read(teacher)
    _, (link,), _ = forking.take_off_activations(read)
    last = read.producer(*graph.tensors_in(read.outputs))
    raw = link == "linear" and hasattr(getattr(last, "layer", None), "kernel")
    if base_loss.from_logits and link != "linear":
        has, wanted = f"a {link} output", "logits, as the loss has from_logits=True"
    elif raw and not base_loss.from_logits:
        has, wanted = "a raw output", "probabilities, or the loss be from_logits=True"
    else:
        return
    raise ValueError(
        f"`teacher` must predict in the form that `loss` {base_loss.name} expects: "
        f"{wanted}. Received: a teacher with {has}"
    )


def _check_shape(shape, ours):
    if not tf.TensorShape(shape).is_compatible_with(ours):
        raise ValueError(
            "`teacher` must predict what the model does, in the shape "
            f"{tuple(ours)}: the same classes in the same order. "
            f"Received: a teacher that predicts {tuple(shape)}"
        )
