"""A sweep over a weight: every model is trained once, measured, and drawn."""

import numpy as np
import numpy.testing as npt
import pytest

import ensemble_heads as eh
from ensemble_heads import analyses
from tests import small_models


def test_each_weight_and_seed_is_trained_and_measured_once(capsys):
    data = small_models.classification_data(30)
    trained = {}

    def train(weight, seed):
        loss = eh.losses.Ensembling(weight)
        model = small_models.dense_model(3)
        model.compile("sgd", "sparse_categorical_crossentropy", ensemble_loss=loss)
        assert (weight, seed) not in trained
        trained[weight, seed] = model
        return model

    weights = [0.5, -1.5, 0]
    found = analyses.weight_sweep(train, weights, data, seeds=2, verbose=1)
    assert len(trained) == 6 and len(capsys.readouterr().out.splitlines()) == 6
    npt.assert_array_equal(found.weights, weights)
    for (weight, seed), model in trained.items():
        said = np.array(model.head_predictions(data[0])).argmax(axis=-1)
        right = said == data[1][:, None]
        place = weights.index(weight), seed
        npt.assert_allclose(found.heads[place], right.mean())
        npt.assert_allclose(found.oracle[place], right.any(axis=1).mean())
        classes = model.predict(data[0], verbose=0).argmax(axis=-1)
        npt.assert_allclose(found.ensemble[place], np.mean(classes == data[1]))


def test_figure_has_a_panel_for_each_weight_and_lines_for_baselines(tmp_path):
    accuracies = np.array([[0.8, 0.9], [0.6, 0.7], [0.7, 0.7]])
    sweep = analyses.WeightSweep(np.array([1.0, -1.0, 0.0]), *[accuracies] * 3)
    figure = analyses.plot_weight_sweep(
        {"lambda": sweep, "mu": sweep}, {"single": [0.5, 0.6], "other": [0.4]}
    )
    figure.savefig(tmp_path / "plot.png", dpi=40)
    assert [axes.get_xlabel() for axes in figure.axes] == ["lambda", "mu"]
    for axes in figure.axes:
        (container,) = axes.containers
        line, _, (bars,) = container
        npt.assert_allclose(line.get_xydata(), [[-1, 65], [0, 70], [1, 85]])
        halves = [np.diff(bar[:, 1])[0] / 2 for bar in bars.get_segments()]
        npt.assert_allclose(halves, [5, 0, 5], atol=1e-9)  # sqrt(2 * 5^2 / 2)
        dashed = [one.get_ydata()[0] for one in axes.lines if one is not line]
        assert {55.0, 40.0} <= set(np.round(dashed, 6))
    assert len(figure.axes[0].get_legend().get_texts()) == 3
    alone = analyses.plot_weight_sweep(sweep).axes
    assert len(alone) == 1 and alone[0].get_legend() is None


def test_bad_sweeps():
    data = small_models.classification_data(9)
    sweep = analyses.weight_sweep
    for weights in ([], [np.nan], [0, np.inf], [1, 0, 1.0]):
        with pytest.raises(ValueError, match="`weights` must be finite numbers"):
            sweep(None, weights, data)
    with pytest.raises(ValueError, match="`seeds` must be an integer of at least 1"):
        sweep(None, [1], data, seeds=0)
    with pytest.raises(ValueError, match="`train` must return.*Received: NoneType"):
        sweep(lambda weight, seed: None, [1], data)
