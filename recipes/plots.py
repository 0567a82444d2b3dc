"""Plots of results as PNG files. No window is opened and no global state kept."""

import numpy as np
from matplotlib.figure import Figure

from ensemble_heads.analyses.weight_sweep import figure_by_weight
from recipes.results import mean_and_error


def learning_curves(path, curves, title):
    """Errors on training and test part against the epoch, a line per method.

    Args:
        path: str or path of the PNG file.
        curves: {label: {"train" or "test": list with one `(epochs, accuracies)` per
            seed}}, accuracies in [0, 1]. Lines are means over the seeds, bands their
            standard errors.
        title: str.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, part in zip(figure.subplots(1, 2, sharey=True), ("train", "test")):
        for number, (label, by_part) in enumerate(curves.items()):
            style = {"color": f"C{number % 10}", "linestyle": "-:"[number // 10 % 2]}
            epochs = by_part[part][0][0]
            errors = 1 - np.array([accuracies for _, accuracies in by_part[part]])
            mean, error = _means_and_errors(errors)
            (line,) = axes.plot(epochs, 100 * mean, label=label, **style)
            band = 100 * (mean - error), 100 * (mean + error)
            axes.fill_between(epochs, *band, color=line.get_color(), alpha=0.2)
        axes.set(title=f"{part} part", xlabel="epoch")
        # Errors halve and halve again; what is 0 would leave a plain log scale.
        axes.set_yscale("symlog", linthresh=1.0)
        ticks = [0, 1, 2, 5, 10, 20, 50, 100]
        axes.set_yticks(ticks, labels=map(str, ticks))
        axes.set_ylim(0, 100)
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("error in %")
    lines, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside right center")
    figure.suptitle(title)
    figure.savefig(path, dpi=120)


def logged_curves(path, panels, title):
    """What was logged against the training step, a panel each.

    Args:
        path: str or path of the PNG file.
        panels: {title of the vertical axis: {label: list of `(steps, values)`}}, one
            per seed.
        title: str.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    for axes, (name, curves) in zip(figure.subplots(1, len(panels)), panels.items()):
        for number, (label, runs) in enumerate(curves.items()):
            for seed, (steps, values) in enumerate(runs):
                own = {"label": label} if seed == 0 else {}
                marker = "o" if len(steps) == 1 else None
                axes.plot(steps, values, color=f"C{number}", marker=marker, **own)
        axes.set(xlabel="step", ylabel=name)
        axes.grid(alpha=0.3)
    figure.axes[0].legend()
    figure.suptitle(title)
    figure.savefig(path, dpi=120)


def accuracy_by_weight(path, panels, baselines, title, measure="accuracy"):
    """Accuracy against the weight in a loss, one panel per loss, as in Figure 2.

    Args:
        path: str or path of the PNG file.
        panels: {title of the horizontal axis: {weight: list of accuracies}}.
        baselines: {label: list of accuracies} of what has no such weight, the single
            network first; a line each.
        title: str.
        measure: str, what is drawn, a fraction.

    References:
        EnsembleNet, Figure 2.
    """
    panels = {name: points for name, points in panels.items() if points}
    if not panels:
        return
    figure = figure_by_weight(panels, baselines, title, measure)
    figure.axes[0].legend()
    figure.savefig(path, dpi=120)


def _means_and_errors(values):
    """Over the first axis of an array; an error that is not known becomes 0."""
    pairs = [mean_and_error(list(column)) for column in values.T]
    return (
        np.array([mean for mean, _ in pairs]),
        np.array([error or 0.0 for _, error in pairs]),
    )
