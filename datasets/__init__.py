"""One file per data set, each with a `load` that returns a `tf.data.Dataset`.

Used from a checkout, never installed: the wheel leaves this package out, since an
installed top-level `datasets` would overwrite Hugging Face's.
"""
