"""File systems of tensorflow-io: http from a server on loopback, or a clear message."""

import functools
import http.server
import threading

import pytest

from datasets import youtube8m
from ensemble_heads import provenance
from tests import youtube8m_protos as protos

pytestmark = [pytest.mark.slow, pytest.mark.line("2.21")]

SMALL = {"features": protos.FEATURES, "num_classes": protos.CLASSES, "with_ids": True}
OLD_LINE = provenance.tensorflow_line() == "2.15"


class Server(http.server.SimpleHTTPRequestHandler):
    """Serves files, and parts of them as every real server does."""

    def do_GET(self):
        wanted = self.headers.get("Range", "")
        try:
            with open(self.translate_path(self.path), "rb") as file:
                data = file.read()
        except OSError:
            return self.send_error(404)
        if not wanted.startswith("bytes="):
            return super().do_GET()
        first, last = wanted.removeprefix("bytes=").split("-")
        first, last = int(first), min(int(last), len(data) - 1)
        if first >= len(data):
            return self.send_error(416)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        self.send_header("Content-Length", str(last - first + 1))
        self.end_headers()
        self.wfile.write(data[first : last + 1])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def served(tmp_path):
    """(folder, its URL)"""
    handler = functools.partial(Server, directory=str(tmp_path))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield tmp_path, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def rows(dataset):
    with youtube8m.clear_errors():
        return {
            name: (inputs["frames"][row, : inputs["num_frames"][row]], labels[row])
            for inputs, labels, ids in dataset.as_numpy_iterator()
            for row, name in enumerate(ids)
        }


@pytest.mark.skipif(not OLD_LINE, reason="tensorflow-io is for TensorFlow 2.15")
@pytest.mark.parametrize("frames", [None, 4])
def test_http_gives_what_the_files_give(served, frames):
    folder, url = served
    # Larger than what is asked for at once.
    protos.write_shards(folder, "train", [9, 3], frames=lambda number: 8_000)
    chosen = {**SMALL, "random_frames": frames, "seed": 3, "max_frames": 8_000}
    local = rows(youtube8m.load("train", folder, 4, **chosen))
    files = "train{0000..0001}.tfrecord"
    remote = rows(youtube8m.load("train", url, 4, files=files, **chosen))
    assert remote.keys() == local.keys() and len(local) == 12
    for name, (values, labels) in local.items():
        assert (remote[name][0] == values).all()
        assert (remote[name][1] == labels).all()


@pytest.mark.skipif(not OLD_LINE, reason="tensorflow-io is for TensorFlow 2.15")
def test_http_cannot_be_listed(served):
    with pytest.raises(ValueError, match=r"over http.*train\{0000..3843\}.tfrecord"):
        youtube8m.load("train", served[1])
    with pytest.raises(ValueError, match=r"`files` must be paths or ranges over http"):
        youtube8m.load("train", served[1], files="train*.tfrecord")


@pytest.mark.skipif(not OLD_LINE, reason="tensorflow-io is for TensorFlow 2.15")
def test_a_bad_record_behind_http_is_named(served):
    folder, url = served
    protos.write(folder / "train0.tfrecord", [protos.video(), protos.video(labels=[9])])
    path = f"{url}/train0.tfrecord"
    with pytest.raises(youtube8m.RecordError) as caught:
        rows(youtube8m.load("train", files=path, **SMALL))
    assert (caught.value.path, caught.value.record) == (path, 1)


@pytest.mark.skipif(OLD_LINE, reason="TensorFlow 2.15 has tensorflow-io")
@pytest.mark.parametrize("scheme", ["http", "https", "s3"])
def test_the_other_line_says_what_to_do(scheme):
    url = f"{scheme}://bucket/train0000.tfrecord"
    said = f"{scheme}:// needs tensorflow-io.*2.15 only.*copy the files.*gs://"
    with pytest.raises(ImportError, match=said):
        youtube8m.load("train", files=url)
    with pytest.raises(ImportError, match=said):
        youtube8m.load("train", url.rpartition("/")[0])
