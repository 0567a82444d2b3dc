"""Images that cannot be read: TensorFlow does not say which one it was.

Nothing can be caught inside of a graph, and a look at every image from Python would
cost more than it takes to decode one. So a table in the graph holds the places of the
images that are being parsed or decoded right now. One that fails stays there, and is
found when `record_errors.clear_errors` tries those again.
"""

import itertools

import tensorflow as tf

from datasets import imagenet_crops, record_errors
from datasets.record_checks import Broken

_NUMBERS = 1 << 32  # more than records in a file
_COUNT = itertools.count()


def place_of(file, number):
    """int64 of a place, one for each image of a data set."""
    return file * _NUMBERS + number


def check(encoded, field):
    """Raises `Broken` unless TensorFlow decodes an image to its end.

    Of a JPEG with wrong bits in the middle it does so too, and only warns on stderr.

    Args:
        encoded: bytes.
        field: str, what it is called where it came from.
    """
    try:
        imagenet_crops.decode_whole(tf.constant(encoded))
    except tf.errors.OpError:
        rule = f"`{field}` must be an image, JPEG, PNG, GIF or BMP, that is whole."
        said = f"{len(encoded)} bytes that cannot be decoded."
        raise Broken(field, rule, said) from None


class Watch:
    """Knows which images are being read.

    Args:
        check_place: callable (file, number) that raises `RecordError` where an image
            cannot be used; called only after an error.
    """

    def __init__(self, check_place):
        self._check_place = check_place
        with tf.device("CPU:0"):
            # Anonymous: it lives as long as a data set that uses it.
            self._table = tf.lookup.experimental.MutableHashTable(
                tf.int64, tf.int64, -1, experimental_is_anonymous=True
            )
        self._scope = f"watched_images_{next(_COUNT)}"
        record_errors.ask(self._scope, self.culprit)

    def over(self, function, values, file, number):
        """What `function(values)` gives, in a graph.

        Args:
            function: callable, tensor -> one or several tensors.
            values: tensor, of one image or of a batch.
            file, number: int64, the place of the image, or places of the batch.
        """
        places = tf.reshape(place_of(file, number), [-1])
        begin = self._table.insert(places, places)
        with tf.control_dependencies([begin]), tf.name_scope(self._scope):
            results = function(tf.identity(values))
        with tf.control_dependencies(tf.nest.flatten(results)):
            end = self._table.remove(places)
        with tf.control_dependencies([end]):
            return tf.nest.map_structure(tf.identity, results)

    def culprit(self):
        """The `RecordError` of an image that failed and is bad, or None."""
        places, _ = self._table.export()
        self._table.remove(places)  # each is asked about once
        for place in sorted(places.numpy()):
            try:
                self._check_place(*divmod(int(place), _NUMBERS))
            except record_errors.RecordError as error:
                return error
        return None
