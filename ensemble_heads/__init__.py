"""EnsembleNets: any Keras model, converted to several heads on one trunk."""

__version__ = "0.1.0"
