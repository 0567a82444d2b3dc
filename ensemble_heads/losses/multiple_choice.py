"""Multiple choice learning: the best heads on an example learn from it."""

import tensorflow as tf

from ensemble_heads.keras_api import register
from ensemble_heads.losses.ensemble_loss import integer_at_least, number_at_least
from ensemble_heads.losses.loss_of_heads import LossOfHeads
from ensemble_heads.losses.random_numbers import check_seed, numbers_in_step, uniform
from ensemble_heads.target_shapes import left_aligned


@register
class MultipleChoice(LossOfHeads):
    """The oracle set-loss: the sum of the k lowest losses of any heads.

    sum_i alpha_i l(g, p_i) + w sum_i l(g, p_i), with alpha_i = 1 for the k heads of
    lowest loss on the example and 0 for the others. At k = 1 the heads divide the
    labels among themselves; at k = N and w = 0 every head learns for itself.

    The heads are chosen for an example as a whole: where the base loss gives a value
    per position, by the sum over the positions that count, with their sample weights;
    of several outputs, by the total with its `loss_weights`. Ties are broken at random,
    by numbers that follow from the seed and the optimizer's step alone, so that a run
    can be repeated and resumed.

    As `ensemble_loss` of a trained ensemble that is compiled again, it fine-tunes.

    Args:
        num_choices: int >= 1, k.
        independent_weight: float >= 0, w, of the loss of all heads for themselves.
        seed: int in [0, 2^31), for ties.

    Raises:
        ValueError: an argument out of its range; in `compile`, k above the number of
            heads.

    References:
        Guzman-Rivera et al. 2012; Lee et al. 2015, arXiv:1511.06314, section 6.2.
    """

    def __init__(self, num_choices=1, independent_weight=0.0, seed=0):
        self.num_choices = integer_at_least("num_choices", num_choices, 1)
        self.independent_weight = number_at_least(
            "independent_weight",
            independent_weight,
            0,
            "below it, heads that are not chosen would be rewarded for mistakes",
        )
        self.seed = check_seed(seed)

    def check(self, output):
        if self.num_choices > output.num_heads:
            raise ValueError(
                "`num_choices` must be at most the number of heads, "
                f"{output.num_heads}. Received: num_choices={self.num_choices}"
            )

    def look_at_outputs(self, parts):
        if len(parts) == 1:
            return
        costs = []
        for base_loss, target, prediction, loss_weight in parts:
            if loss_weight:  # 0 times infinity would be NaN
                losses = self.head_losses(base_loss, target, prediction)
                own = _costs(losses, base_loss, target, prediction)
                costs.append(loss_weight * own)
        predictions = [prediction for _, _, prediction, _ in parts]
        if costs:
            chosen = self._choose(tf.add_n(costs), predictions[0].step)
            for prediction in predictions:
                prediction.chosen = chosen

    def of_heads(self, base_loss, target, prediction):
        losses = self.head_losses(base_loss, target, prediction)
        chosen = prediction.chosen
        if chosen is None:
            costs = _costs(losses, base_loss, target, prediction)
            chosen = self._choose(costs, prediction.step)
        chosen = _expand(chosen, losses.shape.rank)
        total = tf.reduce_sum(tf.where(chosen, losses, 0.0), axis=1)
        if self.independent_weight:
            total += self.independent_weight * tf.reduce_sum(losses, axis=1)
        return total

    def get_config(self):
        return {
            "num_choices": self.num_choices,
            "independent_weight": self.independent_weight,
            "seed": self.seed,
        }

    def _choose(self, losses, step):
        """The k lowest of every row of `[batch, heads]`, as bool of that shape."""
        count = losses.shape[1]
        rows = numbers_in_step(tf.shape(losses)[0], 0 if step is None else step)
        noise = uniform(rows, count, self.seed)
        # Shuffled, so that of equal losses the first is any of them.
        order = tf.argsort(noise, axis=1)
        shuffled = tf.gather(tf.stop_gradient(losses), order, batch_dims=1)
        best = tf.math.top_k(-shuffled, self.num_choices).indices
        heads = tf.gather(order, best, batch_dims=1)
        return tf.reduce_any(tf.one_hot(heads, count, True, False), axis=1)


def _costs(losses, base_loss, target, prediction):
    """What every head costs on every example, `[batch, heads]`.

    Args:
        losses: `[batch, heads, …]`, those of the heads.
        base_loss, target, prediction: what they were computed of.
    """
    counted = base_loss.counted(target, prediction)
    if counted is not None:
        counted = _expand(counted[:, tf.newaxis], losses.shape.rank)
        losses = tf.where(counted, losses, 0.0)
    if prediction.weights is not None:
        weights = tf.cast(prediction.weights, losses.dtype)
        weights = left_aligned(weights, losses[:, 0])[:, tf.newaxis]
        # A weight of 0 leaves out infinities as well.
        weights = tf.broadcast_to(weights, tf.shape(losses))
        losses = tf.math.multiply_no_nan(losses, weights)
    reduce = tf.reduce_sum if base_loss.reduction == "sum" else tf.reduce_mean
    return reduce(losses, axis=list(range(2, losses.shape.rank)))


def _expand(tensor, rank):
    for _ in range(rank - tensor.shape.rank):
        tensor = tensor[..., tf.newaxis]
    return tensor
