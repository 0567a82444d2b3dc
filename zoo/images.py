"""What classifiers of images have in common: fields, weight decay, and the output."""

from dataclasses import dataclass
from typing import Any

from ensemble_heads.keras_api import keras
from zoo.precision import output_dtype
from zoo.specs import ModelSpec

layers = keras.layers


@dataclass(frozen=True)
class ImageSpec(ModelSpec):
    """A classifier of images of one size.

    Attributes:
        input_shape: `(height, width, channels)` of one image.
        classes: number of classes.
        classifier_activation: of the output; None gives logits.
        weight_decay: c adds c / 2 * sum(w^2) over the kernels, and over what else the
            family names, to the loss, so that the gradient gains c * w.

    Raises:
        ValueError: a value that its field does not allow.
    """

    input_shape: tuple[int, ...] = (32, 32, 3)
    classes: int = 10
    classifier_activation: Any = "softmax"
    weight_decay: float = 0.0

    def __post_init__(self):
        self.normalise_tuples("input_shape")
        self.check_sizes("classes")
        self.check_input_shape((3,), "be (height, width, channels)")
        if self.weight_decay < 0:
            self.refuse("weight_decay", "not be negative")

    def check_input_shape(self, ranks, rule):
        """Refuses what is not so many positive integers; `rule` says what they are."""
        whole = all(isinstance(size, int) and size > 0 for size in self.input_shape)
        if len(self.input_shape) not in ranks or not whole:
            self.refuse("input_shape", rule)

    def check_shares(self, *keys):
        """Refuses what is not in [0, 1), for dropout."""
        for key in keys:
            if not 0 <= getattr(self, key) < 1:
                self.refuse(key, "be in [0, 1)")

    def check_tuples_of_sizes(self, *keys):
        """Makes tuples of these fields, and refuses what are no positive integers."""
        self.normalise_tuples(*keys)
        for key in keys:
            sizes = getattr(self, key)
            if not sizes or not all(isinstance(n, int) and n > 0 for n in sizes):
                self.refuse(key, "hold positive integers")

    def images(self):
        """The input of the model."""
        return keras.Input(self.input_shape, name="images")

    def decay(self):
        """The regulariser of one weight, or None."""
        if not self.weight_decay:
            return None
        return keras.regularizers.L2(self.weight_decay / 2)

    def classifier(self, x, **options):
        """A dense layer `classifier` on features `[batch, features]`."""
        return layers.Dense(
            self.classes,
            activation=self.classifier_activation,
            kernel_regularizer=self.decay(),
            dtype=output_dtype(),
            **{"name": "classifier", **options},
        )(x)


def torch_uniform(inputs):
    """PyTorch's own initial weights: uniform, within 1 / sqrt(inputs of a unit).

    Args:
        inputs: int, inputs of one unit, of which the bias cannot know.

    Returns:
        Dict of the initialisers of kernel and bias, as layers take them.
    """
    limit = inputs**-0.5
    return {
        "kernel_initializer": keras.initializers.VarianceScaling(
            1 / 3, mode="fan_in", distribution="uniform"
        ),
        "bias_initializer": keras.initializers.RandomUniform(-limit, limit),
    }
