"""The recipe of ONE: ablations, teachers, what is deployed, and that it learns."""

import json

import numpy as np
import numpy.testing as npt
import pytest

import ensemble_heads as eh
from recipes import cifar_one as recipe
from recipes import long_training, optimum_widths, sweeps
from recipes.common import SettingError
from recipes.run_folder import RunFolder
from tests.script_runs import records_of, result_of, run_recipe

pytestmark = [pytest.mark.slow, pytest.mark.line("2.15")]

SMOKE = recipe.PRESETS["smoke"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("one")
    run_recipe("cifar_one", "--preset=smoke", f"--workdir={workdir}")
    return workdir


def study_of(method, **changes):
    """(experiment, run, compiled model) of a method."""
    settings = SMOKE.with_changes(models=(method,), **changes)
    study = recipe.CIFAROne()
    run = sweeps.Run(method, settings, seed=0)
    model = study.build(run)
    study.compile(model, run)
    return study, run, model


@pytest.mark.parametrize("method", SMOKE.models)
def test_the_smoke_preset_learns(trained, method):
    folder = trained / f"{method}-seed0"
    records = records_of(folder)
    losses = [record["train_loss"] for record in records if "train_loss" in record]
    assert np.isfinite(losses).all() and losses[-1] < 0.8 * losses[0]
    rates = [record.get("train_learning_rate") for record in records]
    rates = [rate for rate in rates if rate is not None]
    # By 20, 40, … of 100 steps.
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.001, 0.001])
    assert result_of(folder)["metrics"]["examples"] == 64


def test_sizes_are_those_of_all_branches_and_of_one(trained):
    single, one, unshared = (
        result_of(trained / f"{method}-seed0")["sizes"] for method in SMOKE.models
    )
    # One branch with the trunk is the single network, whatever it was trained with.
    for name in ("parameters", "flops"):
        assert one[f"branch_{name}"] == unshared[f"branch_{name}"] == single[name]
        assert single[name] < one[name] < unshared[name]


@pytest.mark.parametrize("method", recipe.METHODS[1:-1])
def test_methods_differ_by_sharing_gate_and_distillation(method):
    _, _, model = study_of(method)
    gated = isinstance(model.ensembler, eh.ensemblers.Gated)
    assert gated == (method in ("one", "no_distillation", "no_sharing"))
    shares = bool(model.trunk.trainable_weights)
    assert shares == (method in ("one", "no_distillation", "no_gating"))
    loss = model.get_compile_config()["ensemble_loss"]
    if method == "independent":
        assert loss["class_name"] == "Ensembling"
        assert loss["config"] == {"ensemble_weight": 0.0}
    elif method == "mutual_learning":
        assert loss["class_name"] == "MutualLearning"
    else:
        assert loss["class_name"] == "OnTheFly"
        distilled = float(method != "no_distillation")
        expected = {"temperature": 3.0, "distillation_weight": distilled}
        assert loss["config"] == {**expected, "ramp_up_steps": None}
    if method == "no_gating":
        assert model.ensembler.of == "logits"


def test_the_width_of_every_optimum_is_compared(trained):
    flags = ("--preset=smoke", f"--workdir={trained}", "--perturbed_examples=40")
    run_recipe("cifar_one", "analyse", *flags)
    study = recipe.CIFAROne()
    run = sweeps.Run("one", SMOKE, 0)
    folder = RunFolder(trained / run.key)
    text = (folder.analyses / optimum_widths.DATA).read_text(encoding="utf-8")
    found = json.loads(text)
    assert found.keys() == {"training", "test"} and found["test"]["images"] == 40
    model, *_ = long_training.restored(study, run, folder)
    images, labels = map(np.concatenate, zip(*study.evaluation_data(run)))
    said = model.head_predictions(images[:40]).numpy()[:, 0]
    right = said.argmax(axis=1) == labels[:40]
    # Where nothing is pushed, whatever the direction: what is deployed, one branch.
    npt.assert_allclose(found["test"]["errors"][0], 1 - right.mean(), atol=1e-9)
    assert (trained / "single-seed0" / "analyses" / optimum_widths.DATA).exists()
    drawn = {path.name for path in (trained / "analyses").glob("optimum_width_*.png")}
    assert drawn == {"optimum_width_test.png", "optimum_width_training.png"}


