"""Images that cannot be decoded: TensorFlow does not say which one it was.

Nothing can be caught inside of a graph, and a look at every image from Python would
cost more than it takes to decode one. So a table in the graph holds the places of the
images that are being decoded right now. One that fails stays there, and is then the
first that `record_errors.clear_errors` finds when it tries those again.
"""

import tensorflow as tf

from datasets import imagenet_crops, record_errors
from datasets.record_checks import Broken

_NUMBERS = 1 << 32  # more than records in a file


def place_of(file, number):
    """int64 of a place, one for each image of a data set."""
    return file * _NUMBERS + number


def check(encoded, field):
    """Raises `Broken` unless all of an image can be decoded.

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
    """Knows which images are being decoded.

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
        record_errors.ask(self.culprit)

    def over(self, decode, encoded, file, number):
        """What `decode(encoded)` gives, in a graph; `file` and `number` are scalars."""
        place = tf.reshape(place_of(file, number), [1])
        begin = self._table.insert(place, place)
        with tf.control_dependencies([begin]):
            decoded = decode(tf.identity(encoded))
        with tf.control_dependencies([decoded]):
            end = self._table.remove(place)
        with tf.control_dependencies([end]):
            return tf.identity(decoded)

    def culprit(self):
        """The `RecordError` of an image that failed and is bad, or None."""
        places, _ = self._table.export()
        for place in sorted(places.numpy()):
            try:
                self._check_place(*divmod(int(place), _NUMBERS))
            except record_errors.RecordError as error:
                self._table.remove(tf.constant([place]))
                return error
        return None
