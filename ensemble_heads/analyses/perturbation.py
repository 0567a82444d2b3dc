"""How wide an optimum is: loss and error as the weights are pushed away from it."""

import contextlib
import dataclasses

import numpy as np

from ensemble_heads.analyses.collecting import Collector
from ensemble_heads.analyses.decomposition import mean_loss
from ensemble_heads.analyses.figures import new_figure
from ensemble_heads.keras_api import keras


@dataclasses.dataclass(frozen=True, eq=False)
class OptimumWidth:
    """The ensemble at weights w + d v, for distances d and unit directions v.

    Attributes:
        distances: float64 `[distances]`, d.
        losses: float64 `[distances, directions]`, mean cross entropy in nats.
        errors: float64 `[distances, directions]`, shares of examples classified
            wrongly; NaN with several labels per example.
    """

    distances: np.ndarray
    losses: np.ndarray
    errors: np.ndarray


def optimum_width(
    model,
    data,
    distances=(0.0, 1.0, 2.0, 3.0, 4.0, 5.0),
    directions=5,
    seed=0,
    output=None,
    batch_size=128,
    verbose=0,
):
    """Loss and error of the ensemble under random perturbations of all its weights.

    A direction is drawn uniformly from the unit sphere in the space of all trainable
    weights together, and kept for all distances. Statistics of batch norms stay as they
    are. The weights come back bit for bit, also after an error.

    Args:
        model: `eh.MultiHeadModel`. The figure compares single networks; one is, as a
            branch `model.head(i)` is too, `eh.combine([network])`.
        data: as for `collect`: the training or the test part, or some of it.
        distances: list of floats, d; the paper goes from 0 to 5.
        directions: int >= 1, how many v; the paper draws 5.
        seed: int; the same seed draws the same directions, also for other data.
        output, batch_size: as for `collect`.
        verbose: 0 or 1, whether to show the progress over distances and directions.

    Returns:
        `OptimumWidth`.

    Raises:
        ValueError: no distance, no direction or no weights to push, or as `collect`.

    References:
        Lan, Zhu & Gong 2018, arXiv:1806.04606, section 5 and Figure 3.
    """
    distances = np.asarray(distances, "float64").reshape(-1)
    if not distances.size or not np.all(np.isfinite(distances)):
        raise ValueError(
            f"`distances` must be finite numbers. Received: distances={distances}"
        )
    if directions < 1:
        raise ValueError(
            f"`directions` must be at least 1. Received: directions={directions}"
        )
    collector = Collector(model, output, batch_size)
    if not model.trainable_variables:
        raise ValueError(
            "`model` must have trainable weights, which are pushed. Received: a model "
            f"with trainable={model.trainable} and without any"
        )
    losses = np.empty([len(distances), directions])
    errors = np.empty_like(losses)
    bar = keras.utils.Progbar(losses.size, verbose=verbose, unit_name="pass")
    with _kept(model.trainable_variables) as original:
        for column in range(directions):
            direction = _unit_direction(original, np.random.default_rng([seed, column]))
            for row, distance in enumerate(distances):
                _move(model.trainable_variables, original, direction, distance)
                found = _measure(collector(data))
                losses[row, column], errors[row, column] = found
                if verbose:
                    bar.add(1)
    return OptimumWidth(distances, losses, errors)


def plot_optimum_width(results, title="Width of the optimum"):
    """Loss and error against the distance, a curve for each direction, as in Figure 3.

    Args:
        results: `OptimumWidth`, or a dict of them by label, such as "training" and
            "test", or the names of methods.
        title: str.

    Returns:
        matplotlib `Figure`.
    """
    curves = results if isinstance(results, dict) else {"": results}
    figure = new_figure(9.0, 4.0)
    left, right = figure.subplots(1, 2)
    for number, (label, result) in enumerate(curves.items()):
        for column in range(result.losses.shape[1]):
            style = {"color": f"C{number}", "alpha": 0.7}
            if column == 0 and label:
                style["label"] = label
            left.plot(result.distances, result.losses[:, column], **style)
            right.plot(result.distances, 100 * result.errors[:, column], **style)
    left.set(xlabel="distance d", ylabel="cross entropy in nats")
    right.set(xlabel="distance d", ylabel="error in %")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    if isinstance(results, dict):
        left.legend()
    figure.suptitle(title)
    return figure


@contextlib.contextmanager
def _kept(variables):
    """Copies of the variables' values, which they get back at the end."""
    original = [np.array(variable.numpy(), copy=True) for variable in variables]
    try:
        yield original
    finally:
        for variable, value in zip(variables, original, strict=True):
            variable.assign(value)


def _unit_direction(values, generator):
    """One point of the unit sphere, in pieces of the shapes of the values."""
    pieces = [generator.standard_normal(value.shape) for value in values]
    length = np.sqrt(sum(np.sum(np.square(piece)) for piece in pieces))
    return [piece / length for piece in pieces]


def _move(variables, original, direction, distance):
    for variable, value, piece in zip(variables, original, direction, strict=True):
        # At distance 0 as well, so that it measures the weights as they were.
        moved = value.astype("float64") + distance * piece
        variable.assign(moved.astype(value.dtype))


def _measure(predictions):
    loss = mean_loss(predictions, predictions.ensemble_logits)
    if predictions.link != "softmax":
        return loss, np.nan
    wrong = predictions.ensemble_classes != predictions.labels
    return loss, predictions.mean(wrong)
