"""The Fashion-MNIST recipe: it learns, chooses by held-out images, and goes on."""

import csv
import json
import types

import numpy as np
import numpy.testing as npt
import pytest
import tensorflow as tf
from rich.console import Console

from recipes import experiment, fashion_mnist_modular, long_training, sweeps
from recipes.common import SettingError
from recipes.progress import StepsProgress
from recipes.run_folder import RunFolder
from tests.script_runs import losses_of, records_of, result_of, run_recipe

pytestmark = [pytest.mark.slow, pytest.mark.line("2.21")]

SMOKE = fashion_mnist_modular.PRESETS["smoke"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("fashion_mnist")
    flags = ["--preset=smoke", f"--workdir={workdir}", "--evaluation_batch_size=77"]
    run_recipe("fashion_mnist_modular", *flags)
    return workdir


@pytest.mark.parametrize("model", SMOKE.models)
def test_the_smoke_preset_learns(trained, model):
    folder = trained / f"{model}-seed0"
    losses = losses_of(folder)
    assert np.isfinite(losses).all() and losses[-1] < 0.5 * losses[0]
    metrics = result_of(folder)["metrics"]
    assert metrics["accuracy"] > 0.4  # chance is 0.1
    assert metrics["examples"] == metrics["validation_examples"] == 200


@pytest.mark.parametrize("model", SMOKE.models)
def test_the_evaluation_that_counts_did_best_on_held_out_images(trained, model):
    folder = trained / f"{model}-seed0"
    metrics = result_of(folder)["metrics"]
    evaluated = [r for r in records_of(folder) if "evaluation_accuracy" in r]
    assert [r["step"] for r in evaluated] == [20, 40, 60]
    best = max(r["evaluation_validation_accuracy"] for r in evaluated)
    assert metrics["validation_accuracy"] == best
    (chosen,) = [r for r in evaluated if r["step"] == metrics["chosen_step"]]
    assert chosen["evaluation_accuracy"] == metrics["accuracy"]


def test_what_a_result_was_made_by_is_in_it(trained):
    result = result_of(trained / "mlp_16m_64h-seed0")
    assert result["command"] == (
        "python recipes/fashion_mnist_modular.py --preset=smoke --workdir=… "
        "--evaluation_batch_size=77"
    )
    assert result["title"] == "Fashion-MNIST" and "machine" in result
    assert result["measures"][0] == {
        "name": "accuracy",
        "title": "accuracy",
        "percent": True,
    }


@pytest.fixture(scope="module")
def analysed(trained):
    run_recipe(
        "fashion_mnist_modular", "analyse", "--preset=smoke", f"--workdir={trained}"
    )
    return trained


def test_the_weights_analysed_are_those_that_held_out_images_chose(analysed):
    folder = analysed / "mlp_16m_64h-seed0"
    found = json.loads((folder / "analyses" / "analyses.json").read_text())
    metrics = result_of(folder)["metrics"]
    assert found["step"] == metrics["chosen_step"]
    for split, prefix in (("test", ""), ("validation", "validation_")):
        for name in ("accuracy", "oracle_accuracy", "mean_head_accuracy"):
            expected = pytest.approx(metrics[prefix + name], abs=1e-6)
            assert found[split][name] == expected, (split, name)
        loss = pytest.approx(metrics[prefix + "cross_entropy"], rel=1e-4)
        assert found[split]["ensemble_loss"] == loss
    # Equation 6: for a mean of logits the two are the same.
    test = found["test"]
    assert test["ambiguity"] == pytest.approx(test["divergence"], rel=1e-4)
    assert test["mean_of_logits_accuracy"] == test["accuracy"]
    assert found["dropped_heads"]["accuracies"][0] == [test["accuracy"]] * 20
    assert [one["size"] for one in found["specialists"]] == [1, 4]
    assert len(test["heads"]["accuracy"]) == 16


def test_figures_and_pages_of_the_paper_are_written(analysed):
    folder = analysed / "mlp_16m_64h-seed0"
    page = (folder / "analyses" / "report.html").read_text(encoding="utf-8")
    assert "Specialists" in page and "Fashion-MNIST, mlp_16m_64h-seed0" in page
    with open(folder / "analyses" / "heads.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 16
    assert not (analysed / "mlp_1m_1024h-seed0" / "analyses").exists()
    written = {path.name for path in (analysed / "analyses").iterdir()}
    assert written == {
        *("by_lambda.csv", "error_by_lambda.png", "losses_by_lambda.png"),
        *("dropped_heads_mlp_16m_64h.png", "specialists_mlp_16m_64h.png"),
    }
    with open(analysed / "analyses" / "by_lambda.csv", newline="") as file:
        rows = {row["model"]: row for row in csv.DictReader(file)}
    for model, coupling in (("mlp_1m_1024h", ""), ("mlp_16m_64h", "0.95")):
        error = 1 - result_of(analysed / f"{model}-seed0")["metrics"]["accuracy"]
        assert float(rows[model]["test_error"]) == pytest.approx(error)
        assert rows[model]["coupling"] == coupling


def logged(*pairs):
    """A folder whose log has these (accuracy, accuracy on held-out data)."""
    records = [{"step": 5, "train_loss": 1.0}]
    for step, (accuracy, held_out) in enumerate(pairs, start=1):
        records.append({"step": 10 * step, "evaluation_accuracy": accuracy})
        if held_out is not None:
            records[-1]["evaluation_validation_accuracy"] = held_out
    return types.SimpleNamespace(log=records)


def test_the_test_part_never_chooses():
    study = experiment.Experiment()
    study.measures = (experiment.Measure("accuracy", "accuracy"),)
    folder = logged((0.9, 0.1), (0.2, 0.5), (0.3, 0.5))
    found = long_training._reported(study, folder, 30)
    assert found == {"accuracy": 0.2, "validation_accuracy": 0.5, "chosen_step": 20}
    folder = logged((0.9, None), (0.2, None))
    assert long_training._reported(study, folder, 20) == {"accuracy": 0.2}
    assert long_training._reported(study, folder, 30) is None


def test_a_run_made_longer_ends_with_the_weights_of_one_that_was_whole(tmp_path):
    study = fashion_mnist_modular.FashionMNISTModular()

    def weights(name, *all_steps):
        for steps in all_steps:
            settings = SMOKE.with_changes(steps=steps, batch_size=25)
            one = sweeps.Run("mlp_1m_1024h", settings, 0)
            folder = RunFolder(tmp_path / name, {})
            with StepsProgress(Console(quiet=True)) as progress:
                progress.name_run(name)
                long_training.train(study, one, folder, progress)
        return long_training.restored(study, one, folder)[0].get_weights()

    # An epoch has 32 steps, so that the second part begins in the second epoch.
    for part, whole in zip(weights("parts", 40, 80), weights("whole", 80)):
        npt.assert_array_equal(part, whole)


def test_predictions_are_of_the_test_images_in_order(tmp_path):
    study = fashion_mnist_modular.FashionMNISTModular()
    one = sweeps.Run("mlp_1m_1024h", SMOKE, 0)
    model = study.build(one)
    path = tmp_path / "new" / "predictions.csv"
    assert study.predict(model, one, path) == study.evaluation_examples(one) == 200
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    images, labels = zip(*study.evaluation_data(one).as_numpy_iterator())
    expected = model.predict(np.concatenate(images), verbose=0)
    assert [int(row["number"]) for row in rows] == list(range(200))
    assert [int(row["label"]) for row in rows] == np.concatenate(labels).tolist()
    assert [int(row["predicted"]) for row in rows] == expected.argmax(-1).tolist()
    shown = [float(row["probability"]) for row in rows]
    npt.assert_allclose(shown, expected.max(-1), atol=2e-6)


def test_folders_that_hold_nothing_end_with_a_sentence(tmp_path):
    settings = SMOKE.with_changes(synthetic=0, data_dir=str(tmp_path))
    study = fashion_mnist_modular.FashionMNISTModular()
    one = sweeps.Run("mlp_1m_1024h", settings, 0)
    for ask in (study.evaluation_data, study.evaluation_examples):
        with pytest.raises(SystemExit, match="must hold the test part of Fashion-MN"):
            ask(one)


@pytest.mark.parametrize(
    "coupling, modules, expected",
    [(0.0, 16, 0.32), (0.95, 16, 0.32), (0.99, 16, 0.096), (1.0, 16, 0.096)],
)
def test_learning_rates_are_those_of_the_papers_code(coupling, modules, expected):
    study = fashion_mnist_modular.FashionMNISTModular()
    settings = SMOKE.with_changes(coupling=coupling)
    one = sweeps.Run(f"mlp_{modules}m_64h", settings, 0)
    model = study.build(one)
    study.compile(model, one)
    rate = float(tf.convert_to_tensor(model.optimizer.learning_rate))
    assert rate == pytest.approx(expected)
    plan = model.get_compile_config()["ensemble_loss"]
    assert plan["config"] == {"coupling": coupling}


def test_the_single_network_is_not_swept_over_lambda():
    study = fashion_mnist_modular.FashionMNISTModular()
    assert not study.is_affected("mlp_1m_1024h", "coupling")
    assert study.is_affected("mlp_256m_4h", "coupling")
    assert study.is_affected("mlp_1m_1024h", "learning_rate")


@pytest.mark.parametrize(
    "change, message",
    [
        ({"coupling": 1.5}, "`coupling` must be at most 1"),
        ({"models": ("resnet50",)}, "`models` must name models among mlp_1m"),
        ({"validation_examples": -1}, "`validation_examples` must be at least 0"),
        ({"learning_rate": 0.0}, "`learning_rate` must be above 0"),
        ({"momentum": 1.0}, r"`momentum` must be in \[0, 1\)"),
    ],
)
def test_bad_settings_are_named(change, message):
    with pytest.raises(SettingError, match=message):
        SMOKE.with_changes(**change)
