"""The recipe of CIFAR10-Quick: its methods, Caffe's optimizer, and that it learns."""

import csv

import numpy as np
import numpy.testing as npt
import pytest
import tensorflow as tf

import ensemble_heads as eh
from ensemble_heads.keras_api import keras
from recipes import cifar10_treenet_mcl as recipe
from recipes import sweeps
from recipes.caffe_sgd import CaffeSGD
from recipes.common import SettingError
from tests.script_runs import records_of, result_of, run_recipe

pytestmark = [pytest.mark.slow, pytest.mark.line("2.15")]

SMOKE, PAPER = recipe.PRESETS["smoke"], recipe.PRESETS["paper"]
CLASSES = 10


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("treenet")
    run_recipe("cifar10_treenet_mcl", "--preset=smoke", f"--workdir={workdir}")
    return workdir


def study_of(method, **changes):
    """(experiment, run, compiled model) of a method."""
    settings = SMOKE.with_changes(models=(method,), **changes)
    study = recipe.CIFAR10TreeNet()
    run = sweeps.Run(method, settings, seed=3)
    keras.utils.set_random_seed(run.seed)
    model = study.build(run)
    study.compile(model, run)
    return study, run, model


def batch(count=16):
    generator = np.random.default_rng(0)
    images = generator.normal(0, 40, (count, 32, 32, 3)).astype("float32")
    return images, generator.integers(0, CLASSES, count)


def rate_at(schedule, step):
    return float(tf.convert_to_tensor(schedule(tf.constant(step, tf.int64))))


# ---- The smoke preset


@pytest.mark.parametrize("method", SMOKE.models)
def test_the_smoke_preset_learns(trained, method):
    folder = trained / f"{method}-seed0"
    records = records_of(folder)
    losses = [record["train_loss"] for record in records if "train_loss" in record]
    assert np.isfinite(losses).all() and losses[-1] < 0.8 * losses[0]
    result = result_of(folder)
    assert result["step"] == (80 if method == recipe.CHOICE else 60)
    metrics = result["metrics"]
    assert metrics["examples"] == 100
    best = metrics["accuracy"]
    if method != recipe.SINGLE:
        heads = [metrics[f"head_{head}_accuracy"] for head in range(4)]
        mean = pytest.approx(np.mean(heads), abs=1e-6)
        assert metrics["mean_head_accuracy"] == mean
        best = metrics["oracle_accuracy"]
        assert best >= max(heads)
    assert best > 0.3  # chance is 0.1


def test_the_table_has_the_oracle_where_there_are_heads(trained):
    with open(trained / "table.csv", newline="") as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert list(rows) == list(SMOKE.models)
    single, independent = rows["single"], rows["independent"]
    assert single["oracle_accuracy"] == ""
    assert float(independent["oracle_accuracy"]) >= float(independent["accuracy"])
    assert int(independent["parameters"]) == 4 * int(single["parameters"])
    printed = (trained / "table.md").read_text()
    assert "n/a" in next(line for line in printed.splitlines() if "single" in line)


# ---- The procedure


@pytest.mark.parametrize("stacked", [False, True])
def test_biases_move_twice_as_fast_as_kernels(stacked):
    """Two steps by the arithmetic of Caffe: v = m v + f r (g + c w), w = w - v."""
    rate, momentum, decay = 0.1, 0.9, 0.5
    execution = "stacked" if stacked else "separate"
    keras.utils.set_random_seed(0)
    inputs = keras.Input((3,), name="inputs")
    layer = keras.layers.Dense(
        2,
        bias_initializer="ones",
        kernel_regularizer=keras.regularizers.L2(decay / 2),
        bias_regularizer=keras.regularizers.L2(decay / 2),
    )
    single = keras.Model(inputs, layer(inputs))
    model = eh.multi_head(single, "inputs", execution=execution, seed=1)
    model.compile(CaffeSGD(rate, momentum, 2.0), "mse")
    x = np.random.default_rng(0).normal(size=(4, 3))
    y = np.random.default_rng(1).normal(size=(4, 2))
    heads = [[np.array(w, "float64") for w in h.get_weights()] for h in model.heads]
    for _ in range(2):
        model.train_on_batch(x.astype("float32"), y.astype("float32"))
    for (kernel, bias), trained_head in zip(heads, model.heads, strict=True):
        speeds = [0.0, 0.0]
        for _ in range(2):
            error = (x @ kernel + bias - y) / 4  # of the mean over two outputs
            gradients = (x.T @ error + decay * kernel, error.sum(0) + decay * bias)
            speeds = [
                momentum * speed + factor * rate * gradient
                for speed, factor, gradient in zip(speeds, (1, 2), gradients)
            ]
            kernel, bias = kernel - speeds[0], bias - speeds[1]
        for found, expected in zip(trained_head.get_weights(), (kernel, bias)):
            npt.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_the_learning_rate_is_a_tenth_after_4000_of_the_papers_steps():
    schedule = PAPER.falling_rate()
    assert [rate_at(schedule, s) for s in (0, 3999, 4000, 4999)] == pytest.approx(
        [1e-3, 1e-3, 1e-4, 1e-4]
    )
    assert PAPER.with_changes(rate_drops=()).falling_rate() == 1e-3
    twice = PAPER.with_changes(rate_drops=(0.5, 0.75)).falling_rate()
    assert [rate_at(twice, s) for s in (2499, 2500, 3749, 3750)] == pytest.approx(
        [1e-3, 1e-4, 1e-4, 1e-5]
    )


