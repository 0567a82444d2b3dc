"""The sections of a report: what each analysis shows, in words, numbers and a plot."""

import numpy as np

from ensemble_heads import analyses, profiling
from ensemble_heads.report_page import Section

# Inches: the labels stay readable where a telephone shows it at its own width.
_WIDTH, _HEIGHT = 4.8, 3.6

WIDTH = "Width of the optimum"
SPECIALISTS = "Specialists"
OF_ONE_CLASS = (
    "Accuracy and dominance",
    "Disagreement",
    "Heads that win a class",
    "Confusion",
    "Calibration",
)
FEWER_HEADS = ("Heads dropped at random", "Any-time evaluation")


def summary(model, said, input_shape):
    """What is analysed, what it costs, and how often it is right."""
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
            ["of the worst head", f"{found.lowest:.2%}"],
            ["of the best head", f"{found.highest:.2%}"],
            ["disagreement of two heads, mean", f"{differ:.2%}"],
        ]
    text = (
        "The ensemble is what the model predicts out of all its heads. FLOPs: floating "
        "point operations."
    )
    if cost.uncounted:
        kinds = sorted({operation.op_type for operation in cost.uncounted})
        text += f" They leave out what has no count: {', '.join(kinds)}."
    if said.weights is not None:
        text += " Examples weigh by their sample weights in all numbers here."
    return Section("Summary", text, rows)


def of_one_class(said, class_names):
    """`OF_ONE_CLASS`: sections that need one class per example."""
    accuracy, disagreement, winning, confusion, calibration = OF_ONE_CLASS
    return [
        _accuracy(accuracy, said),
        Section(
            disagreement,
            "Shares of examples for which two heads predict different classes: dark "
            "pairs say the same, bright ones differ.",
            figure=_sized(analyses.plot_disagreement(analyses.disagreement(said))),
        ),
        _winning(winning, said, class_names),
        Section(
            confusion,
            "What the first heads take each class for. A row is a true class, and its "
            "shares sum to 1. A head that is always right shows the diagonal alone, "
            "one that prefers a class a bright column.",
            figure=_sized(
                analyses.plot_confusion_matrices(
                    analyses.confusion_matrices(said),
                    max_columns=2,
                    class_names=class_names,
                ),
                height=1.0 + 2.0 * (1 + (said.num_heads > 2)),
            ),
        ),
        _calibration(calibration, said),
    ]


def of_distributions(said):
    """Sections that take one or several labels per example."""
    losses = analyses.ambiguity(said)
    entropies = analyses.output_entropies(said)
    one = said.link == "softmax"
    most = np.log(said.num_classes) if one else said.num_classes * np.log(2)
    return [
        Section(
            "Ambiguity",
            "How much the ensemble gains from differences between its heads: their "
            "mean loss minus the ensemble's. Losses are cross entropies in nats, "
            "natural units of information. KL is the divergence of a head's prediction "
            "from the ensemble's; where logits are averaged, its mean is the "
            "ambiguity.",
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
            "How unsure predictions are, right or wrong: 0 nats are certainty, "
            f"{most:.2f} pure guessing. A head's entropy is its mean over the "
            "examples; mean and standard deviation are of the heads.",
            [
                ["surest head", f"{entropies.lowest:.4f}"],
                ["least sure head", f"{entropies.highest:.4f}"],
                ["mean", f"{entropies.mean:.4f}"],
                ["standard deviation", f"{entropies.std:.4f}"],
                ["ensemble", f"{entropies.ensemble:.4f}"],
            ],
            _sized(analyses.plot_output_entropies(entropies)),
        ),
    ]


def of_fewer_heads(model, said, input_shape):
    """`FEWER_HEADS`: sections about some of the heads, of one class per example."""
    dropped = analyses.drop_heads(said)
    any_time = analyses.evaluate_any_time(model, said, input_shape=input_shape)
    return [
        Section(
            FEWER_HEADS[0],
            "Accuracy of the ensemble of what is left, mean over 20 draws; the band is "
            "one standard deviation. Where the curve is flat, heads can be spared.",
            figure=_sized(analyses.plot_dropped_heads(dropped)),
        ),
        Section(
            FEWER_HEADS[1],
            "Accuracy of the first heads alone, for the FLOPs of trunk and heads so "
            "far: what is reached if the computation stops there. Numbers at the "
            "points are numbers of heads.",
            figure=_sized(analyses.plot_any_time(any_time)),
        ),
    ]


