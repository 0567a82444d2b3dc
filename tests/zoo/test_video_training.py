"""Models of videos train: in 16 bits, compiled by XLA, and to the right answers."""

import numpy as np
import pytest

import ensemble_heads as eh
import zoo
from ensemble_heads.keras_api import keras
from tests.zoo import videos

pytestmark = [pytest.mark.slow, pytest.mark.line("2.15")]

ALL = list(videos.SMALL)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("name", ALL)
def test_mixed_precision(name, policy):
    full = videos.build(name)
    keras.mixed_precision.set_global_policy(policy)
    try:
        model = videos.build(name)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    model.set_weights(full.get_weights())
    inputs = videos.inputs_of(model)
    output = model(inputs)
    assert output.dtype == "float32"
    tolerance = 0.02 if policy == "mixed_float16" else 0.1
    np.testing.assert_allclose(output, full(inputs), atol=tolerance)
    if policy == "mixed_bfloat16":
        return
    model.compile("adam", "binary_crossentropy")
    losses = model.fit(inputs, videos.labels(), verbose=0, epochs=2).history["loss"]
    assert np.isfinite(losses).all()
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


@pytest.mark.parametrize("name, fork", [("dbof", "input_bn"), ("nextvlad", "vlad")])
def test_compiled_step_is_the_plain_one(name, fork):
    """XLA, with static sizes, of a whole training step of two heads."""
    # Dropout draws otherwise in a compiled step.
    changes = {"dropout": 0.0} if name == "nextvlad" else {}
    single = videos.build(name, frames=6, **changes)
    model = eh.multi_head(single, fork, 2, width_multiplier=0.5, seed=1)
    weights, inputs, steps = model.get_weights(), videos.inputs_of(model), []
    for compiled in (False, True):
        model.set_weights(weights)
        model.compile(
            keras.optimizers.SGD(0.1),
            "binary_crossentropy",
            ensemble_loss=eh.losses.CoDistillation(2.0),
            jit_compile=compiled,
        )
        history = model.fit(
            inputs, videos.labels(), batch_size=4, shuffle=False, verbose=0
        )
        steps.append([history.history["loss"], *model.get_weights()])
    for plain, compiled in zip(*steps, strict=True):
        np.testing.assert_allclose(compiled, plain, rtol=2e-3, atol=2e-5)


@pytest.mark.parametrize("name", ["dbof", "nextvlad", "youtube8m_moe"])
def test_learns(name):
    """Four videos by heart."""
    changes = {} if name.startswith("youtube8m") else {"batch_norm_momentum": 0.5}
    model = zoo.build(name, **{**videos.SMALL[name], **changes})
    model.compile(keras.optimizers.Adam(0.05), "binary_crossentropy")
    inputs, target = videos.inputs_of(model), videos.labels()
    model.fit(inputs, target, epochs=40, verbose=0)
    right = np.mean((model.predict(inputs, verbose=0) > 0.5) == target)
    assert right > 0.95
