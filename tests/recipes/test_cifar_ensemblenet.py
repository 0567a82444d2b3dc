"""The recipe of EnsembleNet on CIFAR-10: sizes, losses, and that it learns."""

import numpy as np
import pytest

from recipes import cifar_ensemblenet as recipe
from recipes import sweeps
from recipes.common import SettingError
from tests.script_runs import records_of, result_of, run_recipe

pytestmark = [pytest.mark.slow, pytest.mark.line("2.15")]

SMOKE, FULL = recipe.PRESETS["smoke"], recipe.PRESETS["full"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("ensemblenet")
    run_recipe("cifar_ensemblenet", "--preset=smoke", f"--workdir={workdir}")
    return workdir


@pytest.mark.parametrize("method", recipe.METHODS)
def test_the_smoke_preset_learns(trained, method):
    folder = trained / f"{method}-seed0"
    records = records_of(folder)
    losses = [record["train_loss"] for record in records if "train_loss" in record]
    assert np.isfinite(losses).all() and losses[-1] < 0.8 * losses[0]
    assert result_of(folder)["metrics"]["examples"] == 64


def test_heads_cost_no_more_than_the_single_network(trained):
    sizes = {
        method: result_of(trained / f"{method}-seed0") for method in recipe.METHODS
    }
    single, two, distilled = (sizes[method]["sizes"] for method in recipe.METHODS)
    assert two == distilled
    for name in ("parameters", "flops"):
        assert 0.8 * single[name] < two[name] <= single[name]


def test_one_command_has_the_runs_of_figure_2():
    study = recipe.CIFAREnsembleNet()
    texts = ["ensemble_weight=1,0.5,0,-0.5,-1.5", "distillation_weight=1,2,3"]
    swept = sweeps.parse(recipe.Config, texts)
    runs = sweeps.runs_of(FULL, swept, study.is_affected)
    assert [run.method for run in runs] == [
        "single",
        *(f"ensembling ensemble_weight={w}" for w in ("1", "0.5", "0", "-0.5", "-1.5")),
        *(f"codistillation distillation_weight={w}" for w in (1, 2, 3)),
    ]


@pytest.mark.parametrize(
    "method, name, config",
    [
        ("ensembling", "Ensembling", {"ensemble_weight": -0.5}),
        ("codistillation", "CoDistillation", {"distillation_weight": 2.0}),
    ],
)
def test_losses_are_those_of_the_settings(method, name, config):
    settings = SMOKE.with_changes(**config)
    study = recipe.CIFAREnsembleNet()
    run = sweeps.Run(method, settings, 0)
    model = study.build(run)
    study.compile(model, run)
    loss = model.get_compile_config()["ensemble_loss"]
    assert loss["class_name"] == name and loss["config"].items() >= config.items()
    layers = [layer for part in (model.trunk, *model.heads) for layer in part.layers]
    kernels = [layer for layer in layers if hasattr(layer, "kernel_regularizer")]
    decays = [float(layer.kernel_regularizer.l2) for layer in kernels]
    assert decays == pytest.approx([0.5e-4] * len(kernels)) and len(kernels) > 8


@pytest.mark.parametrize(
    "change, message",
    [
        ({"models": ("one",)}, "`models` must name models among single, ensembling"),
        ({"network": "resnet50"}, "`network` must be one of cifar_resnet20"),
        ({"fork_at": "stage9"}, "`fork_at` must be one of stage1, stage2"),
        ({"ensemble_weight": 1.5}, "`ensemble_weight` must be at most 1"),
        ({"distillation_weight": -1.0}, "`distillation_weight` must be at least 0"),
    ],
)
def test_bad_settings_are_named(change, message):
    with pytest.raises(SettingError, match=message):
        SMOKE.with_changes(**change)
