"""The figures of "Joint training of neural network ensembles", out of analysed runs.

Webb et al. 2019, arXiv:1902.04422: error against lambda (Figures 2 and 6), losses of
ensemble and members (Figure 3), heads dropped at random (Figure 4), specialists
(Figure 5). Figure 7 is drawn in each run's own folder.
"""

import dataclasses
import functools

import numpy as np
from matplotlib.figure import Figure

import ensemble_heads as eh
from recipes import results, sweeps
from recipes.results import Column, mean_and_error

TABLE_CSV = "by_lambda.csv"
ERRORS = "error_by_lambda.png"  # Figures 2 and 6
LOSSES = "losses_by_lambda.png"  # Figure 3
DROPPED = "dropped_heads_{model}.png"  # Figure 4
SPECIALISTS = "specialists_{model}.png"  # Figure 5

_LAMBDA = r"$\lambda$"


def write(path, analysed, title, is_modular):
    """Writes the figures, and their numbers as a table of one row per model and lambda.

    Points are means over the seeds, bars and bands their standard errors. The errors
    are those that the runs report; the other figures need the runs to be analysed.

    Args:
        path: `Path` of a folder.
        analysed: list of `run_analyses.Analysed` of runs under the modular loss, and
            of single networks, which have no lambda.
        title: str.
        is_modular: callable name of a model -> bool, whether it has modules.
    """
    groups = _by_lambda(analysed, is_modular)
    if not groups:
        return
    _write_table(path / TABLE_CSV, groups)
    _draw_errors(path / ERRORS, groups, title)
    _draw_losses(path / LOSSES, groups, title)
    for model in dict.fromkeys(model for model, coupling in groups):
        own = {
            coupling: [one.data for one in runs if one.data]
            for (name, coupling), runs in groups.items()
            if name == model and coupling is not None
        }
        own = {coupling: found for coupling, found in own.items() if found}
        if own:
            name, words = f"{title}, {model}", sweeps.file_name(model)
            _draw_dropped(path / DROPPED.format(model=words), own, name)
            _draw_specialists(path / SPECIALISTS.format(model=words), own, name)


def _by_lambda(analysed, is_modular):
    """{(model, lambda or None): runs, one per seed}, sorted by lambda.

    What was swept besides lambda is part of the model's name.
    """
    groups = {}
    for one in analysed:
        if one.result is not None:
            run = one.run
            coupling = run.settings.coupling if is_modular(run.model) else None
            others = {k: v for k, v in run.changes.items() if k != "coupling"}
            name = dataclasses.replace(run, changes=others).method
            groups.setdefault((name, coupling), []).append(one)
    return dict(sorted(groups.items(), key=lambda item: item[0][1] or 0.0))


# ---- The table


def _write_table(path, groups):
    rows = list(groups.items())
    columns = [
        _column("model", lambda row: row[0][0]),
        _column("coupling", lambda row: row[0][1]),
        _column("seeds", lambda row: len(row[1])),
        *_pair("test_error", lambda runs: _errors(runs)),
    ]
    for name in (
        *("accuracy", "oracle_accuracy", "mean_head_accuracy", "ensemble_loss"),
        *("mean_head_loss", "disagreement", "calibration_error", "dominance"),
        *("lowest_entropy", "highest_entropy", "mean_entropy", "std_entropy"),
    ):
        columns += _pair(f"analysed_{name}", lambda runs, n=name: _tested(runs, n))
    for place, heads in enumerate(("single", "group")):
        for kind in ("random", "specialist"):
            values = functools.partial(_f1_of, place=place, kind=kind)
            columns += _pair(f"{heads}_{kind}_f1", values)
    results.write_csv(path, columns, rows)


def _column(name, value):
    return Column(name, lambda row: str(value(row)), {name: value})


def _pair(name, values):
    """Columns of a mean and of its standard error; empty where nothing is known."""

    def pair(row):
        found = values(row[1])
        return mean_and_error(found) if found else (None, None)

    return [
        _column(name, lambda row: pair(row)[0]),
        _column(f"{name}_standard_error", lambda row: pair(row)[1]),
    ]


