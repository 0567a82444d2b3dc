"""Plots draw what they are given, and leave no global state."""

import sys

import numpy as np
import numpy.testing as npt
import pytest
from matplotlib._pylab_helpers import Gcf
from matplotlib.figure import Figure

from ensemble_heads import analyses


@pytest.fixture
def said():
    logits = 2 * np.random.normal(size=(50, 6, 3))
    return analyses.HeadPredictions.from_logits(np.arange(50) % 3, logits)


def drawn(figure, path):
    """The figure after a round trip through a file, so that drawing it has worked."""
    assert isinstance(figure, Figure)
    figure.savefig(path / "plot.png", dpi=40)
    figure.savefig(path / "plot.svg")
    assert not Gcf.figs  # pyplot's list of all figures
    return figure


def bar_heights(axes):
    return [bar.get_height() for bar in axes.patches]


def test_bars_of_heads(said, tmp_path):
    accuracies = analyses.accuracies(said)
    axes = drawn(analyses.plot_accuracies(accuracies), tmp_path).axes[0]
    npt.assert_allclose(bar_heights(axes), 100 * accuracies.heads)
    lines = [line.get_ydata()[0] for line in axes.lines]
    expected = [accuracies.mean, accuracies.ensemble, accuracies.oracle]
    npt.assert_allclose(lines, np.multiply(expected, 100))
    entropies = analyses.output_entropies(said)
    axes = drawn(analyses.plot_output_entropies(entropies), tmp_path).axes[0]
    npt.assert_allclose(bar_heights(axes), np.sort(entropies.heads))
    losses = analyses.ambiguity(said)
    axes = drawn(analyses.plot_ambiguity(losses), tmp_path).axes[0]
    npt.assert_allclose(bar_heights(axes)[:6], losses.head_losses)


def test_matrices(said, tmp_path):
    matrix = analyses.disagreement(said)
    axes = drawn(analyses.plot_disagreement(matrix), tmp_path).axes[0]
    npt.assert_array_equal(axes.images[0].get_array(), matrix)
    shares = analyses.class_assignment(said)
    figure = drawn(analyses.plot_class_assignment(shares, list("abc")), tmp_path)
    npt.assert_array_equal(figure.axes[0].images[0].get_array(), shares)
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == list("abc")
    many = np.full([1000, 2], 0.5)
    figure = analyses.plot_class_assignment(many, [f"class {i}" for i in range(1000)])
    axes = drawn(figure, tmp_path).axes[0]
    named = {t.get_text(): y for t, y in zip(axes.get_yticklabels(), axes.get_yticks())}
    assert figure.get_figheight() <= 13 and named["class 500"] == 500
    matrices = analyses.confusion_matrices(said)
    figure = analyses.plot_confusion_matrices(matrices, range(6))
    panels = [axes for axes in drawn(figure, tmp_path).axes if axes.images]
    assert len(panels) == 6
    for axes in analyses.plot_confusion_matrices(
        matrices, [5], class_names=list("abc")
    ).axes[:1]:
        for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
            assert [text.get_text() for text in labels] == list("abc")
    for axes, matrix in zip(panels, matrices):
        shares = matrix / matrix.sum(axis=1, keepdims=True)
        npt.assert_allclose(axes.images[0].get_array(), shares)


def test_curves(said, tmp_path):
    dropped = analyses.drop_heads(said, draws=3)
    plot = analyses.plot_dropped_heads
    for results in (dropped, {"a": dropped, "b": dropped}):
        axes = drawn(plot(results), tmp_path).axes[0]
        npt.assert_allclose(axes.lines[0].get_ydata(), 100 * dropped.mean)
    any_time = analyses.AnyTime(*np.arange(8).reshape(4, 2))
    axes = drawn(analyses.plot_any_time({"x": any_time}), tmp_path).axes[0]
    npt.assert_array_equal(axes.lines[0].get_xdata(), any_time.flops)
    errors = np.random.uniform(size=(2, 3, 5))
    width = analyses.OptimumWidth(np.arange(3.0), *errors)
    figure = drawn(analyses.plot_optimum_width({"test": width}), tmp_path)
    curves = [line.get_ydata() for line in figure.axes[0].lines]
    npt.assert_array_equal(curves, errors[0].T)
    found = analyses.module_dominance(said)
    figure = analyses.plot_module_dominance([1, 2], [found, found])
    lines = drawn(figure, tmp_path).axes[0].lines
    ends = [line.get_ydata()[-1] for line in lines]
    npt.assert_allclose(ends, 100 * np.r_[found.head_errors, found.ensemble_error])


def test_one_result_or_several_by_label(said, tmp_path):
    """Also by numbers: lambda = 0 is a label like any other."""
    dropped = analyses.drop_heads(said, draws=2)
    any_time = analyses.AnyTime(*np.arange(8).reshape(4, 2))
    width = analyses.OptimumWidth(np.arange(2.0), *np.ones([2, 2, 3]))
    for plot, result in (
        (analyses.plot_dropped_heads, dropped),
        (analyses.plot_any_time, any_time),
        (analyses.plot_optimum_width, width),
    ):
        assert drawn(plot(result), tmp_path).axes[0].get_legend() is None
        legend = drawn(plot({0.0: result, 1.0: result}), tmp_path).axes[0].get_legend()
        assert [text.get_text() for text in legend.get_texts()] == ["0.0", "1.0"]
        with pytest.raises(ValueError, match="`results` must hold at least one"):
            plot({})


def test_width_without_errors_or_in_one_column(tmp_path):
    distances, values = np.arange(3.0), np.random.uniform(size=(3, 2))
    several_labels = analyses.OptimumWidth(distances, values, np.full([3, 2], np.nan))
    figure = drawn(analyses.plot_optimum_width(several_labels), tmp_path)
    assert len(figure.axes) == 1
    both = analyses.OptimumWidth(distances, values, values / 2)
    above, below = drawn(
        analyses.plot_optimum_width(both, max_columns=1), tmp_path
    ).axes
    assert above.get_position().y0 > below.get_position().y1
    npt.assert_allclose(below.lines[1].get_ydata(), 50 * values[:, 1])


def test_bad_plots(said):
    matrices = analyses.confusion_matrices(said)
    for heads in ([], [6], [0.5]):
        with pytest.raises(ValueError, match="`heads` must be whole, from 0 to 5"):
            analyses.plot_confusion_matrices(matrices, heads)
    with pytest.raises(ValueError, match="`class_names` must have 3 entries"):
        analyses.plot_confusion_matrices(matrices, class_names=["a"])
    shares = analyses.class_assignment(said)
    for names in (["a"], list("abcd")):
        with pytest.raises(ValueError, match="`class_names` must have 3 entries"):
            analyses.plot_class_assignment(shares, names)


def test_bins_and_pairs(said, tmp_path):
    result = analyses.calibration(said)
    axes = drawn(analyses.plot_calibration(result), tmp_path).axes[0]
    npt.assert_allclose(bar_heights(axes), np.nan_to_num(result.accuracies))
    found = analyses.find_specialists(said, said)
    axes = drawn(analyses.plot_specialists({0.5: found}), tmp_path).axes[0]
    expected = [found.random.mean(), found.specialist.mean()]
    alone = drawn(analyses.plot_specialists(found), tmp_path).axes[0]
    npt.assert_allclose(bar_heights(alone), expected)
    npt.assert_allclose(bar_heights(axes), expected)


def test_without_matplotlib(said, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"ensemble-heads\[recipes\]"):
        analyses.plot_accuracies(analyses.accuracies(said))
