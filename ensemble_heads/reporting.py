"""All analyses of a model on one HTML page."""

from pathlib import Path

import numpy as np

from ensemble_heads import analyses, profiling, provenance, report_page
from ensemble_heads.analyses import figures
from ensemble_heads.report_page import Section

# Inches: the labels stay readable where a telephone shows it at its own width.
_FIGURE_SIZE = (4.8, 3.6)


def report(
    model,
    data,
    path="report.html",
    validation=None,
    output=None,
    class_names=None,
    title=None,
    perturbations=0,
    input_shape=None,
    batch_size=128,
    verbose=1,
):
    """Writes what `eh.analyses` says of a model as one page of tables and plots.

    The page holds everything itself and is read without a network. What needs one class
    per example, or an ensembler without weights, is left out where there is none. Needs
    matplotlib.

    Args:
        model: `eh.MultiHeadModel`, a classifier.
        data: test data, as `eh.analyses.collect` takes it.
        path: str or path of the file to write.
        validation: other data, on which specialist heads are chosen. Default: that
            section is left out.
        output: str, name of the output to look at, where there are several.
        class_names: list of str, one per class. Default: numbers.
        title: str. Default: the model's name.
        perturbations: int, directions in which weights are pushed to see how wide the
            optimum is. Default 0: left out, since each takes six passes over the data.
        input_shape: as `eh.profile` takes it.
        batch_size, verbose: as for `eh.analyses.collect`.

    Returns:
        `pathlib.Path` of the file.

    Raises:
        ValueError: as `eh.analyses.collect`, or another number of names than classes.
        ImportError: matplotlib is not installed.
    """
    arguments = {"output": output, "batch_size": batch_size, "verbose": verbose}
    said = analyses.collect(model, data, **arguments)
    figures.require_names(class_names, said.num_classes)
    sections = [_summary(model, said, input_shape)]
    if said.link == "softmax":
        sections += _of_one_class(said, class_names)
    sections += _of_distributions(said)
    if _is_free(said):
        sections += _of_some_heads(model, said, input_shape)
        if validation is not None:
            chosen_on = analyses.collect(model, validation, **arguments)
            sections.append(_specialists(chosen_on, said))
    if perturbations:
        found = analyses.optimum_width(
            model,
            data,
            directions=perturbations,
            output=output,
            batch_size=batch_size,
            verbose=verbose,
        )
        sections.append(_width(found))
    footer = ", ".join(f"{k} {v}" for k, v in provenance.describe().items() if v)
    page = report_page.render(title or model.name, sections, footer)
    path = Path(path)
    path.write_text(page, encoding="utf-8")
    return path


def _summary(model, said, input_shape):
    cost = profiling.profile(model, input_shape=input_shape)
    rows = [
        ["examples", f"{said.num_examples:,}"],
        ["heads", said.num_heads],
        ["classes", said.num_classes],
        ["parameters, batch norms folded", f"{cost.parameters:,}"],
        ["FLOPs per example", f"{cost.flops:,}"],
    ]
    if said.link == "softmax":
        found = analyses.accuracies(said)
        differ = analyses.mean_disagreement(analyses.disagreement(said))
        rows += [
            ["accuracy of the ensemble", f"{found.ensemble:.2%}"],
            ["of an oracle", f"{found.oracle:.2%}"],
            ["of the heads, mean", f"{found.mean:.2%}"],
            ["lowest", f"{found.lowest:.2%}"],
            ["highest", f"{found.highest:.2%}"],
            ["disagreement of two heads, mean", f"{differ:.2%}"],
        ]
    text = ""
    if said.weights is not None:
        text = "All numbers weigh the examples by their sample weights. "
    if cost.uncounted:
        text += f"Operations without a count of FLOPs: {len(cost.uncounted)}."
    return Section("Summary", text, rows)


