"""What the heads of one trained run do: numbers, plots and a page in its folder."""

import csv
import dataclasses
import functools
import json

import numpy as np

import ensemble_heads as eh
from ensemble_heads import provenance
from recipes import folders
from recipes.common import command_line
from recipes.run_folder import RunFolder
from recipes.sweeps import Run

DATA = "analyses.json"
HEADS_CSV = "heads.csv"
CONFUSION = "confusion.npz"
PAGE = "report.html"

_MOST_SPECIALISTS = 20  # of Webb et al., Figure 5: single heads, and 20 of 256
_HEAD = "evaluation_head_{}_accuracy"


@dataclasses.dataclass(frozen=True)
class Analysed:
    """A run with what is known of it.

    Attributes:
        run: `Run`.
        folder: `RunFolder`.
    """

    run: Run
    folder: RunFolder

    @functools.cached_property
    def result(self):
        """dict, what the run's training gave; None where it is not finished."""
        return self.folder.result()

    @functools.cached_property
    def data(self):
        """dict, what `analyse` found; None where it has not been called."""
        path = self.folder.analyses / DATA
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def analyse(experiment, model, run, step, folder):
    """Analyses a run on its test data, and where there are any on its held-out data.

    Writes to `analyses/` of the run's folder: `analyses.json`, `heads.csv` (a row per
    head), `confusion.npz` (`test`, a matrix per head), a plot of each analysis and
    `report.html`, which holds them all.

    Args:
        experiment: `Experiment`.
        model: its `eh.MultiHeadModel`, with the weights to analyse.
        run: `Run`.
        step: int, after which the weights were taken.
        folder: `RunFolder`.

    Returns:
        dict, as in `analyses.json`; losses and entropies in nats.
    """
    path = folder.analyses
    folders.make_writable(path)
    test, validation = experiment.evaluation_data(run), experiment.validation_data(run)
    said = eh.analyses.collect(model, test, verbose=0)
    held_out = None
    if validation is not None:
        held_out = eh.analyses.collect(model, validation, verbose=0)
    confused = eh.analyses.confusion_matrices(said)
    figures = _plots(said, confused, experiment.class_names)
    data = {
        **{"run": run.key, "method": run.method, "model": run.model, "seed": run.seed},
        **{"changes": run.changes, "step": step},
        "test": _numbers(said),
        "validation": None if held_out is None else _numbers(held_out),
        **_of_some_heads(model, said, held_out, figures),
        "command": command_line(),
        **provenance.describe(),
    }
    _draw_head_errors(folder, figures)
    for name, figure in figures.items():
        figure.savefig(path / f"{name}.png", dpi=120)
    np.savez_compressed(path / CONFUSION, test=confused)
    _write_heads(path / HEADS_CSV, data["test"])
    eh.report(
        model,
        test,
        path / PAGE,
        validation=validation,
        class_names=experiment.class_names,
        title=f"{experiment.title}, {run.key}",
        verbose=0,
    )
    folders.write_whole(path / DATA, json.dumps(data, indent=1) + "\n")
    return data


def _numbers(said):
    """Numbers of all heads on one data set."""
    found = eh.analyses.accuracies(said)
    losses = eh.analyses.ambiguity(said)
    entropies = eh.analyses.output_entropies(said)
    dominance = eh.analyses.module_dominance(said)
    differ = eh.analyses.disagreement(said)
    return {
        "examples": said.num_examples,
        "accuracy": found.ensemble,
        "oracle_accuracy": found.oracle,
        "mean_head_accuracy": found.mean,
        **accuracies_of_means(said),
        "ensemble_loss": losses.ensemble_loss,
        "mean_head_loss": losses.mean_head_loss,
        "ambiguity": losses.ambiguity,
        "divergence": losses.divergence,
        "disagreement": eh.analyses.mean_disagreement(differ),
        "calibration_error": eh.analyses.calibration(said).error,
        "dominant_head": dominance.dominant,
        "dominance": dominance.lead,
        "ensemble_entropy": entropies.ensemble,
        **{
            f"{name}_entropy": getattr(entropies, name)
            for name in ("lowest", "highest", "mean", "std")
        },
        "heads": {
            "accuracy": found.heads.tolist(),
            "loss": losses.head_losses.tolist(),
            "entropy": entropies.heads.tolist(),
            "agreement": dominance.agreement.tolist(),
        },
        "class_assignment": eh.analyses.class_assignment(said).tolist(),
    }


