"""Data sets: `load` of `youtube8m`, `imagenet`, `kinetics`, `cifar` and others.

Each returns a `tf.data.Dataset`; the other files are what they are made of.

Used from a checkout, never installed: the wheel leaves this package out, since an
installed top-level `datasets` would overwrite Hugging Face's.
"""
