"""Trees: sizes per branch, widths and draws of every part, and bad structures."""

import itertools

import numpy as np
import numpy.testing as npt
import pytest

import ensemble_heads as eh
import zoo
from ensemble_heads.head_layouts import HeadTree
from ensemble_heads.keras_api import keras
from tests.folding_checks import randomise
from tests.narrowing_checks import kill_half_of_the_channels
from tests.profile_checks import rows
from tests.tree_models import TREES, convolutional, costs, images, parts, tree

layers = keras.layers


# ---- What they weigh


def test_parameters_of_cifar10_quick_are_counted_per_branch():
    model = zoo.build("cifar10_quick_3heads", fork_at=["pool1", "pool2"], num_heads=2)
    conv1, conv2 = 5 * 5 * 3 * 32 + 32, 5 * 5 * 32 * 32 + 32
    leaf = (5 * 5 * 32 * 64 + 64) + (4 * 4 * 64 * 64 + 64) + (64 * 10 + 10)
    leaves = {f"branch_{i}.{j}": leaf for i in (0, 1) for j in (0, 1)}
    middle = {"branch_0": conv2, "branch_1": conv2}
    expected = {"trunk": conv1, **middle, **leaves, "(other)": 0}
    assert costs(model) == expected
    assert eh.profile(model).parameters == conv1 + 2 * conv2 + 4 * leaf


def test_parameters_of_a_residual_network_are_counted_per_branch():
    single = zoo.build("cifar_resnet32", blocks=(1, 1, 1), classes=10)
    model = eh.multi_head(single, ["stage1", ["stage2", None]], width_multiplier=0.5)

    def conv(size, inputs, outputs):  # folded: with a bias
        return size * size * inputs * outputs + outputs

    def unit(inputs, outputs):
        return conv(3, inputs, outputs) + conv(3, outputs, outputs)

    trunk = conv(3, 3, 16) + unit(16, 16)
    stage2 = unit(16, 16) + conv(1, 16, 16)  # at half of its 32 channels
    stage3 = unit(16, 32) + conv(1, 16, 32) + (32 * 10 + 10)
    assert costs(model) == {
        "trunk": trunk,
        "branch_0": stage2,
        "branch_0.0": stage3,
        "branch_0.1": stage3,
        "branch_1": stage2 + stage3,
        "(other)": 0,
    }


def test_shared_parts_are_run_once():
    table = rows(eh.profile(tree(["stage1", "stage2"], num_heads=[1, 3])))
    once = 6 * 6 * 6 * (2 * 9 * 4 + 1)  # of conv2 for all three heads
    assert [v[1] for k, v in table.items() if k.endswith("/conv2")] == [once]


# ---- Widths and draws


def test_every_part_is_narrowed_to_fit_the_next():
    model = tree(["stage1", "stage2", "stage3"], width_multiplier=0.5)
    found = parts(model)
    assert found["trunk"].get_layer("conv1").filters == 4
    assert found["branch_1"].get_layer("conv2").filters == 3
    assert found["branch_1"].get_layer("project").filters == 3
    assert found["branch_1.0"].get_layer("conv3").filters == 4
    assert found["branch_1.0.1"].get_layer("out").units == 5
    changes = {"conv3": {"filters": 7}, "conv2": {"use_bias": False}}
    found = parts(tree(width_multiplier=0.5, overrides=changes))
    for name in ("branch_0.0", "branch_0.1", "branch_1"):
        assert found[name].get_layer("conv3").kernel.shape == (3, 3, 3, 7)
    assert not found["branch_0"].get_layer("conv2").use_bias


