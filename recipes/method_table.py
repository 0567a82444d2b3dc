"""One row per method out of the records of its runs: as a table and as plots."""

import dataclasses
import statistics

from recipes import plots
from recipes.results import NOT_KNOWN, Column, mean_and_error, percent


@dataclasses.dataclass(frozen=True)
class Row:
    """What the runs of one method come to.

    Pairs are (mean, standard error of the mean) in fractions; see `mean_and_error`.

    Attributes:
        label: str.
        seeds: int, number of runs.
        accuracy: pair.
        gain: pair, of the accuracy over the single network's with the same seed, and
            so the same split; `(None, None)` for that itself and without it.
        head_accuracy: pair, of the mean over the heads; `(None, None)` without heads.
        oracle_accuracy: pair, of the share that any head gets right; likewise.
        parameters, flops: int, batch norm folded; FLOPs for one example.
        seconds_per_step: float, median of the runs' medians, or None.
    """

    label: str
    seeds: int
    accuracy: tuple
    gain: tuple
    head_accuracy: tuple
    oracle_accuracy: tuple
    parameters: int
    flops: int
    seconds_per_step: float | None


def summarise(methods, records):
    """List of `Row`, one per method.

    Args:
        methods: list of `Method`.
        records: list of dict, see `Study.train`.
    """
    single = {r["seed"]: r["accuracy"] for r in records if r["method"] == "single"}
    return [
        _row(method, [r for r in records if r["method"] == method.key], single)
        for method in methods
    ]


def _row(method, runs, single):
    gains = [r["accuracy"] - single[r["seed"]] for r in runs if r["seed"] in single]
    if method.ensemble_loss is None:
        gains = []
    heads = [statistics.fmean(r["head_accuracies"]) for r in runs if _has_heads(r)]
    oracle = [r["oracle_accuracy"] for r in runs if _has_heads(r)]
    times = [r["seconds_per_step"] for r in runs if r["seconds_per_step"] is not None]
    return Row(
        method.label,
        len(runs),
        mean_and_error([run["accuracy"] for run in runs]),
        mean_and_error(gains) if gains else (None, None),
        mean_and_error(heads) if heads else (None, None),
        mean_and_error(oracle) if oracle else (None, None),
        runs[0]["parameters"],
        runs[0]["flops"],
        statistics.median(times) if times else None,
    )


def _has_heads(record):
    return bool(record["head_accuracies"])


def _pair(name):
    """CSV columns of a pair."""
    return {
        name: lambda row: getattr(row, name)[0],
        f"{name}_standard_error": lambda row: getattr(row, name)[1],
    }


COLUMNS = (
    Column("method", lambda row: row.label, {"method": lambda row: row.label}),
    Column("accuracy %", lambda row: percent(*row.accuracy), _pair("accuracy")),
    Column("gain %", lambda row: percent(*row.gain, signed=True), _pair("gain")),
    Column(
        "one head %",
        lambda row: percent(*row.head_accuracy),
        {**_pair("head_accuracy"), **_pair("oracle_accuracy")},
    ),
    Column(
        "parameters",
        lambda row: f"{row.parameters:,}",
        {"parameters_folded": lambda row: row.parameters},
    ),
    Column(
        "FLOPs",
        lambda row: f"{row.flops / 1e6:.3f} M",
        {"flops_folded": lambda row: row.flops},
    ),
    Column(
        "s/step",
        lambda row: (
            NOT_KNOWN if row.seconds_per_step is None else f"{row.seconds_per_step:.4f}"
        ),
        {
            "seconds_per_step": lambda row: row.seconds_per_step,
            "seeds": lambda row: row.seeds,
        },
    ),
)


def write_plots(methods, records, title, curves, weights):
    """Draws learning curves, and accuracy against the weights lambda and mu.

    Args:
        methods, records: as for `summarise`.
        title: str.
        curves, weights: paths of the PNG files. The second is not written where no
            method has a weight.
    """
    by_method = {m.key: [r for r in records if r["method"] == m.key] for m in methods}
    plots.learning_curves(
        curves,
        {
            method.label: {
                "train": [_train_curve(run) for run in by_method[method.key]],
                "test": [
                    (run["test_epochs"], run["test_accuracy"])
                    for run in by_method[method.key]
                ],
            }
            for method in methods
        },
        title,
    )
    panels = {"lambda": {}, "mu": {}}
    for method in methods:
        if method.symbol is not None:
            accuracies = [run["accuracy"] for run in by_method[method.key]]
            panels[method.symbol][method.weight] = accuracies
    names = {
        "lambda": r"ensembling loss, $\lambda$",
        "mu": r"co-distillation loss, $\mu$",
    }
    single = [run["accuracy"] for run in by_method.get("single", [])]
    plots.accuracy_by_weight(
        weights,
        {names[symbol]: points for symbol, points in panels.items()},
        {"single network": single} if single else {},
        title,
    )


def _train_curve(run):
    accuracies = run["train_accuracy"]
    return list(range(1, len(accuracies) + 1)), accuracies
