"""What comes out of a video classifier: a Kaggle submission, and SavedModels."""

import gzip
from pathlib import Path

import tensorflow as tf

import ensemble_heads as eh
from datasets import youtube8m_serving
from recipes import folders


def write_predictions(model, data, path, top_k=20):
    """Writes the best classes of every video, as the YouTube-8M competitions take it.

    Lines are `VideoId,LabelConfidencePairs` and then `id,class confidence class …`,
    best first.

    Args:
        model: `keras.Model`, inputs -> `[batch, classes]`.
        data: `tf.data.Dataset` of `(inputs, labels, ids)`.
        path: `Path`; compressed by gzip where it ends in `.gz`. It appears when it is
            complete.
        top_k: int, classes per video, at most.

    Returns:
        int, the number of videos.
    """

    @tf.function(input_signature=[data.element_spec[0]])
    def best(inputs):
        scores = model(inputs, training=False)
        return tf.math.top_k(scores, min(top_k, scores.shape[-1]))

    opened = gzip.open if path.suffix == ".gz" else open
    videos = 0
    with folders.new_file(path, opened) as file:
        file.write("VideoId,LabelConfidencePairs\n")
        for inputs, _, ids in data:
            found = best(inputs)
            for name, scores, classes in zip(
                ids.numpy(), found.values.numpy(), found.indices.numpy()
            ):
                pairs = (f"{c} {s:.6f}" for c, s in zip(classes, scores))
                file.write(f"{name.decode()},{' '.join(pairs)}\n")
            videos += len(ids)
    return videos


def export(model, path, features=None, max_frames=300):
    """Writes SavedModels for serving, batch norm folded.

    * `path/frames` (or `path/features`) takes what the model takes: dequantised
      frames and their number.
    * `path/records`, of models of frames only, takes serialized `SequenceExample`s,
      strings `[batch]`, and gives the ids with the predictions.

    Args:
        model: `keras.Model` or `eh.MultiHeadModel`.
        path: `Path` of a new folder.
        features: {name: numbers per frame} of the records, or None.
        max_frames: int, what comes after is left out.

    Returns:
        List of str, the paths.
    """
    path = Path(path).absolute()
    if features is None:
        return [eh.export(model, path / "features")]
    frames = eh.export(model, path / "frames")
    records = str(path / "records")
    served = tf.saved_model.load(frames)
    module = tf.Module()
    module.served = served
    predict = served.signatures["serving_default"]

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")])
    def serve(examples):
        ids, inputs = youtube8m_serving.parse(examples, features, max_frames)
        return {"ids": ids, **predict(**inputs)}

    tf.saved_model.save(module, records, signatures={"serving_default": serve})
    return [frames, records]
