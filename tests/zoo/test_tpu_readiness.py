"""Every training step of the zoo compiles under XLA, with static shapes, to plain HLO.

What XLA's bridge does not know it refuses by name. What it hands to a library of the
CPU is a custom call, which no TPU has. So a step that passes both would run there.
"""

import re

import numpy as np
import pytest
import tensorflow as tf

import ensemble_heads as eh
import zoo
from ensemble_heads.keras_api import keras
from tests.zoo import image_models, s3dg_models, test_fast_rcnn, videos

pytestmark = [pytest.mark.slow, pytest.mark.line("2.21")]

BATCH = 4
RESNET = {
    "blocks": (1, 1),
    "widths": (4, 6),
    "stem_width": 4,
    "input_shape": (32, 32, 3),
    "classes": image_models.CLASSES,
    "weight_decay": 1e-4,
}
IMAGES = {
    **{name: image_models.SMALL[name] for name in image_models.SMALL},
    "cifar_resnet20": RESNET,
    "se_resnet50": {**RESNET, "se_ratio": 0.5},
}


def image_case(name):
    model = zoo.build(name, **{"classes": image_models.CLASSES, **IMAGES[name]})
    y = np.arange(BATCH) % image_models.CLASSES
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=IMAGES[name].get("classifier_activation", "softmax") is None
    )
    return model, image_models.images(model, BATCH), y, loss


def video_case(name):
    padded = {} if "features" in videos.build(name).input else {"frames": 6}
    model = videos.build(name, **padded)
    return model, videos.inputs_of(model), videos.labels(), "binary_crossentropy"


def detector_case(name):
    x, y = test_fast_rcnn.batch(BATCH)
    return test_fast_rcnn.small(), x, y, test_fast_rcnn.LOSS


def clip_case(name):
    model = s3dg_models.build(name)
    shape = s3dg_models.SMALL["input_shape"]
    y = np.arange(BATCH) % s3dg_models.CLASSES
    return model, s3dg_models.clips(shape, BATCH), y, "sparse_categorical_crossentropy"


CASES = {
    **dict.fromkeys(IMAGES, image_case),
    **dict.fromkeys(videos.SMALL, video_case),
    "fast_rcnn_small": detector_case,
    "s3dg": clip_case,
}
# What heads add: losses over them, and several heads in one product.
HEADS = {
    "codistillation": ("separate", eh.losses.CoDistillation(2.0)),
    "stacked": ("stacked", eh.losses.Ensembling(-0.5)),
    "modular": ("separate", eh.losses.Modular(0.7)),
    "multiple_choice": ("separate", eh.losses.MultipleChoice(1)),
}


def hlo_of(model, x, y, loss, **options):
    """The program of a training step; raises where XLA does not know an operation."""
    model.compile(keras.optimizers.SGD(0.1), loss, jit_compile=True, **options)
    model.optimizer.build(model.trainable_variables)
    step = tf.function(lambda *batch: model.train_step(batch), jit_compile=True)
    batch = tf.nest.map_structure(tf.constant, (x, y))
    return step.experimental_get_compiler_ir(*batch)(stage="hlo")


def falls_off(program):
    """Set of what a program asks of the machine's libraries or of its host."""
    calls = re.findall(r'custom_call_target="([^"]*)"', program)
    host = re.findall(r" (outfeed|infeed|send|recv|fft|cholesky)\(", program)
    dynamic = re.findall(r"\[[^\]]*<=\d+", program)  # a size known only when it runs
    return {*calls, *host, *dynamic}


def test_every_family_of_the_zoo_is_tried():
    def base(spec):
        several = isinstance(spec, zoo.MultiHeadSpec)
        return base(spec.base) if several else type(spec).__module__

    tried = {base(zoo.SPECS[name]) for name in CASES}
    assert tried == {base(spec) for spec in zoo.SPECS.values()}


@pytest.mark.parametrize("name", CASES)
def test_a_training_step_needs_nothing_that_a_tpu_lacks(name):
    program = hlo_of(*CASES[name](name))
    assert "f32[" in program
    assert not falls_off(program)


@pytest.mark.parametrize("kind", HEADS)
def test_so_does_one_of_several_heads(kind):
    execution, loss = HEADS[kind]
    single, x, y, base = image_case("cifar_resnet20")
    ensembler = eh.ensemblers.Mean("logits") if kind == "modular" else "mean"
    model = eh.multi_head(
        single, "stage1", ensembler=ensembler, execution=execution, seed=0
    )
    assert not falls_off(hlo_of(model, x, y, base, ensemble_loss=loss))


def on_the_host(x):
    return x + tf.ensure_shape(tf.numpy_function(np.sin, [x], tf.float32), x.shape)


def of_open_size(x):
    return x * tf.reduce_mean(tf.boolean_mask(x, x > 0.5))


@pytest.mark.parametrize("function", [on_the_host, of_open_size])
def test_what_a_tpu_lacks_is_found(function):
    class Strange(keras.layers.Layer):
        def call(self, inputs):
            return function(inputs)

    inputs = keras.Input((3,), BATCH)
    model = keras.Model(inputs, Strange()(keras.layers.Dense(3)(inputs)))
    x = np.ones((BATCH, 3), "float32")
    try:
        found = falls_off(hlo_of(model, x, x, "mse"))
    except (ValueError, tf.errors.OpError) as error:
        found = re.findall("PyFunc|Where", str(error))
        assert found, str(error)
    assert found
