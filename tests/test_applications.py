"""Every family of `keras.applications`, and keras-cv backbones with a head, convert."""

import numpy as np
import pytest
import tensorflow as tf

import ensemble_heads as eh
from ensemble_heads import forking, graph
from ensemble_heads.keras_api import KERAS_3, keras

pytestmark = [pytest.mark.slow, pytest.mark.line("2.21")]

FAMILIES = {
    "VGG16": "block3_pool",
    "ResNet50": "conv3_block4_out",
    "ResNet50V2": "conv3_block4_out",
    "InceptionV3": "mixed5",
    "InceptionResNetV2": "mixed_6a",
    "Xception": "add_1",
    "MobileNet": "conv_pw_6_relu",
    "MobileNetV2": "block_5_add",
    "MobileNetV3Small": None,
    "DenseNet121": "pool3_pool",
    "NASNetMobile": "stem_bn1",
    "EfficientNetB0": "block4a_project_bn",
    "EfficientNetV2B0": "block4a_project_bn",
    "ConvNeXtTiny": None,
}
if not KERAS_3:  # Keras 3 dropped these
    FAMILIES |= {"RegNetX002": None, "RegNetY002": None, "ResNetRS50": None}


def middle(model):
    """The possible place to fork that is nearest to the middle of a model."""
    whole = graph.read(model)
    names = [node.name for node in whole.nodes]
    before, _ = forking.nearest_forks(whole, names[len(names) // 2])
    return before


def check_conversion(single, fork_at):
    """Narrow heads of the right size, and exact ones from the single's weights."""
    images = np.random.default_rng(0).normal(size=(2, *single.input_shape[1:]))
    images = images.astype("float32")
    exact = eh.multi_head(single, fork_at, num_heads=1, copy_weights=True)
    np.testing.assert_allclose(exact(images), single(images), rtol=1e-3, atol=1e-5)
    narrow = eh.multi_head(single, fork_at, 1, width_multiplier=0.5, copy_weights=True)
    prediction = narrow(images)
    assert tuple(prediction.shape) == (2, *single.output_shape[1:])
    assert np.isfinite(prediction).all()
    ratio = narrow.heads[0].count_params() / exact.heads[0].count_params()
    # kernels inside shrink to a quarter, those next to the trunk or the classes to half
    assert 0.2 < ratio < 0.65


@pytest.mark.parametrize("name", FAMILIES)
def test_family_of_applications(name):
    size = 96 if name in ("InceptionResNetV2", "InceptionV3", "Xception") else 64
    single = getattr(keras.applications, name)(
        weights=None, input_shape=(size, size, 3), classes=10
    )
    fork_at = FAMILIES[name] or middle(single)
    if name == "Xception":
        fork_at = middle(single)  # its additions are numbered through the process
    check_conversion(single, fork_at)


def backbones():
    """{name: callable that builds a keras-cv backbone without loading a preset}."""
    models = pytest.importorskip("keras_cv").models
    image = {"input_shape": (64, 64, 3), "include_rescaling": True}
    resnet = {
        "stackwise_filters": [64, 128],
        "stackwise_blocks": [2, 2],
        "stackwise_strides": [1, 2],
    }
    return {
        "resnet": lambda: models.ResNetBackbone(
            **resnet, block_type="basic_block", **image
        ),
        "resnet_v2": lambda: models.ResNetV2Backbone(
            **resnet, block_type="block", **image
        ),
        "densenet": lambda: models.DenseNetBackbone(
            stackwise_num_repeats=[2, 4, 4], **image
        ),
        "mobilenet_v3": lambda: models.MobileNetV3Backbone(
            stackwise_expansion=[1, 4, 6, 6, 6],
            stackwise_filters=[16, 24, 40, 40, 48],
            stackwise_kernel_size=[3, 3, 5, 5, 5],
            stackwise_stride=[2, 2, 2, 1, 1],
            stackwise_se_ratio=[0.25, None, 0.25, 0.25, 0.25],
            stackwise_activation=["relu", "relu", *["hard_swish"] * 3],
            **image,
        ),
    }


@pytest.mark.parametrize("name", ["resnet", "resnet_v2", "densenet", "mobilenet_v3"])
def test_keras_cv_backbone_with_a_head(name):
    backbone = backbones()[name]()
    x = keras.layers.GlobalAveragePooling2D()(backbone.output)
    outputs = keras.layers.Dense(5, activation="softmax")(x)
    single = keras.Model(backbone.input, outputs, name="single")
    check_conversion(single, middle(single))


def test_keras_cv_classifier_with_a_nested_backbone():
    backbone = backbones()["resnet"]()
    models = pytest.importorskip("keras_cv").models
    single = models.ImageClassifier(backbone=backbone, num_classes=5)
    check_conversion(single, middle(single))


@pytest.mark.parametrize("depthwise", [False, True])
def test_keras_cv_blocks_that_hold_their_own_layers(depthwise):
    models = pytest.importorskip("keras_cv").models
    backbone = models.CSPDarkNetBackbone(
        stackwise_channels=[16, 32, 64],
        stackwise_depth=[1, 1, 1],
        use_depthwise=depthwise,
        input_shape=(64, 64, 3),
        include_rescaling=True,
    )
    x = keras.layers.GlobalAveragePooling2D()(backbone.output)
    single = keras.Model(backbone.input, keras.layers.Dense(5)(x), name="single")
    model = eh.multi_head(single, middle(single), width_multiplier=0.5)
    assert model(tf.zeros((2, 64, 64, 3))).shape == (2, 5)
    with pytest.raises(ValueError, match=r"not known how the weights.*CrossStageParti"):
        eh.multi_head(single, middle(single), width_multiplier=0.5, copy_weights=True)