def accuracies_of_means(said):
    """Accuracies of both plain means of the heads, whichever the model has.

    Args:
        said: `eh.analyses.HeadPredictions`.

    Returns:
        dict, `"mean_of_probabilities_accuracy"` and `"mean_of_logits_accuracy"`.
    """
    found = {}
    for of in ("probabilities", "logits"):
        combined = eh.analyses.HeadPredictions.from_logits(
            *(said.labels, said.head_logits, said.link, eh.ensemblers.Mean(of)),
            weights=said.weights,
        )
        found[f"mean_of_{of}_accuracy"] = eh.analyses.accuracies(combined).ensemble
    return found


def _plots(said, confused, class_names):
    """{name: figure} of what needs all heads."""
    of = eh.analyses
    shares = of.class_assignment(said)
    return {
        "accuracies": of.plot_accuracies(of.accuracies(said)),
        "ambiguity": of.plot_ambiguity(of.ambiguity(said)),
        "entropies": of.plot_output_entropies(of.output_entropies(said)),
        "disagreement": of.plot_disagreement(of.disagreement(said)),
        "calibration": of.plot_calibration(of.calibration(said)),
        "class_assignment": of.plot_class_assignment(shares, class_names),
        "confusion": of.plot_confusion_matrices(confused, class_names=class_names),
    }


def _of_some_heads(model, said, held_out, figures):
    """What needs ensembles of some of the heads; {} where there can be none."""
    try:
        said.require_free_ensembler()
    except ValueError:
        return {}
    dropped = eh.analyses.drop_heads(said)
    any_time = eh.analyses.evaluate_any_time(model, said)
    figures["dropped_heads"] = eh.analyses.plot_dropped_heads(dropped)
    figures["any_time"] = eh.analyses.plot_any_time(any_time)
    data = {
        "dropped_heads": _as_lists(dropped, "dropped", "accuracies"),
        "any_time": _as_lists(any_time, "heads", "flops", "parameters", "accuracies"),
    }
    if held_out is not None:
        sizes = sorted({1, max(1, min(_MOST_SPECIALISTS, said.num_heads // 4))})
        found = [eh.analyses.find_specialists(held_out, said, size) for size in sizes]
        labels = [f"{size} of {said.num_heads} heads" for size in sizes]
        results = dict(zip(labels, found, strict=True))
        figures["specialists"] = eh.analyses.plot_specialists(results)
        data["specialists"] = [
            {"size": one.size, **_as_lists(one, "random", "specialist", "chosen")}
            for one in found
        ]
    return data


def _as_lists(found, *names):
    return {name: getattr(found, name).tolist() for name in names}


def _draw_head_errors(folder, figures):
    """Errors of heads and ensemble over training, where every head's was logged."""
    log = [record for record in folder.log if _HEAD.format(0) in record]
    if not log:
        return
    count = sum(_HEAD.format(head) in log[0] for head in range(len(log[0])))
    dominances = [
        eh.analyses.ModuleDominance(
            np.array([1.0 - record[_HEAD.format(head)] for head in range(count)]),
            1.0 - record["evaluation_accuracy"],
            np.array([]),
        )
        for record in log
    ]
    steps = [record["step"] for record in log]
    figure = eh.analyses.plot_module_dominance(steps, dominances)
    figure.axes[0].set_xlabel("step")
    figures["head_errors"] = figure


def _write_heads(path, split):
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["head", *split["heads"]])
        for head, values in enumerate(zip(*split["heads"].values(), strict=True)):
            writer.writerow([head, *values])
