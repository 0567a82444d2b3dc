"""CIFAR10-Quick, the small network of Caffe's examples.

Three convolutions of 5x5, each followed by a pooling, and two dense layers between
which there is nothing. Layers carry the names of Caffe's prototxt; it has no
normalisation of local responses and no dropout (its bigger sibling has the former).
The first ReLU comes after its pooling, as there. The sizes of Lee et al. 2015 ("Why M
heads are better than one") are not printed; the count here is that of the prototxt.
"""

from dataclasses import dataclass

from ensemble_heads.keras_api import keras
from zoo.caffe_layers import convolution, pool
from zoo.images import ImageSpec
from zoo.specs import MultiHeadSpec

layers = keras.layers


@dataclass(frozen=True)
class CIFAR10QuickSpec(ImageSpec):
    """Shape of CIFAR10-Quick; fields of `ImageSpec`, and these.

    Its layers in order: `conv1`, `pool1`, `relu1`, `conv2`, `pool2`, `conv3`, `pool3`,
    `flatten`, `ip1`, `ip2`.

    Attributes:
        filters: channels of the three convolutions.
        hidden: units of `ip1`.
        weight_decay: see `ImageSpec`; here the biases decay as well.
    """

    filters: tuple[int, ...] = (32, 32, 64)
    hidden: int = 64
    weight_decay: float = 0.004

    def __post_init__(self):
        super().__post_init__()
        self.check_tuples_of_sizes("filters")
        self.check_sizes("hidden")
        if len(self.filters) != 3:
            self.refuse("filters", "have one entry per convolution, 3")

    def build(self, name):
        inputs, bias = self.images(), {"bias_regularizer": self.decay()}
        options = {"kernel": 5, **bias}
        first, second, third = self.filters
        x = convolution(
            inputs, self, "conv1", first, stddev=1e-4, activation=None, **options
        )
        x = layers.ReLU(name="relu1")(pool(x, "max", "pool1"))
        x = convolution(x, self, "conv2", second, stddev=0.01, **options)
        x = pool(x, "average", "pool2")
        x = convolution(x, self, "conv3", third, stddev=0.01, **options)
        x = pool(x, "average", "pool3")
        x = layers.Flatten(name="flatten")(x)
        x = layers.Dense(
            self.hidden,
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.1),
            kernel_regularizer=self.decay(),
            name="ip1",
            **bias,
        )(x)
        initializer = keras.initializers.RandomNormal(stddev=0.1)
        outputs = self.classifier(x, name="ip2", kernel_initializer=initializer, **bias)
        return keras.Model(inputs, outputs, name=name)


SPECS = {"cifar10_quick": CIFAR10QuickSpec()}

# Lee et al. 2015, appendix E: the example of a TreeNet, three members split at pool2.
# Their ensembles of four (Tables 1, 3 to 5) share nothing.
SPECS |= {
    "cifar10_quick_3heads": MultiHeadSpec(SPECS["cifar10_quick"], "pool2", 3),
    "cifar10_quick_4heads": MultiHeadSpec(SPECS["cifar10_quick"], "images", 4),
}
