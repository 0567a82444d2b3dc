"""Figures from matplotlib objects, which is imported when a plot is asked for.

A figure made here belongs to no window and to no global list of figures: it is the
caller's to save (`figure.savefig`), and is freed like any other object.
"""


def new_figure(width=6.0, height=4.0):
    """An empty matplotlib `Figure`, of a size in inches.

    Raises:
        ImportError: matplotlib is not installed; it is no requirement of the library.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "Plots need matplotlib, which the extra `ensemble-heads[recipes]` "
            "installs. The analyses themselves do without."
        ) from error
    return Figure(figsize=(width, height), layout="constrained")


def one_panel(title, xlabel, ylabel, width=6.0, height=4.0):
    """A figure and its one pair of axes, titled, with a light grid."""
    figure = new_figure(width, height)
    axes = figure.subplots()
    axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    return figure, axes


def heat_map(axes, shares, highest=1.0):
    """A matrix of numbers from 0 to `highest` as colours, rows from the top.

    Returns:
        What a colour bar is made from.
    """
    return axes.imshow(shares, vmin=0.0, vmax=highest, cmap="viridis", aspect="auto")


def require_names(class_names, classes):
    """Raises ValueError unless there is one name per class, or none are given."""
    if class_names is not None and len(class_names) != classes:
        raise ValueError(
            f"`class_names` must have {classes} entries, one per class. "
            f"Received: class_names={class_names!r}"
        )


def name_classes(axis, class_names, most):
    """Names in place of numbers along an axis; of many classes some are named.

    Args:
        axis: matplotlib `Axis`.
        class_names: list of str, or None to leave numbers.
        most: int, how many names there is room for.
    """
    if class_names is None:
        axis.get_major_locator().set_params(integer=True)
        return
    named = range(0, len(class_names), -(-len(class_names) // most))
    axis.set_ticks(named, labels=[class_names[i] for i in named])


def by_label(results):
    """{label: result} of several results, or of one alone, whose label is empty.

    Args:
        results: one result, or a dict of them by label: texts, or numbers such as the
            values of lambda.

    Raises:
        ValueError: an empty dict.
    """
    if not isinstance(results, dict):
        return {"": results}
    if not results:
        raise ValueError("`results` must hold at least one. Received: results={}")
    return {str(label): result for label, result in results.items()}


def label_curves(axes, curves):
    """A legend for what `by_label` gave, where there are labels."""
    if any(curves):
        axes.legend()


def legend_below(axes):
    """A legend under the panel, where it hides nothing."""
    axes.figure.legend(
        *axes.get_legend_handles_labels(), loc="outside lower center", ncols=2
    )
