"""Readers of CIFAR as published: the binary version, and the Python version's archive.

The Python version is pickled. It is read from the published archive only, known by its
SHA-256, and even then by an unpickler that knows nothing but arrays.
"""

import dataclasses
import hashlib
import io
import pickle
import tarfile
from pathlib import Path

import numpy as np

from datasets.image_files import Found, bad_file, readable

_PIXELS = 3 * 32 * 32
# What is raised of members that are missing, no files, or links to themselves.
_NOT_INSIDE = (KeyError, AttributeError, RecursionError, tarfile.TarError)
_ARRAYS = ("numpy.core.multiarray", "numpy._core.multiarray")


@dataclasses.dataclass(frozen=True)
class Archives:
    """Names of one CIFAR's files.

    Attributes:
        binary_folder, binary_archive: str; the binary version.
        binary_files: {part: names}.
        label_bytes: int, before the pixels of an image; the last of them counts.
        python_archive: str, the Python version.
        python_files: {part: names in the archive}.
        labels: bytes, the key of the labels in these.
        sha256: str, of the Python archive.
    """

    binary_folder: str
    binary_archive: str
    binary_files: dict
    label_bytes: int
    python_archive: str
    python_files: dict
    labels: bytes
    sha256: str

    def read_binary(self, folder, part, image_set):
        """The .bin files, in the folder or below it, or in their archive."""
        names = self.binary_files[part]
        for below in (Path(folder), Path(folder) / self.binary_folder):
            if not any((below / name).exists() for name in names):
                continue
            blocks = []
            for path in (below / name for name in names):
                if not path.exists():
                    raise bad_file(path, "exist, beside the others", "no such file")
                with readable(path, "a file of records"):
                    data = path.read_bytes()
                blocks.append(self._records(path, data))
            return self._found(blocks, below)
        path = Path(folder) / self.binary_archive
        if not path.exists():
            return None
        members = _members(path, path.read_bytes(), self.binary_folder, names)
        blocks = [self._records(f"{name} in {path}", data) for name, data in members]
        return self._found(blocks, path)

    def read_python(self, folder, part, image_set):
        """The archive of the Python version, if it is the published one."""
        path = Path(folder) / self.python_archive
        top = self.python_archive.removesuffix(".tar.gz")
        # CIFAR-10 unpacks to a folder of another name than its archive.
        for name in (top.replace("python", "batches-py"), top):
            if not path.exists() and (Path(folder) / name).is_dir():
                raise self._not_the_archive(path, f"the folder {name} without it")
        return self.read_archive(path, part) if path.exists() else None

    def read_archive(self, path, part):
        """What the archive holds, `Found`.

        Raises:
            ValueError: it is not the published one; then nothing was unpickled.
        """
        data = Path(path).read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        if digest != self.sha256:
            raise self._not_the_archive(path, f"SHA-256 {digest}")
        batches = [
            _unpickle(content)
            for _, content in _members(path, data, "", self.python_files[part])
        ]
        images = np.concatenate([batch[b"data"] for batch in batches])
        labels = np.concatenate([batch[self.labels] for batch in batches])
        return Found(_as_images(images), labels, path)

    def _not_the_archive(self, path, received):
        rule = (
            f"be the published archive, of SHA-256 {self.sha256}: pickled files are "
            f"read from nothing else; {self.binary_archive} holds the same images "
            "without pickles"
        )
        return bad_file(path, rule, received)

    def _records(self, path, data):
        """uint8 `[images, bytes of an image]`"""
        size = self.label_bytes + _PIXELS
        if not data or len(data) % size:
            rule = f"hold records of {size} bytes, all of them whole"
            raise bad_file(path, rule, f"{len(data)} bytes")
        return np.frombuffer(data, np.uint8).reshape(-1, size)

    def _found(self, blocks, path):
        records = np.concatenate(blocks)
        images = _as_images(records[:, self.label_bytes :])
        return Found(images, records[:, self.label_bytes - 1], path)


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickles containers, texts, numbers and arrays; everything else is refused."""

    def find_class(self, module, name):
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        if module in _ARRAYS and name == "_reconstruct":
            return np.empty(0).__reduce__()[0]  # wherever this NumPy has it
        raise pickle.UnpicklingError(f"{module}.{name} is not of an array")


def _unpickle(data):
    return _ArrayUnpickler(io.BytesIO(data), encoding="bytes").load()


def _members(path, data, folder, names):
    """List of (name, content) from a tar.gz; nothing is written to the disk."""
    found = []
    try:
        with (
            readable(path, "a tar.gz archive"),
            tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive,
        ):
            for name in names:
                inside = f"{folder}/{name}" if folder else name
                found.append((name, archive.extractfile(inside).read()))
    except _NOT_INSIDE as error:
        raise bad_file(path, f"be an archive that holds {names}", error) from error
    return found


def _as_images(rows):
    """Rows of red, green and blue planes as uint8 `[images, 32, 32, 3]`."""
    return np.ascontiguousarray(rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