def _errors(runs):
    return [1.0 - one.result["metrics"]["accuracy"] for one in runs]


def _data(runs):
    return [one.data for one in runs if one.data is not None]


def _tested(runs, name):
    return [data["test"][name] for data in _data(runs)]


def _f1_of(runs, place, kind):
    return _f1_scores(_data(runs), place, kind)


def _f1_scores(found, place, kind):
    """Mean F1 over classes, a number per seed; [] without held-out data."""
    lists = [data.get("specialists", []) for data in found]
    return [float(np.mean(own[place][kind])) for own in lists if place < len(own)]


# ---- The figures


def _draw_errors(path, groups, title):
    figure, axes = _panel(title, _LAMBDA, "test error in %")
    curves = {}
    for (model, coupling), runs in groups.items():
        mean, error = _percent(_errors(runs))
        if coupling is None:
            axes.axhline(mean, color="grey", linestyle="--", label=model)
            axes.axhspan(mean - error, mean + error, color="grey", alpha=0.2)
        else:
            curves.setdefault(model, []).append((coupling, mean, error))
    for model, points in curves.items():
        axes.errorbar(*zip(*points, strict=True), fmt="o-", capsize=3, label=model)
    _save(figure, axes, path)


def _draw_losses(path, groups, title):
    figure, axes = _panel(title, _LAMBDA, "test cross entropy in nats")
    models = dict.fromkeys(m for (m, c), runs in groups.items() if _data(runs))
    for number, model in enumerate(models):
        for name, style in (("ensemble_loss", "o-"), ("mean_head_loss", "s--")):
            points = [
                (coupling, *_known(_tested(runs, name)))
                for (own, coupling), runs in groups.items()
                if own == model and _data(runs)
            ]
            what = "ensemble" if name == "ensemble_loss" else "mean of its members"
            axes.errorbar(
                *zip(*points, strict=True),
                fmt=style,
                capsize=3,
                color=f"C{number}",
                label=f"{model}, {what}",
            )
    axes.set_yscale("log")
    if models:
        _save(figure, axes, path)


def _draw_dropped(path, own, title):
    """All draws of all seeds behind each curve; its band is their deviation."""
    curves = {}
    for coupling, found in own.items():
        lists = [data["dropped_heads"] for data in found]
        curves[f"{_LAMBDA} = {coupling:g}"] = eh.analyses.DroppedHeads(
            np.array(lists[0]["dropped"]),
            np.concatenate([one["accuracies"] for one in lists], axis=1),
        )
    figure = eh.analyses.plot_dropped_heads(curves, f"{title}, heads dropped")
    figure.savefig(path, dpi=120)


def _draw_specialists(path, own, title):
    sizes = [one["size"] for one in next(iter(own.values()))[0].get("specialists", [])]
    if not sizes:
        return
    figure = Figure(figsize=(4.8 * len(sizes), 4), layout="constrained")
    panels = figure.subplots(1, len(sizes), squeeze=False)[0]
    for place, (axes, size) in enumerate(zip(panels, sizes, strict=True)):
        for kind, style in (("random", "s--"), ("specialist", "o-")):
            points = [
                (coupling, *_known(_f1_scores(found, place, kind)))
                for coupling, found in own.items()
            ]
            axes.errorbar(*zip(*points, strict=True), fmt=style, capsize=3, label=kind)
        of = "single heads" if size == 1 else f"groups of {size}"
        axes.set(title=of, xlabel=_LAMBDA, ylabel="mean F1 score")
        axes.grid(alpha=0.3)
    panels[0].legend()
    figure.suptitle(title)
    figure.savefig(path, dpi=120)


def _panel(title, xlabel, ylabel):
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
    axes.grid(alpha=0.3)
    return figure, axes


def _save(figure, axes, path):
    axes.legend()
    figure.savefig(path, dpi=120)


def _known(values):
    mean, error = mean_and_error(values)
    return mean, error or 0.0


def _percent(values):
    mean, error = _known(values)
    return 100 * mean, 100 * error
