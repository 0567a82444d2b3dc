"""Statistics at which every part of a batch norm matters."""


def scatter_batch_norm(layer, rng):
    """Draws scales, offsets and moving statistics for a Keras `BatchNormalization`."""
    size = layer.gamma.shape[0]
    layer.set_weights(
        [
            rng.uniform(0.5, 2.0, size),
            rng.normal(0.3, 1.0, size),
            rng.normal(0.0, 0.5, size),
            rng.uniform(0.3, 2.0, size),
        ]
    )
