"""DenseNet-BC for CIFAR (Huang et al. 2017, arXiv:1608.06993), single and in modules.

Three blocks of units (batch norm, ReLU, 1x1 convolution to 4 k channels, batch norm,
ReLU, 3x3 convolution to k channels), each of whose outputs is joined to its input;
between two blocks a batch norm, ReLU, a 1x1 convolution that halves the channels, and
a 2x2 average. The first convolution has 2 k channels. Convolutions start from N(0,
sqrt(2 / (kernel area x outputs))), the classifier from PyTorch's uniform distribution
with biases at 0; there is no dropout, as all papers here augment their data. Batch-norm
momentum 0.9 and epsilon 1e-5. The weight decay of 1e-4 is on kernels and gammas, as
elsewhere in this zoo (the papers' code has it on betas and biases too).

The last of a unit's two batch norms folds into the convolution before it. The others
stand before a ReLU and after a concatenation, and cannot be folded.
"""

from dataclasses import dataclass, replace

from ensemble_heads.keras_api import keras
from zoo.batch_norm import BatchNormalization
from zoo.images import ImageSpec, torch_uniform
from zoo.specs import MultiHeadSpec

layers = keras.layers


@dataclass(frozen=True)
class DenseNetSpec(ImageSpec):
    """Shape of one DenseNet-BC; fields of `ImageSpec`, and these.

    The layer that ends block i is called `block<i>`, the average behind it
    `transition<i>`.

    Attributes:
        depth: number of layers with kernels, 6 n + 4 for n units in each of 3 blocks.
        growth: channels that a unit adds, k.
        compression: channels after a transition / before it, theta.
        weight_decay: see `ImageSpec`; the gammas of the batch norms decay as well.
        batch_norm_momentum: share of the moving statistics that one step keeps.
        batch_norm_epsilon: added to the variance.
        batch_norm_synchronized: whether statistics are those of all replicas together.
    """

    depth: int = 100
    growth: int = 12
    compression: float = 0.5
    weight_decay: float = 1e-4
    batch_norm_momentum: float = 0.9
    batch_norm_epsilon: float = 1e-5
    batch_norm_synchronized: bool = False

    def __post_init__(self):
        super().__post_init__()
        self.check_sizes("depth", "growth")
        if self.depth < 10 or (self.depth - 4) % 6:
            self.refuse("depth", "be 6 n + 4 for n units in a block, n >= 1")
        if not 0 < self.compression <= 1:
            self.refuse("compression", "be in (0, 1]")

    def build(self, name):
        inputs = self.images()
        x = self._convolution(inputs, "stem_conv", 2 * self.growth, 3)
        for block in (1, 2, 3):
            for unit in range(1, self.units + 1):
                last = f"block{block}" if unit == self.units else None
                x = self._unit(x, f"block{block}_unit{unit}", last)
            if block < 3:
                x = self._transition(x, f"transition{block}")
        x = self._norm_relu(x, "top")
        x = layers.GlobalAveragePooling2D(name="pool")(x)
        initializers = torch_uniform(x.shape[-1]) | {"bias_initializer": "zeros"}
        return keras.Model(inputs, self.classifier(x, **initializers), name=name)

    @property
    def units(self):
        """Units in a block, n."""
        return (self.depth - 4) // 6

    def _unit(self, x, prefix, name):
        y = self._norm_relu(x, prefix, 1)
        y = self._convolution(y, f"{prefix}_conv1", 4 * self.growth, 1)
        y = self._norm_relu(y, prefix, 2)
        y = self._convolution(y, f"{prefix}_conv2", self.growth, 3)
        return layers.Concatenate(name=name or f"{prefix}_concat")([x, y])

    def _transition(self, x, prefix):
        channels = int(x.shape[-1] * self.compression)
        x = self._norm_relu(x, prefix)
        x = self._convolution(x, f"{prefix}_conv", channels, 1)
        return layers.AveragePooling2D(2, name=prefix)(x)

    def _convolution(self, x, name, filters, kernel):
        return layers.Conv2D(
            filters,
            kernel,
            padding="same",
            use_bias=False,
            kernel_initializer=keras.initializers.VarianceScaling(
                2.0, mode="fan_out", distribution="untruncated_normal"
            ),
            kernel_regularizer=self.decay(),
            name=name,
        )(x)

    def _norm_relu(self, x, prefix, index=""):
        x = BatchNormalization(
            momentum=self.batch_norm_momentum,
            epsilon=self.batch_norm_epsilon,
            synchronized=self.batch_norm_synchronized,
            gamma_regularizer=self.decay(),
            name=f"{prefix}_bn{index}",
        )(x)
        return layers.ReLU(name=f"{prefix}_relu{index}")(x)


_CIFAR_100 = DenseNetSpec(classes=100)
SPECS = {
    f"densenet_bc_{depth}_{growth}": replace(_CIFAR_100, depth=depth, growth=growth)
    for depth, growth in ((190, 40), (100, 12), (82, 8), (64, 6))
}

# Webb et al. 2021, Table 4: DN-100-12-4, DN-82-8-8 and DN-64-6-16, modules that share
# nothing; and Lan et al. 2018 (ONE), Table 1: three branches of the last block.
SPECS |= {
    f"densenet_bc_{key}_{modules}heads": MultiHeadSpec(
        SPECS[f"densenet_bc_{key}"], "images", modules
    )
    for key, modules in (("100_12", 4), ("82_8", 8), ("64_6", 16))
}
SPECS["densenet_bc_190_40_3heads"] = MultiHeadSpec(
    SPECS["densenet_bc_190_40"], "transition2", 3
)
