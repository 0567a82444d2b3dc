"""The recipes of ImageNet: schedules, where a run goes on, and that they run."""

import csv

import numpy as np
import numpy.testing as npt
import pytest

import ensemble_heads as eh
from ensemble_heads.keras_api import keras
from recipes import imagenet_resnet, imagenet_treenet, sweeps
from recipes.checkpoints import Checkpoints
from recipes.common import SettingError
from tests.script_runs import losses_of, result_of, run_recipe

pytestmark = pytest.mark.slow
ON_ONE_LINE = pytest.mark.line("2.21")  # what trains by the command line

STEPS = "--steps=40"  # not all of the preset's
RESNET, TREENET = imagenet_resnet.PRESETS, imagenet_treenet.PRESETS


def rate_at(optimizer, step):
    schedule = optimizer.get_config()["learning_rate"]
    if isinstance(schedule, dict):
        schedule = keras.optimizers.schedules.deserialize(schedule)
    return float(schedule(step)) if callable(schedule) else float(schedule)


def optimizer_of(study, settings):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    study.compile(model, sweeps.Run("resnet152", settings, seed=0))
    return model.optimizer


def resnet_of(path=None, model="resnet152_2heads", **changes):
    """(experiment, run) of a small residual network."""
    settings = RESNET["smoke"].with_changes(models=(model,), **changes)
    return (
        imagenet_resnet.ImageNetResNet(path),
        sweeps.Run(model, settings, seed=0),
    )


@pytest.fixture(scope="module")
def resnets(tmp_path_factory):
    """Two short runs: what the recipe printed, and their folder."""
    workdir = tmp_path_factory.mktemp("resnets")
    arguments = ("--preset=smoke", f"--workdir={workdir}", STEPS)
    return run_recipe("imagenet_resnet", *arguments), workdir


@ON_ONE_LINE
def test_the_smoke_preset_learns_and_evaluates_every_image(resnets):
    printed, workdir = resnets
    for model in RESNET["smoke"].models:
        assert f"{model}-seed0 took" in printed
        result = result_of(workdir / f"{model}-seed0")
        assert result["metrics"]["examples"] == 40
        assert result["metrics"]["accuracy"] > 0.6  # by chance 0.25
        assert result["metrics"]["top_5_accuracy"] == 1  # of four classes
        assert np.isfinite(losses_of(workdir / f"{model}-seed0")).all()