@pytest.mark.parametrize("fork_at", [TREES[n][0] for n in ("binary", "nested")])
def test_auto_is_the_widest_tree_within_the_budget(fork_at):
    single = zoo.build("cifar10_quick", input_shape=(16, 16, 3))
    names = {"stage1": "conv1", "stage2": "conv2", "stage3": "ip1"}

    def renamed(item):
        if isinstance(item, list):
            return [renamed(one) for one in item]
        return names.get(item)

    budget = eh.profile(single)
    model = eh.multi_head(single, renamed(fork_at), 2, "auto", divisor=1)
    wider = eh.multi_head(
        single, renamed(fork_at), 2, model.width_multiplier + 1 / 32, divisor=1
    )
    fits = [
        cost.parameters <= budget.parameters and cost.flops <= budget.flops
        for cost in (eh.profile(model), eh.profile(wider))
    ]
    assert fits == [True, False] and 0.2 < model.width_multiplier < 1


def test_copied_weights_are_those_of_the_single_model():
    single, x = randomise(convolutional()), images()
    for fork_at, _ in TREES.values():
        model = eh.multi_head(single, fork_at, copy_weights=True)
        npt.assert_allclose(model(x), single(x), rtol=1e-4, atol=1e-6)
    kill_half_of_the_channels(single, "stage1")
    half = eh.multi_head(
        single, ["stage1", "stage2"], width_multiplier=0.5, copy_weights=True
    )
    npt.assert_allclose(half(x), single(x), rtol=1e-3, atol=1e-5)


def test_every_branch_has_draws_of_its_own_that_its_place_decides():
    one, same, other = tree(seed=1), tree(seed=1), tree(seed=2)
    for mine, again in zip(one.get_weights(), same.get_weights(), strict=True):
        npt.assert_array_equal(mine, again)
    found = parts(one)
    kernels = [
        found[name].get_layer("conv3").get_weights()[0]
        for name in ("branch_0.0", "branch_0.1", "branch_1")
    ]
    kernels.append(parts(other)["branch_0.0"].get_layer("conv3").get_weights()[0])
    for a, b in itertools.combinations(kernels, 2):
        assert np.abs(a - b).max() > 0.01
    # A tree with more branches beside it leaves a branch as it was.
    more = parts(tree(["stage1", ["stage2", None, "stage2"]], num_heads=3, seed=1))
    for name in ("branch_0", "branch_0.1", "branch_1"):
        pairs = zip(found[name].get_weights(), more[name].get_weights(), strict=True)
        for weight, same_weight in pairs:
            npt.assert_array_equal(weight, same_weight)


# ---- Errors


@pytest.mark.parametrize(
    ("fork_at", "num_heads", "message"),
    [
        ([], 2, r"`fork_at` must be a layer or its name, or a list.*fork_at=\[\]"),
        (["stage1", ["stage2"]], 2, r"(?s)each of the 2 branches.*\['stage2'\] in fo"),
        (["stage1", ["stage2", ["stage3"]]], 2, "one entry for each of the 2 branches"),
        (["stage1", [None, None]], 2, "at least one branch fork at every level"),
        (["stage1", None], 2, "at least one branch fork at every level"),
        (["stage1", "stage2"], [2], r"one for each of the 2 levels.*num_heads=\[2\]"),
        (["stage1", "stage2"], [2, 0], "`num_heads` must be an integer of at least 1"),
        ("stage1", [2, 2], "one for each of the 1 levels"),
        (["stage1", "stage1"], 2, "must not fork twice at one layer.*`stage1`"),
        (["stage2", "stage1"], 2, "(?s)nor below an earlier.*come after `stage2`"),
        (["stage1", ["stage2", "stag3"]], 2, "(?s)after `stage1`.*`stage3`.*'stag3'"),
        (["stage1", "norm2"], 2, r"(?s)skip connection.*behind `norm2`.*Fork at `add`"),
        (["stage1", "out"], 2, "nothing depends on the output of `out`"),
    ],
)
def test_bad_trees(fork_at, num_heads, message):
    with pytest.raises(ValueError, match=message):
        eh.multi_head(convolutional(), fork_at, num_heads)


def test_bad_layouts():
    some = [layers.Dense(2), layers.Dense(2)]
    with pytest.raises(ValueError, match=r"`parents` must give.*parents=\[1, None\]"):
        HeadTree(some, [1, None])
    with pytest.raises(ValueError, match=r"`leaves` must be.*leaves=\[0\]"):
        HeadTree(some, [None, None], [0])
