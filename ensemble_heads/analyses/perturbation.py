"""How wide an optimum is: loss and error as the weights are pushed away from it."""

import contextlib
import dataclasses

import numpy as np

from ensemble_heads.analyses.collecting import Collector
from ensemble_heads.analyses.decomposition import mean_loss
from ensemble_heads.analyses.figures import by_label, label_curves, new_figure
from ensemble_heads.combining import combine
from ensemble_heads.keras_api import keras
from ensemble_heads.losses.ensemble_loss import integer_at_least
from ensemble_heads.multi_head_model import MultiHeadModel


@dataclasses.dataclass(frozen=True, eq=False)
class OptimumWidth:
    """The model at weights w + d v, for distances d and unit directions v.

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
    """Loss and error of a model under random perturbations of all its weights.

    A direction is drawn uniformly from the unit sphere in the space of all trainable
    weights together, and kept for all distances. Statistics of batch norms stay as they
    are. The weights come back bit for bit, also after an error.

    Args:
        model: `eh.MultiHeadModel`, whose ensemble is measured; or a plain functional
            model, such as the single networks of the figure or a branch
            `model.head(i)`. Of a plain one a copy is pushed; raw outputs mean what the
            loss says that it was compiled with.
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
        Lan, Zhu & Gong 2018, arXiv:1806.04606, section 4.5 and Figure 3.
    """
    distances = np.asarray(distances, "float64").reshape(-1)
    if not distances.size or not np.all(np.isfinite(distances)):
        raise ValueError(
            f"`distances` must be finite numbers. Received: distances={distances}"
        )
    directions = integer_at_least("directions", directions, 1)
    model = _multi_headed(model)
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


def plot_optimum_width(results, title="Width of the optimum", max_columns=2):
    """Loss and error against the distance, a curve for each direction, as in Figure 3.

    Args:
        results: `OptimumWidth`, or a dict of them by label, to compare: by the names of
            methods, or as "training" and "test".
        title: str.
        max_columns: int, panels in a row; 1 puts the errors below the losses. There
            are no errors with several labels per example.

    Returns:
        matplotlib `Figure`.
    """
    curves = by_label(results)
    panels = {"cross entropy in nats": [(r.losses, r) for r in curves.values()]}
    if not all(np.isnan(result.errors).all() for result in curves.values()):
        panels["error in %"] = [(100 * r.errors, r) for r in curves.values()]
    shape = (1, len(panels)) if max_columns > 1 else (len(panels), 1)
    figure = new_figure(4.5 * shape[1], 4.0 * shape[0])
    every_axes = figure.subplots(*shape, squeeze=False).flat
    for axes, (ylabel, found) in zip(every_axes, panels.items(), strict=True):
        for number, (label, (values, result)) in enumerate(zip(curves, found)):
            style = {"color": f"C{number}", "alpha": 0.7}
            lines = axes.plot(result.distances, values, **style)
            lines[0].set_label(label)
        axes.set(xlabel="distance d", ylabel=ylabel)
        axes.grid(alpha=0.3)
    label_curves(figure.axes[0], curves)
    figure.suptitle(title)
    return figure


def _multi_headed(model):
    """The model itself, or a plain one's copy as the ensemble of that one head."""
    if isinstance(model, MultiHeadModel) or not isinstance(model, keras.Model):
        return model
    copy = combine([model], name=model.name)
    loss = getattr(model, "loss", None)
    if loss is not None:
        copy.compile(loss=loss)
    return copy


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