@ON_ONE_LINE
def test_it_predicts_every_image_with_the_settings_of_training(resnets):
    _, workdir = resnets
    model = "resnet152_2heads"
    common = (f"--workdir={workdir}", f"--models={model}")  # no preset, no steps
    run_recipe("imagenet_resnet", "predict", *common)
    folder = workdir / f"{model}-seed0"
    with open(folder / "predictions.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["number"]) for row in rows] == list(range(40))
    right = np.mean([row["label"] == row["predicted"] for row in rows])
    assert right == pytest.approx(result_of(folder)["metrics"]["accuracy"])


def test_a_run_is_not_gone_on_with_under_another_schedule():
    (study, short), (_, long) = resnet_of(steps=20), resnet_of(steps=40)
    assert study.config(short) != study.config(long)


def test_a_restart_goes_on_in_its_epoch(tmp_path):
    study, run = resnet_of(tmp_path, image_size=8)
    study.prepare_data(run)
    whole = study.training_data(run, 0).take(14)
    *_, (images, labels) = whole.as_numpy_iterator()
    # 160 images are ten batches.
    assert study._place(run, 13, 16) == (1, 3)
    later = next(study.training_data(run, 13).as_numpy_iterator())
    npt.assert_array_equal(later[0], images)
    npt.assert_array_equal(later[1], labels)


def test_the_learning_rate_is_that_of_the_paper_in_proportion_to_the_batch():
    paper = RESNET["paper"]
    study, _ = resnet_of()
    optimizer = optimizer_of(study, paper)
    sixty = paper.steps // 4
    assert sixty == 60 * 313  # epochs of 4096 images
    for step, rate in ((0, 0.01), (sixty - 1, 0.01), (sixty, 0.002)):
        assert rate_at(optimizer, step) == pytest.approx(rate)
    assert rate_at(optimizer, 3 * sixty) == pytest.approx(0.01 * 0.2**3)
    few = optimizer_of(study, RESNET["gpus"])
    assert rate_at(few, 0) == pytest.approx(0.01 / 16)
    assert RESNET["gpus"].strategy == "mirrored"


def test_the_weight_that_is_asked_for_says_which_loss():
    for changes, loss in (
        ({"ensemble_weight": -1.5}, eh.losses.Ensembling),
        ({"distillation_weight": 3.0}, eh.losses.CoDistillation),
    ):
        study, run = resnet_of(**changes)
        model = study.build(run)
        study.compile(model, run)
        assert isinstance(model._plan.ensemble_loss, loss)


def test_lamb_trains_and_its_state_is_kept(tmp_path):
    x = np.random.default_rng(0).normal(size=(4, 32, 32, 3)).astype("float32")
    y = np.arange(4)

    def made():
        study, run = resnet_of(optimizer="lamb", learning_rate=1.0)
        keras.utils.set_random_seed(0)
        model = study.build(run)
        study.compile(model, run)
        return model, Checkpoints(tmp_path, model)

    model, checkpoints = made()
    before = model.get_weights()
    model.train_on_batch(x, y)
    assert any(np.any(a != b) for a, b in zip(before, model.get_weights()))
    checkpoints.save(1)
    again, found = made()
    assert found.restore() == 1
    for one in (model, again):  # the same second step needs the same state
        one.train_on_batch(x, y)
    for ours, theirs in zip(model.get_weights(), again.get_weights()):
        npt.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


# ---- TreeNets


@ON_ONE_LINE
def test_treenets_share_up_to_their_fork(tmp_path):
    folder = tmp_path / "runs"
    arguments = ("--preset=smoke", f"--workdir={folder}", "--models=independent")
    run_recipe("imagenet_treenet", *arguments, "--steps=20", "--evaluate_every=20")
    result = result_of(folder / "independent-seed0")
    assert result["metrics"]["examples"] == 40
    settings = TREENET["smoke"]
    study = imagenet_treenet.ImageNetTreeNet()
    model = study.build(sweeps.Run("independent", settings, seed=0))
    names = [layer.name for layer in model.trunk.layers if layer.weights]
    assert names == ["conv1", "cccp1"]


@ON_ONE_LINE
def test_bagging_knows_an_image_again_however_it_is_cut(tmp_path):
    changes = {"models": ("bagging",), "image_size": 64, "synthetic": 32}
    settings = TREENET["smoke"].with_changes(**changes)
    study = imagenet_treenet.ImageNetTreeNet(tmp_path)
    run = sweeps.Run("bagging", settings, seed=0)
    study.prepare_data(run)
    loss, epochs = study._ensemble_loss(run), [{}, {}]
    for step, (inputs, _) in enumerate(study.training_data(run, 0).take(4)):
        (known,) = loss.observe(inputs, ["classes"], training=True)
        sums = inputs["images"].numpy().sum(axis=(1, 2, 3))
        epochs[step // 2].update(zip(known.numpy().tolist(), sums))
    first, second = epochs
    assert len(first) == 32 and first.keys() == second.keys()
    assert np.mean([first[one] != second[one] for one in first]) > 0.5  # cut anew


@pytest.mark.parametrize("preset", ["paper", "caffenet"])
def test_images_are_cut_as_caffe_cuts_them(preset):
    settings = TREENET[preset]
    run = sweeps.Run("single", settings, 0)
    options = imagenet_treenet.ImageNetTreeNet().load_options(run, "train")
    assert options["windows"] == "shifted" and options["colours"] is None
    assert options["share"] * 256 == settings.image_size
    drops = [round(share * settings.steps) for share in settings.rate_drops]
    every = {"paper": 200_000, "caffenet": 100_000}[preset]
    assert drops == list(range(every, settings.steps, every))


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"fork_at": "conv5"}, "fork_at must be one of images, conv1, cccp1"),
        ({"network": "vgg"}, "network must be one of nin, caffenet"),
        ({"image_size": 257}, "image_size must be at most 256"),
        ({"source": "zip"}, "source must be one of records, files, tfds"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes, rule):
    with pytest.raises(SettingError) as caught:
        TREENET["paper"].with_changes(**changes)
    assert rule in str(caught.value).replace("`", "").replace("--", "")


def test_no_data_is_an_error_that_says_what_to_name():
    study = imagenet_treenet.ImageNetTreeNet()
    with pytest.raises(SettingError, match="name where the images are"):
        study.check_data(TREENET["paper"])