def specialists(validation, test):
    """Sub-ensembles chosen for a class on `validation`, measured on `test`."""
    sizes = sorted({1, max(1, min(20, test.num_heads // 4))})
    found = {
        f"{size} of {test.num_heads} heads": analyses.find_specialists(
            validation, test, size
        )
        for size in sizes
    }
    rows = [
        [
            name,
            f"random {one.random.mean():.4f}",
            f"specialist {one.specialist.mean():.4f}",
        ]
        for name, one in found.items()
    ]
    text = (
        "For each class, the heads that tell it best from all others on validation "
        "data, against heads at random: F1 scores on the test data (of precision and "
        "recall the harmonic mean), mean over the classes."
    )
    return Section(SPECIALISTS, text, rows, _sized(analyses.plot_specialists(found)))


def width(found):
    """`OptimumWidth` against the distance, means over directions as a table."""
    rows = []
    for place, distance in enumerate(found.distances):
        row = [f"distance {distance:g}", f"{found.losses[place].mean():.4f} nats"]
        error = found.errors[place].mean()
        rows.append(row if np.isnan(error) else [*row, f"{error:.2%} wrong"])
    text = (
        "Loss and error as all weights are pushed away from where training left them, "
        "a curve for each random direction, their means in the table. The flatter the "
        "curves, the wider the optimum, and wide ones are said to generalise better."
    )
    panels = 1 if np.isnan(found.errors).all() else 2
    figure = analyses.plot_optimum_width(found, max_columns=1)
    return Section(WIDTH, text, rows, _sized(figure, height=2.8 * panels))


def left_out(rows):
    """What there is no section for, and why.

    Args:
        rows: list of `[title, reason]`.
    """
    reasons = {}
    for title, reason in rows:
        reasons.setdefault(reason, []).append(title)
    grouped = [[", ".join(titles), reason] for reason, titles in reasons.items()]
    return Section("Left out", "Analyses that this page does not show.", grouped)


def _accuracy(title, said):
    dominance = analyses.module_dominance(said)
    rows = [
        ["best head", dominance.dominant],
        ["its lead over the mean of the others", f"{dominance.lead:.2%}"],
        ["agreement with the ensemble", f"{dominance.agreement.max():.2%} at most"],
    ]
    text = (
        "How often each head alone is right. An oracle is right where any head is: no "
        "choice of a head for each example does better. One head far ahead of all "
        "others dominates: it does the work, and the ensemble says what it says."
    )
    figure = analyses.plot_accuracies(analyses.accuracies(said))
    return Section(title, text, rows, _sized(figure))


def _winning(title, said, class_names):
    shares = analyses.class_assignment(said)
    figure = analyses.plot_class_assignment(shares, class_names)
    text = (
        "Which heads know a class best: shares of the class's examples on which a "
        "head has the lowest loss of all. A bright cell is a head that the class "
        "belongs to; a white row is a class without examples."
    )
    return Section(title, text, figure=_sized(figure, height=figure.get_figheight()))


def _calibration(title, said):
    whole = analyses.calibration(said)
    errors = [analyses.calibration(said, i).error for i in range(said.num_heads)]
    rows = [
        ["ensemble", f"{whole.error:.4f}"],
        ["heads, mean", f"{np.mean(errors):.4f}"],
    ]
    text = (
        "Whether predictions come true as often as their probabilities say. Bars below "
        "the dashed line are too sure, those above it not sure enough. The expected "
        "calibration error is the mean distance from it, by examples, in 15 bins; the "
        "plot is of the ensemble."
    )
    return Section(title, text, rows, _sized(analyses.plot_calibration(whole)))


def _sized(figure, width=_WIDTH, height=_HEIGHT):
    figure.set_size_inches(width, height)
    return figure
