"""The library takes the other papers' models of images: surgery and folding."""

import numpy as np
import pytest

import ensemble_heads as eh
from tests.narrowing_checks import kill_half_of_the_channels
from tests.zoo.image_models import CLASSES, build, images, scatter

FORKS = [
    ("cifar10_quick", "images"),
    ("cifar10_quick", "relu1"),
    ("cifar10_quick", "pool2"),
    ("nin_cifar", "images"),
    ("nin_cifar", "cccp1"),
    ("nin_cifar", "drop1"),
    ("nin_imagenet", "conv2"),
    ("nin_imagenet", "cccp3"),
    ("caffenet", "images"),
    ("caffenet", "norm1"),
    ("caffenet", "conv3"),
    ("mlp_1m_1024h", "images"),
    ("mlp_1m_1024h", "flatten"),
    ("small_cnn", "images"),
    ("small_cnn", "conv2"),
    ("densenet_bc_100_12", "images"),
    ("densenet_bc_100_12", "block1_unit1_concat"),
    ("densenet_bc_100_12", "transition2"),
    ("resnext29_8x64d", "images"),
    ("resnext29_8x64d", "stage2"),
]


@pytest.mark.shared_out
@pytest.mark.parametrize("name, fork", FORKS)
def test_converts(name, fork):
    single = build(name)
    x = images(single)
    same = eh.multi_head(single, fork, 2, copy_weights=True)
    np.testing.assert_allclose(same(x), single(x), rtol=1e-3, atol=1e-5)
    half = eh.multi_head(single, fork, 2, width_multiplier=0.5, seed=1)
    assert half.count_params() < same.count_params()
    first, second = (head.get_weights() for head in half.heads)
    assert any(np.abs(one - other).max() > 0 for one, other in zip(first, second))
    # As Caffe draws them, the predictions of two networks differ by nothing.
    for seed, head in enumerate(half.heads):
        scatter(head, seed)
    heads = half.head_predictions(x)
    assert heads.shape == (len(x), 2, CLASSES)
    assert np.abs(heads[:, 0] - heads[:, 1]).max() > 1e-3
    for index in range(2):
        np.testing.assert_allclose(half.head(index)(x), heads[:, index], rtol=1e-4)
    np.testing.assert_allclose(half(x), np.mean(heads, axis=1), rtol=1e-4)


# Not CaffeNet from below `norm2`: other channels are neighbours in narrow heads.
@pytest.mark.shared_out
@pytest.mark.parametrize(
    "name, fork",
    [
        ("cifar10_quick", "images"),
        ("nin_cifar", "cccp1"),
        ("nin_imagenet", "images"),
        ("caffenet", "norm2"),
        ("mlp_1m_1024h", "flatten"),
        ("small_cnn", "images"),
        ("densenet_bc_100_12", "images"),
        ("densenet_bc_100_12", "transition1"),
        ("resnext29_8x64d", "stage1"),
    ],
)
def test_narrow_heads_keep_the_same_channels_everywhere(name, fork):
    single = build(name, classifier_activation=None)
    kill_half_of_the_channels(single, fork)
    x = images(single)
    expected = np.array(single(x))
    model = eh.multi_head(single, fork, 2, width_multiplier=0.5, copy_weights=True)
    assert model.count_params() < 2 * single.count_params()
    for index in range(2):
        head = model.head(index)(x)
        scale = np.abs(expected).max()
        np.testing.assert_allclose(head, expected, rtol=1e-3, atol=1e-4 * scale)


@pytest.mark.shared_out
@pytest.mark.parametrize(
    "name, fork",
    [
        ("cifar10_quick", "relu1"),
        ("nin_cifar", "cccp2"),
        ("caffenet", "norm1"),
        ("mlp_1m_1024h", "flatten"),
        ("small_cnn", "conv1"),
        ("densenet_bc_100_12", "transition1"),
        ("resnext29_8x64d", "stage1"),
    ],
)
def test_auto_width(name, fork):
    single = build(name)
    model = eh.multi_head(single, fork, 2, width_multiplier="auto", divisor=1)
    assert 0.2 < model.width_multiplier < 1
    budget, cost = eh.profile(single), eh.profile(model)
    assert cost.parameters <= budget.parameters and cost.flops <= budget.flops


@pytest.mark.parametrize("name", ["densenet_bc_100_12", "resnext29_8x64d"])
def test_folds(name):
    """Of DenseNet stay the batch norms between a concatenation and a ReLU."""
    model = build(name)
    folded = eh.fold_batch_norm(model)
    x = images(model)
    np.testing.assert_allclose(folded(x), model(x), rtol=1e-3, atol=1e-5)
    left = {found.name for found in eh.profile(model).unfolded_batch_norms}
    if name == "resnext29_8x64d":
        assert not left
        return
    units = [f"block{b}_unit{u}_bn1" for b in (1, 2, 3) for u in (1, 2)]
    expected = {*units, "transition1_bn", "transition2_bn", "top_bn"}
    # The very first one stands behind the first convolution alone, which a
    # concatenation takes as well.
    assert left == expected
