"""The recipe of S3D-G: its schedule, its model, views of a video, and that it runs."""

import csv
import json

import numpy as np
import pytest

import zoo
from ensemble_heads.keras_api import keras
from recipes import kinetics_s3dg as recipe
from recipes import sweeps
from recipes.common import SettingError
from tests.script_runs import losses_of, result_of, run_recipe

pytestmark = [pytest.mark.slow, pytest.mark.line("2.21")]

SMOKE, PAPER = recipe.PRESETS["smoke"], recipe.PRESETS["paper"]
HELD_OUT = SMOKE.synthetic // 5


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    path = tmp_path_factory.mktemp("kinetics")
    arguments = ("--preset=smoke", f"--workdir={path}", "--models=s3dg_2heads")
    run_recipe("kinetics_s3dg", *arguments)
    return path


def test_the_smoke_preset_learns(workdir):
    folder = workdir / "s3dg_2heads-seed0"
    losses = losses_of(folder)
    assert np.isfinite(losses).all() and losses[-1] < 0.8 * losses[0]
    metrics = result_of(folder)["metrics"]
    assert metrics["examples"] == HELD_OUT
    assert metrics["accuracy"] >= 0.75  # by chance a third


def test_evaluation_and_predictions_are_means_over_views(workdir):
    common = ("--preset=smoke", f"--workdir={workdir}", "--models=s3dg_2heads")
    views = ("--temporal_views=2", "--spatial_views=3")
    run_recipe("kinetics_s3dg", "evaluate", *common, *views)
    run_recipe("kinetics_s3dg", "predict", *common, *views)
    folder = workdir / "s3dg_2heads-seed0"
    with open(folder / "predictions.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len({row["video"] for row in rows}) == len(rows) == HELD_OUT
    assert {row["views"] for row in rows} == {"6"}
    found = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    assert found["views_examples"] == found["examples"] == HELD_OUT
    right = np.mean([row["label"] == row["predicted"] for row in rows])
    assert found["views_accuracy"] == pytest.approx(right)
    assert found["views_cross_entropy"] != pytest.approx(found["cross_entropy"])
    assert found["accuracy"] == result_of(folder)["metrics"]["accuracy"]


def test_the_mean_over_views_decides(tmp_path):
    rows = [np.array([0.6, 0.4]), np.array([0.1, 0.9])]
    assert recipe._write(tmp_path / "x.csv", {7: ("video", 1, rows)}) == 1
    lines = (tmp_path / "x.csv").read_text(encoding="utf-8").split()
    assert lines[1] == "video,1,2,1,0.650000"


def test_the_learning_rate_is_half_a_cosine_in_proportion_to_the_batch():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    for settings, rate in ((PAPER, 0.8), (recipe.PRESETS["gpus"], 0.025)):
        study = recipe.KineticsS3DG()
        study.compile(model, sweeps.Run("s3dg", settings, seed=0))
        schedule = model.optimizer.get_config()["learning_rate"]
        schedule = keras.optimizers.schedules.deserialize(schedule)
        got = [float(schedule(round(s * settings.steps))) for s in (0, 0.5, 1)]
        assert got == pytest.approx([rate, rate / 2, 0], abs=1e-4)


def test_lamb_takes_the_same_schedule():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    settings = recipe.PRESETS["gpus"].with_changes(optimizer="lamb", learning_rate=3.2)
    study = recipe.KineticsS3DG()
    study.compile(model, sweeps.Run("s3dg", settings, seed=0))
    assert type(model.optimizer).__name__.lower() == "lamb"
    schedule = model.optimizer.get_config()["learning_rate"]
    schedule = keras.optimizers.schedules.deserialize(schedule)
    got = [float(schedule(round(s * settings.steps))) for s in (0, 0.5, 1)]
    assert got == pytest.approx([0.1, 0.05, 0], abs=1e-4)


def test_smaller_networks_have_the_same_form():
    study = recipe.KineticsS3DG()
    model = study.build(sweeps.Run("s3dg", SMOKE, seed=0))
    assert model.input_shape == (None, 8, 32, 32, 3)
    spec = zoo.SPECS["s3dg"]
    small = spec.smaller(0.125, 1)
    assert small["stem"] == (8, 8, 24)
    assert [len(stage) for stage in small["blocks"]] == [1, 1, 1]
    assert small["blocks"][0][0].output_1 == 16
    assert spec.smaller(1.0) == {"stem": spec.stem, "blocks": spec.blocks}


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"short_sides": (200, 320)}, "be two, from crop=224, rising"),
        ({"models": ("resnet50",)}, "name models among s3dg, s3dg_2heads"),
        ({"width": 0.0}, "be in (0, 1]"),
        ({"temporal_views": 0}, "at least 1"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes, rule):
    with pytest.raises(SettingError) as caught:
        PAPER.with_changes(**changes)
    assert rule in str(caught.value)
