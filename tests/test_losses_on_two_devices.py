"""Losses that know more than predictions, trees and stacks, on two devices."""

import pytest

from tests import two_device_training

pytestmark = [pytest.mark.slow, pytest.mark.line("2.15")]

SETTINGS = [
    "codistillation",
    "modular",
    "multiple_choice",
    "bagging",
    "on_the_fly",
    "distillation",
    "mixture_of_experts",
    "tree",
    "stacked",
]


@pytest.fixture(scope="module")
def results(run_on_two_devices):
    return run_on_two_devices(two_device_training.SOURCE, *SETTINGS, timeout=600)


@pytest.mark.parametrize("setting", SETTINGS)
def test_two_devices_equal_one(results, setting):
    assert results[setting]["moved"] > 1e-3
    two_device_training.assert_equal(results[setting], 2e-6)
