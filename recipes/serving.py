"""An exported model, loaded back and tried against the live one."""

import dataclasses

import numpy as np
import tensorflow as tf

TOLERANCE = 1e-5


@dataclasses.dataclass(frozen=True)
class Trial:
    """What came of serving a classifier.

    Attributes:
        examples: int, how many were served.
        accuracy: float in [0, 1].
        largest_difference: float, between any two probabilities, served and live.
    """

    examples: int
    accuracy: float
    largest_difference: float


def compare_with_live(path, model, dataset, examples):
    """Loads a SavedModel and serves a whole data set with it.

    Args:
        path: str, the SavedModel; one input and one output.
        model: the live `keras.Model` that it was exported from.
        dataset: `tf.data.Dataset` of `(inputs, labels)`.
        examples: int, how many it must hold.

    Returns:
        A `Trial`.

    Raises:
        RuntimeError: a prediction differs by more than 1e-5, or the data set held
            another number of examples.
    """
    loaded = tf.saved_model.load(path)
    serve = loaded.signatures["serving_default"]
    (name,) = serve.structured_input_signature[1]
    (output,) = serve.structured_outputs
    served = right = 0
    difference = 0.0
    for inputs, labels in dataset:
        answer = serve(**{name: inputs})[output].numpy()
        live = model(inputs, training=False).numpy()
        difference = max(difference, float(np.abs(answer - live).max()))
        right += int((answer.argmax(-1) == labels.numpy()).sum())
        served += len(answer)
    if served != examples:
        raise RuntimeError(f"Served {served} examples of {examples}")
    if not difference <= TOLERANCE:
        raise RuntimeError(
            f"The exported model in {path} must predict what the live one does, but "
            f"differs by up to {difference}"
        )
    return Trial(served, right / served, difference)
