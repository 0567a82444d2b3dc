"""Accuracy against the weight in an ensemble loss, such as lambda or mu."""

import dataclasses

import numpy as np

from ensemble_heads.analyses.accuracy import accuracies
from ensemble_heads.analyses.collecting import collect
from ensemble_heads.analyses.figures import by_label, new_figure
from ensemble_heads.losses.ensemble_loss import integer_at_least
from ensemble_heads.multi_head_model import MultiHeadModel


@dataclasses.dataclass(frozen=True, eq=False)
class WeightSweep:
    """Accuracies of models that were trained with different weights in their loss.

    Attributes:
        weights: float64 `[weights]`.
        ensemble: float64 `[weights, seeds]`, shares in [0, 1], as `Accuracies` has
            them; so are the others.
        oracle: float64 `[weights, seeds]`.
        heads: float64 `[weights, seeds]`, means over the heads.
    """

    weights: np.ndarray
    ensemble: np.ndarray
    oracle: np.ndarray
    heads: np.ndarray


def weight_sweep(train, weights, data, seeds=1, output=None, batch_size=128, verbose=0):
    """Trains a model for every weight and seed, and measures it on held-out data.

    ```python
    >>> import numpy as np
    >>> import ensemble_heads as eh
    >>> keras = eh.keras_api.keras
    >>> x, y = np.random.normal(size=[64, 4]), np.arange(64) % 3
    >>> inputs = keras.Input((4,))
    >>> shared = keras.layers.Dense(8, activation="relu", name="shared")(inputs)
    >>> single = keras.Model(inputs, keras.layers.Dense(3, "softmax")(shared))
    >>> def train(weight, seed):
    ...     model = eh.multi_head(single, fork_at="shared", seed=seed)
    ...     loss = eh.losses.CoDistillation(weight)
    ...     model.compile("sgd", "sparse_categorical_crossentropy", ensemble_loss=loss)
    ...     model.fit(x, y, verbose=0)
    ...     return model
    >>> found = eh.analyses.weight_sweep(train, [0.0, 3.0], (x, y))
    >>> found.ensemble.shape
    (2, 1)
    >>> figure = eh.analyses.plot_weight_sweep({"mu": found})

    ```

    Args:
        train: callable `(weight, seed)` that returns a trained `eh.MultiHeadModel`.
        weights: list of floats: lambda of `eh.losses.Ensembling`, mu of
            `eh.losses.CoDistillation`, or what else `train` makes of them.
        data: as for `collect`.
        seeds: int >= 1, models for each weight, of the seeds 0, 1, …
        output, batch_size: as for `collect`.
        verbose: 0 or 1, whether to print each model's accuracy.

    Returns:
        `WeightSweep`, in the order of `weights`.

    Raises:
        ValueError: no weights or one that is no finite number, no seeds, `train`
            returns something else, or as `collect`.

    References:
        EnsembleNet, Figure 2.
    """
    weights = np.asarray(weights, "float64").reshape(-1)
    different = len(np.unique(weights))
    if not different or different < len(weights) or not np.isfinite(weights).all():
        raise ValueError(
            f"`weights` must be finite numbers, each once. Received: weights={weights}"
        )
    seeds = integer_at_least("seeds", seeds, 1)
    found = np.empty([3, len(weights), seeds])
    for place in np.ndindex(len(weights), seeds):
        weight, seed = float(weights[place[0]]), place[1]
        model = train(weight, seed)
        if not isinstance(model, MultiHeadModel):
            raise ValueError(
                "`train` must return the trained eh.MultiHeadModel. "
                f"Received: {type(model).__name__}"
            )
        said = collect(model, data, output, batch_size, verbose=0)
        one = accuracies(said)
        found[:, place[0], place[1]] = one.ensemble, one.oracle, one.mean
        if verbose:
            print(f"weight {weight:g}, seed {seed}: accuracy {one.ensemble:.2%}")
    return WeightSweep(weights, *found)


def plot_weight_sweep(results, baselines=None, title="Accuracy by weight"):
    """Mean accuracy of the ensembles against the weight, with standard errors.

    Args:
        results: `WeightSweep`, or a dict of them by the name of the weight, such as
            "lambda" and "mu": a panel for each, as in Figure 2.
        baselines: {label: list of accuracies in [0, 1], one per seed} of what has no
            such weight, as the single network; a line each. Default: none.
        title: str.

    Returns:
        matplotlib `Figure`.

    References:
        EnsembleNet, Figure 2.
    """
    panels = {
        name or "weight": dict(zip(one.weights.tolist(), one.ensemble.tolist()))
        for name, one in by_label(results).items()
    }
    figure = figure_by_weight(panels, baselines or {}, title)
    if baselines:
        figure.axes[0].legend()
    return figure


def figure_by_weight(panels, baselines, title, measure="accuracy"):
    """A panel for each weight: means, standard errors, and lines for the baselines.

    Args:
        panels: {name of the weight: {weight: list of fractions, one per seed}}.
        baselines: {label: list of fractions}; the first one's line is grey.
        title: str.
        measure: str, what the fractions are.

    Returns:
        matplotlib `Figure`, without a legend.
    """
    figure = new_figure(6.0, 3.2 * len(panels))
    rows = figure.subplots(len(panels), 1, sharey=True, squeeze=False)[:, 0]
    for axes, (name, points) in zip(rows, panels.items()):
        _draw(axes, points, baselines)
        axes.set(xlabel=name, ylabel=f"{measure} in %")
    figure.suptitle(title)
    return figure


def _draw(axes, points, baselines):
    weights = sorted(points)
    means, errors = zip(*(_percent(points[weight]) for weight in weights))
    axes.errorbar(weights, means, errors, fmt="o-", capsize=4, label="multi-headed")
    for number, (label, fractions) in enumerate(baselines.items()):
        mean, error = _percent(fractions)
        color = f"C{number}" if number else "grey"
        axes.axhline(mean, color=color, linestyle="--", label=label)
        axes.axhspan(mean - error, mean + error, color=color, alpha=0.2)
    axes.grid(alpha=0.3)


def _percent(fractions):
    """Mean and its standard error in per cent; no error is known of a single one."""
    count = len(fractions)
    error = np.std(fractions, ddof=1) / np.sqrt(count) if count > 1 else 0.0
    return 100 * float(np.mean(fractions)), 100 * float(error)
