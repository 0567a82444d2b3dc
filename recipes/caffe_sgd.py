"""Gradient descent as Caffe's examples set it up."""

from ensemble_heads.keras_api import keras


@keras.saving.register_keras_serializable(package="recipes")
class CaffeSGD(keras.optimizers.SGD):
    """SGD that moves biases faster than kernels, Caffe's `lr_mult`.

    The factor is on all of a bias's gradient, that of its weight decay included, as in
    Caffe. Which weights are biases is told by their rank: it is for models without
    other vectors, such as the gammas of batch norms.

    Args:
        learning_rate: of kernels.
        momentum: float.
        bias_factor: float, the learning rate of biases by that of kernels.
        **kwargs: other arguments of `keras.optimizers.SGD`.
    """

    def __init__(self, learning_rate=0.01, momentum=0.0, bias_factor=2.0, **kwargs):
        super().__init__(learning_rate, momentum=momentum, **kwargs)
        self.bias_factor = bias_factor

    def update_step(self, gradient, variable, *learning_rate):
        # Keras 3 passes the learning rate, Keras 2 does not.
        if len(variable.shape) == 1:
            gradient = self.bias_factor * gradient
        super().update_step(gradient, variable, *learning_rate)

    def get_config(self):
        return {**super().get_config(), "bias_factor": self.bias_factor}
