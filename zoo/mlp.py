"""The multi-layer perceptrons of "Joint training of neural network ensembles".

Webb et al. 2021, section 4.1, on Fashion-MNIST: one hidden layer with ReLU, as a single
network of 1024 units or as 16, 64 or 256 modules of fewer, about 815 K parameters each.
As in their code weights and biases start from PyTorch's uniform distribution, and
nothing decays. Modules share nothing but the flattening of the image. The paper's
ensemble averages the logits: pass `ensembler=eh.ensemblers.Mean("logits")` to `build`.
"""

from dataclasses import dataclass, replace

from ensemble_heads.keras_api import keras
from zoo.images import ImageSpec, torch_uniform
from zoo.specs import MultiHeadSpec

layers = keras.layers


@dataclass(frozen=True)
class MLPSpec(ImageSpec):
    """Shape of one perceptron; fields of `ImageSpec`, and these.

    Its layers in order: `flatten`, `hidden1` and so on, `classifier`.

    Attributes:
        hidden: units of each hidden layer.
    """

    hidden: tuple[int, ...] = (1024,)
    input_shape: tuple[int, ...] = (28, 28, 1)

    def __post_init__(self):
        super().__post_init__()
        self.check_tuples_of_sizes("hidden")

    def build(self, name):
        inputs = self.images()
        x = layers.Flatten(name="flatten")(inputs)
        for index, units in enumerate(self.hidden, start=1):
            x = layers.Dense(
                units,
                activation="relu",
                kernel_regularizer=self.decay(),
                name=f"hidden{index}",
                **torch_uniform(x.shape[-1]),
            )(x)
        outputs = self.classifier(x, **torch_uniform(x.shape[-1]))
        return keras.Model(inputs, outputs, name=name)


SPECS = {"mlp_1m_1024h": MLPSpec()}

# Webb et al. 2021, section 4.1 and Table 2: 16-M-64-H, 64-M-16-H and 256-M-4-H.
SPECS |= {
    f"mlp_{modules}m_{units}h": MultiHeadSpec(
        replace(SPECS["mlp_1m_1024h"], hidden=(units,)), "flatten", modules
    )
    for modules, units in ((16, 64), (64, 16), (256, 4))
}
