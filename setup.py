"""Builds and installs ensemble-heads.

The wheel holds `ensemble_heads` and `zoo`. `datasets` and `recipes` are run from a
checkout and stay out of it: an installed top-level `datasets` would overwrite the
package of that name by Hugging Face.
"""

from pathlib import Path

from setuptools import find_packages, setup

# The two TensorFlow lines: Keras 2.15 on the older Pythons, Keras 3 on the newer.
OLD_LINE = 'python_version < "3.12"'
NEW_LINE = 'python_version >= "3.12"'

INSTALL_REQUIRES = [
    f"tensorflow==2.15.1; {OLD_LINE}",
    f"tensorflow-addons==0.23.0; {OLD_LINE}",
    f"tensorflow-io==0.36.0; {OLD_LINE}",
    f"keras-cv==0.9.0; {OLD_LINE}",
    # Later ones need a protobuf that TensorFlow 2.15 forbids; keras-cv imports it.
    f"tensorflow-metadata<1.18; {OLD_LINE}",
    f"tensorflow==2.21.0; {NEW_LINE}",
    f"keras-cv==0.9.0; {NEW_LINE}",
    "absl-py",
    "numpy",
    "pytest",
    "rich",
]

EXTRAS_REQUIRE = {
    "recipes": ["av", "matplotlib", "pillow", "scikit-learn", "tensorboard"],
    "dev": ["build", "pre-commit", "pytest-xdist", "ruff", "setuptools", "wheel"],
}

setup(
    name="ensemble-heads",
    version="0.1.0",
    description="EnsembleNets: any Keras model with several heads on one trunk",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="The ensemble-heads authors",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.10,<3.14",
    packages=find_packages(include=["ensemble_heads*", "zoo*"]),
    install_requires=INSTALL_REQUIRES,
    extras_require=EXTRAS_REQUIRE,
)