def test_distillation_learns_from_the_run_that_is_named(trained):
    folder = trained / "single-seed0"
    # Under other settings, those of the teacher are its own.
    study, run, student = study_of(recipe.TEACHER, teacher=str(folder), units=2)
    assert student.num_heads == 1
    teacher = student._plan.ensemble_loss.teacher
    single = sweeps.Run("single", SMOKE, 0)
    expected, _, step = long_training.restored(study, single, RunFolder(folder))
    assert step == 100
    images = next(iter(study.evaluation_data(run)))[0]
    npt.assert_array_equal(teacher(images), expected(images))
    assert teacher.count_params() < student.count_params()
    with pytest.raises(SettingError, match="`teacher` must name the folder of a run"):
        study_of(recipe.TEACHER, teacher=str(trained / "nothing"))
    with pytest.raises(SettingError, match="`teacher` must be a run of this recipe on"):
        study_of(recipe.TEACHER, teacher=str(folder), data_set="cifar100")


def test_a_distilled_network_can_be_a_teacher(tmp_path, monkeypatch):
    """It has a teacher itself, which is not the one it is for another."""
    teacher = SMOKE.with_changes(models=(recipe.TEACHER,), teacher="first")
    study = recipe.CIFAROne()
    RunFolder(tmp_path, study.config(sweeps.Run(recipe.TEACHER, teacher, 0)))
    seen = []
    monkeypatch.setattr(
        long_training, "restored", lambda study, run, folder: seen.append(run) or [0]
    )
    settings = teacher.with_changes(teacher=str(tmp_path))
    study._teacher(sweeps.Run(recipe.TEACHER, settings, 0))
    assert seen[0].settings.teacher == "first" and seen[0].model == recipe.TEACHER


def test_one_branch_and_all_are_exported(tmp_path, monkeypatch):
    study, run, model = study_of("one")
    written = []
    monkeypatch.setattr(eh, "export", lambda part, path: written.append((part, path)))
    study.export(model, run, tmp_path)
    (one, _), (everything, _) = written
    assert [path.name for _, path in written] == ["one", "one_e"]
    assert everything is model
    images = np.random.default_rng(0).normal(size=(4, 32, 32, 3)).astype("float32")
    heads = model.head_predictions(images).numpy()
    npt.assert_allclose(one(images).numpy(), heads[:, 0], rtol=1e-5, atol=1e-6)


def test_pixels_are_those_of_each_data_set():
    svhn = SMOKE.with_changes(data_set="svhn", synthetic=50)
    study = recipe.CIFAROne()
    images, _ = next(iter(study.training_data(sweeps.Run("one", svhn, 0), 0)))
    assert 0 <= images.numpy().min() and images.numpy().max() <= 1
    image_set, _, augment = study.images(svhn)
    assert not augment and image_set.examples["train"] == 604_388
    hundred = SMOKE.with_changes(data_set="cifar100", synthetic=200)
    run = sweeps.Run("single", hundred, 0)
    assert study.images(hundred)[-1] and study.build(run).output_shape == (None, 100)
    labels = np.concatenate([labels for _, labels in study.evaluation_data(run)])
    assert set(labels) == set(range(100))


def test_networks_have_the_weight_decay_of_their_branches():
    for network, decay in (("cifar_resnet32", 1e-4), ("resnext29", 5e-4)):
        spec = recipe.zoo.SPECS[recipe.NETWORKS[network]]
        assert spec.base.weight_decay == decay and spec.fork_at == "stage2"


def test_sweeps_take_what_a_method_depends_on():
    study = recipe.CIFAROne()
    assert not study.is_affected("single", "num_heads")
    assert study.is_affected("one", "num_heads")
    assert not study.is_affected("no_distillation", "temperature")
    assert study.is_affected("single", "network")
    with pytest.raises(SettingError, match="`sweep` must not hold data_set"):
        study.is_affected("one", "data_set")


@pytest.mark.parametrize(
    "change, message",
    [
        ({"models": ("two",)}, "`models` must name models among single, one"),
        ({"data_set": "mnist"}, "`data_set` must be one of cifar10, cifar100, svhn"),
        ({"network": "vgg", "units": 0}, "`network` must be one of cifar_resnet32"),
        ({"network": "resnext29"}, "`units` must be 0 where the network is no ResNet"),
        ({"temperature": 0.0}, "`temperature` must be above 0"),
    ],
)
def test_bad_settings_are_named(change, message):
    with pytest.raises(SettingError, match=message):
        SMOKE.with_changes(**change)


def test_distillation_needs_a_teacher():
    settings = SMOKE.with_changes(models=("distillation",))
    with pytest.raises(SettingError, match="`teacher` must name the folder"):
        recipe.CIFAROne().check_data(settings)
