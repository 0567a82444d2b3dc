"""Where images and labels come from: lists, conventions of labels, TFDS, samples."""

import sys

import numpy as np
import pytest

from datasets import imagenet, synthetic_imagenet
from tests.imagenet_files import (
    CLASSES,
    encode,
    example,
    picture,
    pixels_of,
    write_records,
)

pytestmark = [pytest.mark.slow, pytest.mark.line("2.15")]

SMALL = {"num_classes": 3, "image_size": 8}
# Labels of five images, and the development kit's own numbers of the classes.
LABELS = [1, 0, 2, 1, 1]
DEVKIT = {1: CLASSES[2], 2: CLASSES[0], 3: CLASSES[1], 4: "n00001930"}
NAMES = [f"ILSVRC2012_val_{number:08d}.JPEG" for number in range(1, 6)]
LISTS = {
    "val.txt": [f"{n} {k}" for n, k in zip(NAMES, LABELS)],
    "imagenet_2012_validation_synset_labels.txt": [CLASSES[k] for k in LABELS],
    "LOC_val_solution.csv": ["ImageId,PredictionString"]
    + [f"{n[:-5]},{CLASSES[k]} 1 2 3 4 " for n, k in zip(NAMES, LABELS)],
    "ILSVRC2012_validation_ground_truth.txt": [
        str(next(i for i, name in DEVKIT.items() if name == CLASSES[k])) for k in LABELS
    ],
}


def labels_of(split, folder, **changes):
    dataset = imagenet.load(
        split, folder, 4, shuffle=False, colours=None, **{**SMALL, **changes}
    )
    return [label for _, labels in dataset for label in labels.numpy()]


@pytest.fixture
def flat(tmp_path):
    (tmp_path / "val").mkdir()
    for number, name in enumerate(NAMES):
        (tmp_path / "val" / name).write_bytes(encode(picture(number)))
    return tmp_path


def write_list(folder, name, lines=None):
    (folder / name).write_text("\n".join(lines or LISTS[name]) + "\n")
    if name.startswith("ILSVRC"):
        io = pytest.importorskip("scipy.io")
        kinds = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("num_children", "O")]
        rows = [(n, wnid, 7 if n == 4 else 0) for n, wnid in DEVKIT.items()]
        synsets = np.array(rows, dtype=kinds)[:, np.newaxis]
        io.savemat(folder / "meta.mat", {"synsets": synsets})


@pytest.mark.parametrize("name, below", [("val.txt", "val"), *((n, "") for n in LISTS)])
def test_the_validation_list_in_all_forms(flat, name, below):
    write_list(flat / below, name)
    assert labels_of("validation", flat) == LABELS


def test_a_list_beside_the_images_names_all_of_them(flat):
    write_list(flat, "val.txt", LISTS["val.txt"][:3])
    said = f"must name all images.*without '{NAMES[3]}' and 1 others"
    with pytest.raises(ValueError, match=said):
        labels_of("validation", flat)
    assert labels_of("validation", flat, image_list="val.txt") == LABELS[:3]