def _of_one_class(said, class_names):
    """Sections that need one class per example."""
    dominance = analyses.module_dominance(said)
    accuracies = analyses.accuracies(said)
    rows = [
        ["best head", dominance.dominant],
        ["its lead over the mean of the others", f"{dominance.lead:.2%}"],
        ["agreement with the ensemble", f"{dominance.agreement.max():.2%} at most"],
    ]
    shares = analyses.class_assignment(said)
    winners = analyses.plot_class_assignment(shares, class_names)
    winners.set_figwidth(_FIGURE_SIZE[0])
    return [
        Section(
            "Accuracy and dominance",
            "An oracle takes any head that is right.",
            rows,
            _sized(analyses.plot_accuracies(accuracies)),
        ),
        Section(
            "Disagreement",
            "Shares of examples on which two heads predict different classes.",
            figure=_sized(analyses.plot_disagreement(analyses.disagreement(said))),
        ),
        Section(
            "Heads that win a class",
            "Shares of a class's examples on which a head has the lowest loss.",
            figure=winners,
        ),
        Section(
            "Confusion",
            "Of the first heads; a row is a true class.",
            figure=analyses.plot_confusion_matrices(
                analyses.confusion_matrices(said), max_columns=2
            ),
        ),
        _calibration(said),
    ]


def _calibration(said):
    whole = analyses.calibration(said)
    errors = [analyses.calibration(said, i).error for i in range(said.num_heads)]
    rows = [
        ["ensemble", f"{whole.error:.4f}"],
        ["heads, mean", f"{np.mean(errors):.4f}"],
    ]
    text = "Expected calibration error in 15 bins; the plot is of the ensemble."
    return Section("Calibration", text, rows, _sized(analyses.plot_calibration(whole)))


def _of_distributions(said):
    """Sections that take one or several labels per example."""
    losses = analyses.ambiguity(said)
    entropies = analyses.output_entropies(said)
    names = ("lowest", "highest", "mean", "std")
    return [
        Section(
            "Ambiguity",
            "The heads' mean loss minus that of the ensemble, in nats.",
            [
                ["mean loss of the heads", f"{losses.mean_head_loss:.4f}"],
                ["loss of the ensemble", f"{losses.ensemble_loss:.4f}"],
                ["ambiguity", f"{losses.ambiguity:.4f}"],
                ["mean KL(ensemble || head)", f"{losses.divergence:.4f}"],
            ],
            _sized(analyses.plot_ambiguity(losses)),
        ),
        Section(
            "Output entropy",
            "Of the heads' predictions, in nats.",
            [[name, f"{getattr(entropies, name):.4f}"] for name in names],
            _sized(analyses.plot_output_entropies(entropies)),
        ),
    ]


def _of_some_heads(model, said, input_shape):
    """Sections about fewer heads, of one class per example."""
    if said.link != "softmax":
        return []
    dropped = analyses.drop_heads(said)
    any_time = analyses.evaluate_any_time(model, said, input_shape=input_shape)
    return [
        Section(
            "Heads dropped at random",
            "Mean over 20 draws, with one standard deviation.",
            figure=_sized(analyses.plot_dropped_heads(dropped)),
        ),
        Section(
            "Any-time evaluation",
            "The first heads alone, for the FLOPs of trunk and heads so far.",
            figure=_sized(analyses.plot_any_time(any_time)),
        ),
    ]


def _specialists(validation, test):
    sizes = sorted({1, max(1, min(20, test.num_heads // 4))})
    found = {
        f"{size} of {test.num_heads} heads": analyses.find_specialists(
            validation, test, size
        )
        for size in sizes
    }
    rows = [
        [name, f"random {one.random.mean():.4f}", f"chosen {one.specialist.mean():.4f}"]
        for name, one in found.items()
    ]
    text = "Mean F1 score over classes of heads chosen for each class, and of any."
    return Section("Specialists", text, rows, _sized(analyses.plot_specialists(found)))


def _width(found):
    rows = [
        [f"distance {d:g}", f"{loss:.4f} nats", f"{error:.2%} wrong"]
        for d, loss, error in zip(
            found.distances, found.losses.mean(axis=1), found.errors.mean(axis=1)
        )
    ]
    text = "The ensemble with its weights pushed away at random; means over directions."
    figure = analyses.plot_optimum_width(found)
    return Section("Width of the optimum", text, rows, figure)


def _is_free(said):
    """Whether ensembles of some of the heads can be made."""
    try:
        said.require_free_ensembler()
    except ValueError:
        return False
    return True


def _sized(figure):
    figure.set_size_inches(*_FIGURE_SIZE)
    return figure
