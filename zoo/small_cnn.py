"""The small convolutional network of "Joint training of neural network ensembles".

Webb et al. 2021, section 4.2 and Table 3, on CIFAR-10: 3x3 convolutions with ReLU and
without padding or batch norm, the mean over the image, and one dense layer. As in their
code weights and biases start from PyTorch's uniform distribution, and nothing decays.
The paper's ensemble averages the logits of ten such modules, which share nothing: pass
`ensembler=eh.ensemblers.Mean("logits")` to `build`.
"""

from dataclasses import dataclass

from ensemble_heads.keras_api import keras
from zoo.images import ImageSpec, torch_uniform
from zoo.specs import MultiHeadSpec

layers = keras.layers


@dataclass(frozen=True)
class SmallCNNSpec(ImageSpec):
    """Shape of the small network; fields of `ImageSpec`, and these.

    Its layers in order: `conv1` and so on, `pool`, `classifier`.

    Attributes:
        filters: channels of each convolution.
        strides: of each convolution.
    """

    filters: tuple[int, ...] = (32, 64, 64, 128, 128)
    strides: tuple[int, ...] = (1, 2, 1, 2, 1)

    def __post_init__(self):
        super().__post_init__()
        self.check_tuples_of_sizes("filters", "strides")
        if len(self.filters) != len(self.strides):
            self.refuse(
                "strides", f"have one entry per convolution, {len(self.filters)}"
            )

    def build(self, name):
        x = inputs = self.images()
        plan = zip(self.filters, self.strides, strict=True)
        for index, (filters, stride) in enumerate(plan, start=1):
            x = layers.Conv2D(
                filters,
                3,
                strides=stride,
                activation="relu",
                kernel_regularizer=self.decay(),
                name=f"conv{index}",
                **torch_uniform(9 * x.shape[-1]),
            )(x)
        x = layers.GlobalAveragePooling2D(name="pool")(x)
        outputs = self.classifier(x, **torch_uniform(x.shape[-1]))
        return keras.Model(inputs, outputs, name=name)


SPECS = {"small_cnn": SmallCNNSpec()}

# Webb et al. 2021, section 4.2: ten modules, about 2.8 M parameters.
SPECS["small_cnn_10heads"] = MultiHeadSpec(SPECS["small_cnn"], "images", 10)
