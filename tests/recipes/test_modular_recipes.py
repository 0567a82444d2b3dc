"""The recipes of small CNNs and of DenseNets under the modular loss."""

import csv
import json

import numpy as np
import pytest
import tensorflow as tf

from recipes import cifar10_modular, cifar100_densenet, sweeps
from recipes.common import SettingError
from tests.script_runs import losses_of, records_of, result_of, run_recipe

pytestmark = [pytest.mark.slow, pytest.mark.line("2.15")]

CIFAR_10 = cifar10_modular.PRESETS["smoke"]
CIFAR_100 = cifar100_densenet.PRESETS["smoke"]
CNN, DENSENET = "small_cnn_10heads", "densenet_bc_64_6_16heads"


def compiled(study, run):
    model = study.build(run)
    study.compile(model, run)
    return model


# ---- CIFAR-10


@pytest.fixture(scope="module")
def cnns(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("cifar10")
    place = f"--workdir={workdir}"
    sweep = "--sweep=coupling=0.5,1"
    run_recipe("cifar10_modular", "--preset=smoke", place, sweep)
    run_recipe("cifar10_modular", "analyse", place)
    return workdir


@pytest.mark.parametrize("coupling", ["0.5", "1"])
def test_the_smoke_preset_of_cnns_learns(cnns, coupling):
    folder = cnns / f"{CNN}_coupling_{coupling}-seed0"
    losses = losses_of(folder)
    assert np.isfinite(losses).all()
    if coupling != "1":  # where modules wait for each other
        assert losses[-1] < losses[0] - 0.1
    metrics = result_of(folder)["metrics"]
    assert metrics["examples"] == metrics["validation_examples"] == 120


def test_every_module_is_watched(cnns):
    """The curves of Figure 7."""
    folder = cnns / f"{CNN}_coupling_1-seed0"
    (*_, last) = [r for r in records_of(folder) if "evaluation_accuracy" in r]
    heads = [last[f"evaluation_head_{head}_accuracy"] for head in range(2)]
    assert np.mean(heads) == pytest.approx(last["evaluation_mean_head_accuracy"])
    assert (folder / "analyses" / "head_errors.png").exists()


def test_runs_are_found_and_compared_by_lambda(cnns):
    with open(cnns / "analyses" / "by_lambda.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["coupling"], row["seeds"]) for row in rows] == [
        ("0.5", "1"),
        ("1.0", "1"),
    ]
    for row, coupling in zip(rows, ("0.5", "1"), strict=True):
        folder = cnns / f"{CNN}_coupling_{coupling}-seed0"
        found = json.loads((folder / "analyses" / "analyses.json").read_text())
        loss = float(row["analysed_mean_head_loss"])
        assert loss == pytest.approx(found["test"]["mean_head_loss"])
        chosen = np.mean(found["specialists"][0]["specialist"])
        assert float(row["single_specialist_f1"]) == pytest.approx(chosen)


@pytest.mark.parametrize("coupling, expected", [(0.0, 0.06), (0.99, 0.06), (1.0, 0.02)])
def test_learning_rates_of_cnns_are_those_of_the_papers_code(coupling, expected):
    preset = cifar10_modular.PRESETS["paper"]
    study = cifar10_modular.CIFAR10Modular()
    settings = preset.with_changes(coupling=coupling)
    assert study.learning_rate(settings, 10) == pytest.approx(expected)
    assert study.learning_rate(settings, None) == 0.06


def test_the_paper_has_ten_cnns():
    preset = cifar10_modular.PRESETS["paper"]
    study = cifar10_modular.CIFAR10Modular()
    run = sweeps.Run(CNN, preset, 0)
    assert study.build(run).num_heads == 10
    assert not study.is_affected("small_cnn", "num_heads")
    assert study.is_affected(CNN, "num_heads")
    single = sweeps.Run("small_cnn", preset.with_changes(models=("small_cnn",)), 0)
    assert study.build(single).count_params() * 10 == study.build(run).count_params()


# ---- CIFAR-100


def test_the_smoke_preset_of_densenets_learns(tmp_path):
    run_recipe("cifar100_densenet", "--preset=smoke", f"--workdir={tmp_path}")
    losses = losses_of(tmp_path / f"{DENSENET}-seed0")
    assert np.isfinite(losses).all() and losses[-1] < losses[0] - 0.05
    assert result_of(tmp_path / f"{DENSENET}-seed0")["metrics"]["examples"] == 100


def test_densenets_are_the_papers_unless_settings_say_otherwise():
    paper = cifar100_densenet.PRESETS["paper"]
    study = cifar100_densenet.CIFAR100DenseNet()
    assert study.model_changes(sweeps.Run(DENSENET, paper, 0)) == {}
    model = compiled(study, sweeps.Run(DENSENET, CIFAR_100, 0))
    assert model.num_heads == 2
    penalties = float(tf.add_n(model.losses))
    assert penalties > 0  # weight decay, of every module


def test_the_rate_of_densenets_falls_after_epochs_150_and_225():
    paper = cifar100_densenet.PRESETS["paper"]
    rate = cifar100_densenet.CIFAR100DenseNet().learning_rate(paper, 16)
    epoch = 782
    found = [
        float(rate(step))
        for step in (0, 150 * epoch - 1, 150 * epoch, 225 * epoch - 1, 225 * epoch)
    ]
    assert found == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001])
    # All 50,000 images, the last 16 in a batch of their own.
    assert (epoch - 1) * paper.batch_size == 50_000 - 16


@pytest.mark.parametrize(
    "preset, change, message",
    [
        (CIFAR_10, {"models": ("resnet50",)}, "name models among small_cnn_10heads"),
        (CIFAR_10, {"num_heads": 1}, "be at least 2"),
        (CIFAR_10, {"joint_rate_factor": 0.0}, "be above 0"),
        (CIFAR_10, {"execution": "fast"}, "be one of separate, stacked, auto"),
        (CIFAR_100, {"depth": 12}, r"be 6 n \+ 4"),
        (CIFAR_100, {"growth": 0}, "be at least 1"),
        (CIFAR_100, {"num_heads": 1}, "be at least 2"),
    ],
)
def test_bad_settings_are_named(preset, change, message):
    (name,) = change
    with pytest.raises(SettingError, match=f"`{name}` must {message}"):
        preset.with_changes(**change)