def test_pretraining_comes_before_the_steps_of_multiple_choice_alone():
    changes = {"pretraining_steps": 7, "steps": 10, "rate_drops": (0.5,)}
    study, run, model = study_of(recipe.CHOICE, **changes)
    assert study.total_steps(run) == 17
    schedule = run.settings.falling_rate(7)
    assert rate_at(schedule, 11) == pytest.approx(10 * rate_at(schedule, 12))
    study, run, _ = study_of("independent", **changes)
    assert study.total_steps(run) == 10


def test_heads_learn_alone_first_and_choose_then():
    """Two steps as independent heads, the third as under `MultipleChoice`."""
    images, labels = batch()
    changes = {"rate_drops": (), "num_heads": 2, "learning_rate": 0.01}
    _, _, late = study_of(recipe.CHOICE, pretraining_steps=2, **changes)
    _, _, alone = study_of("independent", **changes)
    for _ in range(2):
        late.train_on_batch(images, labels)
        alone.train_on_batch(images, labels)
    for one, other in zip(late.get_weights(), alone.get_weights(), strict=True):
        npt.assert_allclose(one, other, rtol=1e-6, atol=1e-8)
    choice = eh.losses.MultipleChoice(num_choices=1, seed=3)
    base = "sparse_categorical_crossentropy"
    alone.compile(alone.optimizer, base, ensemble_loss=choice)
    late.train_on_batch(images, labels)
    alone.train_on_batch(images, labels)
    for one, other in zip(late.get_weights(), alone.get_weights(), strict=True):
        npt.assert_allclose(one, other, rtol=1e-6, atol=1e-8)


# ---- The methods


def first_kernels(model):
    return [np.array(head.get_weights()[0]) for head in model.heads]


def test_bagged_heads_start_from_the_same_weights():
    first, *others = first_kernels(study_of("bagging")[2])
    for other in others:
        npt.assert_array_equal(first, other)
    for method in ("bagging_and_weights", "independent"):
        first, second, *_ = first_kernels(study_of(method)[2])
        assert not np.allclose(first, second)
    weights = study_of("bagging")[2].get_compile_config()["ensemble_loss"]
    assert weights["class_name"] == "Bagging" and weights["config"]["seed"] == 3


def test_averages_are_trained_at_four_times_the_learning_rate():
    """That of weight decay and biases included: against `Modular(1)`, l(g, p_ens)."""
    images, labels = batch()
    changes = {"rate_drops": (), "weight_decay": 0.1}
    _, run, ours = study_of("score_averaged", **changes)
    spec = recipe.zoo.SPECS[recipe.NETWORK].with_changes(
        weight_decay=0.1, ensembler=eh.ensemblers.Mean("logits"), seed=0
    )
    plain = spec.build("plain")
    plain.set_weights(ours.get_weights())
    plain.compile(
        CaffeSGD(4 * run.settings.learning_rate, 0.9, 2.0),
        "sparse_categorical_crossentropy",
        ensemble_loss=eh.losses.Modular(1.0),
    )
    for _ in range(2):
        ours.train_on_batch(images, labels)
        plain.train_on_batch(images, labels)
    for one, other in zip(ours.get_weights(), plain.get_weights(), strict=True):
        npt.assert_allclose(one, other, rtol=1e-4, atol=1e-7)


def test_forks_decide_what_is_shared():
    independent = study_of("independent")[2]
    tree = study_of("independent", fork_at="conv2", num_heads=2)[2]
    shared = [layer.name for layer in tree.trunk.layers]
    assert "conv2" in shared and "conv3" not in shared
    assert not independent.trunk.weights and independent.num_heads == 4


def test_sweeps_make_the_runs_of_tables_4_and_5():
    study = recipe.CIFAR10TreeNet()
    swept = {"num_choices": [1, 2], "pretraining_steps": [100, 500]}
    settings = PAPER.with_changes(models=("single", recipe.CHOICE), seeds=1)
    runs = sweeps.runs_of(settings, swept, study.is_affected)
    assert [run.model for run in runs] == ["single"] + [recipe.CHOICE] * 4
    assert not study.is_affected("single", "fork_at")
    assert study.is_affected("bagging", "fork_at")


@pytest.mark.parametrize(
    "change, message",
    [
        ({"models": ("boosting",)}, "`models` must name models among single, indep"),
        ({"num_choices": 5}, "`num_choices` must be at most num_heads=4"),
        ({"fork_at": "conv9"}, "`fork_at` must be one of images, conv1"),
        ({"execution": "fast"}, "`execution` must be one of separate, stacked, auto"),
        ({"pretraining_steps": -1}, "`pretraining_steps` must be at least 0"),
        ({"rate_drops": (0.8, 0.5)}, "`rate_drops` must be shares between 0 and 1"),
        ({"rate_drops": (1.0,)}, "`rate_drops` must be shares between 0 and 1"),
    ],
)
def test_bad_settings_are_named(change, message):
    with pytest.raises(SettingError, match=message):
        SMOKE.with_changes(**change)
