"""CaffeNet, Caffe's variant of AlexNet (the pooling comes before the normalisation).

Sizes, groups, initial weights and dropout are those of Caffe's reference prototxt; the
layers carry its names. Lee et al. 2015 ("Why M heads are better than one") train it as
ILSVRC-Alex, on crops of 227 x 227. They print no size.
"""

from dataclasses import dataclass

from ensemble_heads.keras_api import keras
from zoo.caffe_layers import convolution, pool
from zoo.images import ImageSpec
from zoo.local_response import LocalResponseNormalization
from zoo.specs import MultiHeadSpec

layers = keras.layers


@dataclass(frozen=True)
class CaffeNetSpec(ImageSpec):
    """Shape of CaffeNet; fields of `ImageSpec`, and these.

    Its layers in order: `conv1`, `pool1`, `norm1`, `conv2`, `pool2`, `norm2`, `conv3`,
    `conv4`, `conv5`, `pool5`, `flatten`, `fc6`, `drop6`, `fc7`, `drop7`, `fc8`.

    Attributes:
        filters: channels of the five convolutions.
        hidden: units of `fc6` and `fc7`.
        groups: groups of `conv2`, `conv4` and `conv5`.
        dropout: share that `drop6` and `drop7` drop.
        weight_decay: see `ImageSpec`; the biases do not decay.
    """

    filters: tuple[int, ...] = (96, 256, 384, 384, 256)
    hidden: tuple[int, ...] = (4096, 4096)
    groups: int = 2
    dropout: float = 0.5
    input_shape: tuple[int, ...] = (227, 227, 3)
    classes: int = 1000
    weight_decay: float = 5e-4

    def __post_init__(self):
        super().__post_init__()
        self.check_tuples_of_sizes("filters", "hidden")
        self.check_sizes("groups")
        self.check_shares("dropout")
        if len(self.filters) != 5:
            self.refuse("filters", "have one entry per convolution, 5")
        if len(self.hidden) != 2:
            self.refuse("hidden", "have one entry per dense layer, 2")
        if any(size % self.groups for size in self.filters):
            self.refuse("groups", f"divide the filters {self.filters}")

    def build(self, name):
        inputs = self.images()
        x = pool(self.features(inputs), "max", "pool5")
        x = layers.Flatten(name="flatten")(x)
        for number, units in enumerate(self.hidden, start=6):
            x = layers.Dense(
                units,
                activation="relu",
                kernel_initializer=keras.initializers.RandomNormal(stddev=0.005),
                bias_initializer=keras.initializers.Constant(1.0),
                kernel_regularizer=self.decay(),
                name=f"fc{number}",
            )(x)
            x = layers.Dropout(self.dropout, name=f"drop{number}")(x)
        initializer = keras.initializers.RandomNormal(stddev=0.01)
        outputs = self.classifier(x, name="fc8", kernel_initializer=initializer)
        return keras.Model(inputs, outputs, name=name)

    def features(self, images):
        """The feature map of `conv5`, `[batch, height, width, channels]`."""
        x = convolution(
            images, self, "conv1", self.filters[0], 11, 0.01, strides=4, padding="valid"
        )
        x = pool(x, "max", "pool1")
        x = LocalResponseNormalization(name="norm1")(x)
        x = self._convolution(x, 2, 5, self.groups, bias=1)
        x = pool(x, "max", "pool2")
        x = LocalResponseNormalization(name="norm2")(x)
        x = self._convolution(x, 3, 3, 1, bias=0)
        x = self._convolution(x, 4, 3, self.groups, bias=1)
        return self._convolution(x, 5, 3, self.groups, bias=1)

    def _convolution(self, x, number, kernel, groups, bias):
        return convolution(
            x,
            self,
            f"conv{number}",
            self.filters[number - 1],
            kernel,
            0.01,
            groups=groups,
            bias_initializer=keras.initializers.Constant(float(bias)),
        )


SPECS = {"caffenet": CaffeNetSpec()}

# Lee et al. 2015, Table 2: ILSVRC-Alex x 5 is best when split at conv1. Pooling and
# normalisation have no weights, so that forking behind them is the same model.
SPECS["caffenet_5heads"] = MultiHeadSpec(SPECS["caffenet"], "norm1", 5)