def test_a_list_may_lie_elsewhere_and_choose_images(flat, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("lists") / "mine.txt"
    elsewhere.write_text(f"{NAMES[3]} 3\n{NAMES[0]} 1\n")
    chosen = {"image_list": str(elsewhere), "label_offset": 1}
    assert labels_of("validation", flat, **chosen) == [2, 0]
    dataset = imagenet.load(
        "validation", flat, 2, num_classes=3, image_size=8, **chosen
    )
    ((images, _),) = dataset
    whole = pixels_of((flat / "val" / NAMES[3]).read_bytes()).astype(np.float32)
    centre = (whole[10:20, 15:25].mean((0, 1)) - [123.675, 116.28, 103.53]) / 58
    assert np.abs(images[0].numpy()[3:5, 3:5].mean((0, 1)) - centre).max() < 0.4


def test_the_development_kit_may_lie_beside_the_images(flat):
    write_list(flat / "val", "ILSVRC2012_validation_ground_truth.txt")
    assert labels_of("validation", flat) == LABELS


def test_synsets_are_numbered_by_class_names_if_given(flat):
    names = flat / "LOC_synset_mapping.txt"
    names.write_text("".join(f"{one} a name, another\n" for one in CLASSES[::-1]))
    write_list(flat, "imagenet_2012_validation_synset_labels.txt")
    for given in (names, str(names)):
        found = labels_of("validation", flat, class_names=given)
        assert found == [2 - label for label in LABELS]


@pytest.mark.parametrize(
    "name, lines, error, said",
    [
        (None, [], FileNotFoundError, "`image_list` must be the list of labels"),
        (
            "val.txt",
            [*LISTS["val.txt"], "gone.JPEG 1", "too.JPEG 1"],
            FileNotFoundError,
            "images that exist. Received: 'gone.JPEG' of .*val.txt.* 2 missing",
        ),
        ("val.txt", [f"{NAMES[0]} 3"], ValueError, "labels from 0 to 2,.*Received: 3"),
        ("val.txt", [f"{NAMES[0]} 1"] * 2, ValueError, "every image once"),
        ("val.txt", [NAMES[0], "a.JPEG 1"], ValueError, "all `name label`, or all"),
        ("val.txt", LABELS[:4], ValueError, "as many labels as there are images"),
        ("val.txt", LABELS, FileNotFoundError, "meta.mat"),
        ("val.txt", ["n1", "n2"] * 2 + ["n1"], ValueError, "num_classes=3.*2 classes"),
    ],
)
def test_bad_lists(flat, name, lines, error, said):
    if name:
        (flat / name).write_text("".join(f"{line}\n" for line in lines))
    with pytest.raises(error, match=said):
        labels_of("validation", flat)


def test_a_devkit_number_that_is_no_class(flat):
    write_list(
        flat, "ILSVRC2012_validation_ground_truth.txt", ["1", "2", "4", "1", "1"]
    )
    with pytest.raises(ValueError, match="numbers of 3 classes.*Received: 4"):
        labels_of("validation", flat)


def records(label_key, image_key, labels):
    return [
        example(**{image_key: encode(picture(n)), label_key: label})
        for n, label in enumerate(labels)
    ]


@pytest.mark.parametrize(
    "image, label, offset",
    [("image__encoded", "image__class__label", 1), ("image", "label", 0)],
)
@pytest.mark.parametrize("name", ["{}-00000-of-00001", "x-{}.tfrecord-00000-of-00001"])
def test_labels_count_as_the_converter_counts(tmp_path, image, label, offset, name):
    stored = [one + offset for one in LABELS]
    path = tmp_path / name.format("validation")
    write_records(path, records(label, image, stored))
    assert labels_of("validation", tmp_path) == LABELS
    # The other way is possible too, and an error where it does not fit.
    other = {"label_offset": 1 - offset}
    with (
        pytest.raises(imagenet.RecordError, match="label_offset"),
        imagenet.clear_errors(),
    ):
        labels_of("validation", tmp_path, **other)
    write_records(path, records(label, image, [one + 1 - offset for one in LABELS]))
    assert labels_of("validation", tmp_path, **other) == LABELS


def test_shards_may_lie_in_a_folder_of_the_split(tmp_path):
    write_records(
        tmp_path / "train" / "train-00000-of-00001",
        records("image__class__label", "image__encoded", [1, 2]),
    )
    assert labels_of("train", tmp_path) == [0, 1]
    assert labels_of("train", tmp_path, source="records") == [0, 1]


BUILDER = """
import numpy as np
import tensorflow_datasets as tfds

class TinyPictures(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(encoding_format="jpeg"),
            "label": tfds.features.ClassLabel(num_classes=3),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager):
        return {"validation": self._generate_examples()}

    def _generate_examples(self):
        for label in range(5):
            pixels = np.full((20, 30, 3), 40 * label, np.uint8)
            yield label, {"image": pixels, "label": label % 3}
"""
TFDS = """
    import sys
    folder = sys.argv[1]
    sys.path.insert(0, folder)
    import tensorflow_datasets as tfds
    import tiny_pictures
    from datasets import imagenet

    def attempt(split, **changes):
        options = {"tfds_name": "tiny_pictures", "source": "tfds", "image_size": 8}
        try:
            return list(imagenet.load(split, folder, 8, **options, **changes))
        except (FileNotFoundError, ValueError) as error:
            print("ERROR", error)

    attempt("validation", num_classes=3)
    tfds.builder("tiny_pictures", data_dir=folder).download_and_prepare()
    attempt("train", num_classes=3)
    attempt("validation", num_classes=4)
    ((images, labels),) = attempt("validation", num_classes=3, pixels="unit")
    pairs = zip(images.numpy().mean((1, 2, 3)), labels.numpy())
    print("FOUND", sorted((round(float(v) * 255 / 40), int(l)) for v, l in pairs))
"""


def test_tensorflow_datasets(run_python, tmp_path):
    (tmp_path / "tiny_pictures.py").write_text(BUILDER)
    printed = run_python(TFDS, tmp_path).splitlines()
    errors = [line for line in printed if line.startswith("ERROR")]
    assert "must be prepared with a split 'validation'" in errors[0]
    assert "with the splits ['validation']" in errors[1]
    assert "num_classes=4 classes. Received" in errors[2] and len(errors) == 3
    found = next(line for line in printed if line.startswith("FOUND"))
    assert found == "FOUND [(0, 0), (1, 1), (2, 2), (3, 0), (4, 1)]"


def test_without_tensorflow_datasets(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(ImportError, match="pip install tensorflow-datasets"):
        labels_of("train", tmp_path, source="tfds")
    write_records(
        tmp_path / "train-00000-of-00001", records("label", "image", [0, 1, 2])
    )
    assert labels_of("train", tmp_path) == [0, 1, 2]  # nothing else needs it


def test_made_up_shards_are_the_same_again_and_read(tmp_path):
    def write(folder, seed=0):
        chosen = {"num_classes": 3, "blocks": (2, 3)}
        return synthetic_imagenet.write_imagenet(
            tmp_path / folder, "train", 2, 3, seed, **chosen
        )

    contents = [[open(p, "rb").read() for p in write(f)] for f in ("a", "b")]
    assert contents[0] == contents[1]
    assert contents[0] != [open(p, "rb").read() for p in write("c", seed=1)]
    assert sorted(labels_of("train", tmp_path / "a")) == [0, 0, 1, 1, 2, 2]


def test_the_sample_images_run_through(data_dir, tmp_path):
    files = sorted((data_dir / "imagenet_samples").glob("*.JPEG"))
    if not files:
        pytest.skip("no sample images there")
    for file in files:
        below = tmp_path / "train" / file.name.partition("_")[0]
        below.mkdir(parents=True)
        (below / file.name).symlink_to(file)
    chosen = {"num_classes": len(files), "numbered": True}
    with imagenet.clear_errors():
        train = list(imagenet.load("train", tmp_path, 16, epochs=2, **chosen))
        chosen |= {"augment": False, "shuffle": False, "pixels": "unit"}
        middle = list(imagenet.load("train", tmp_path, 16, **chosen))
    seen = [n for inputs, _ in train for n in inputs["number"].numpy()]
    assert len(seen) == 2 * len(files) and len(set(seen)) == len(files)
    for number, file in enumerate(files):
        image = middle[number // 16][0]["images"][number % 16].numpy()
        whole = pixels_of(file.read_bytes())
        height, width, _ = whole.shape
        side = round(min(height, width) * 0.875)
        top, left = (height - side) // 2, (width - side) // 2
        mean = whole[top : top + side, left : left + side].mean((0, 1)) / 255
        np.testing.assert_allclose(image.mean((0, 1)), mean, atol=0.02)
        assert middle[number // 16][1][number % 16] == number
