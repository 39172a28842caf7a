"""Where the first weights come from; downloads go to a real server on this machine."""

import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import h5py
import numpy as np
import pytest
import tf_keras
from tf_keras.src.applications import vgg16

from components.trainer import weights
from components.trainer.weights import ResolvedWeights, resolve_weights
from components.trainer.weights_file import backbone_shapes, read_backbone_weights
from data.errors import UserError

CONTENT = b"stands for 59 MB of weights"


class Server(ThreadingHTTPServer):
    """Serves `content` under any path, each byte `pause` seconds after the last, and counts the requests."""

    daemon_threads = True
    content = CONTENT
    pause = 0.0
    requests = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/vgg16.h5"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests += 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.content)))
        self.end_headers()
        for byte in self.server.content:
            time.sleep(self.server.pause)
            self.wfile.write(bytes([byte]))

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    """A server whose file stands for ImageNet's weights, and an empty home folder."""
    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setattr(weights, "IMAGENET_URL", server.url)
        monkeypatch.setattr(weights, "IMAGENET_MD5", hashlib.md5(CONTENT).hexdigest())
        yield server
        server.shutdown()


@pytest.fixture
def no_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A port on which nobody listens, and an empty home folder."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(weights, "IMAGENET_URL", f"http://127.0.0.1:{port}/vgg16.h5")


@pytest.fixture(scope="module")
def keras_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random VGG16 weights as Keras 2 saves them."""
    path = tmp_path_factory.mktemp("weights") / "vgg16.h5"
    tf_keras.applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3)).save_weights(path)
    return path


def test_address_and_checksum_are_keras_own() -> None:
    assert weights.IMAGENET_URL == vgg16.WEIGHTS_PATH_NO_TOP
    # Keras has the checksum in its code only, not under a name.
    assert weights.IMAGENET_MD5 in Path(vgg16.__file__).read_text()


def test_shapes_are_keras_own() -> None:
    model = tf_keras.applications.VGG16(include_top=False, weights=None)
    assert {layer.name: tuple(layer.kernel.shape) for layer in model.layers if layer.weights} == backbone_shapes()


def test_none_needs_nothing() -> None:
    assert resolve_weights("none") == ResolvedWeights("none")


def test_imagenet_is_downloaded_once_into_kerass_cache(server: Server, tmp_path: Path) -> None:
    resolved = resolve_weights("imagenet")
    assert resolved.kind == "imagenet"
    assert resolved.path == str(tmp_path / ".keras" / "models" / "vgg16.h5")
    assert Path(resolved.path).read_bytes() == CONTENT
    assert resolved.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert resolve_weights("imagenet") == resolve_weights("auto") == resolved
    assert server.requests == 1


def test_a_damaged_download_is_refused(server: Server, tmp_path: Path) -> None:
    server.content = CONTENT[:-1]
    with pytest.raises(UserError, match="download is damaged"):
        resolve_weights("imagenet")
    assert not (tmp_path / ".keras" / "models" / "vgg16.h5").exists()


def test_offline_imagenet_says_what_to_do(no_server: None, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        resolve_weights("imagenet")
    message = str(error.value)
    assert "\n" not in message
    assert (
        f"put the file into {tmp_path / '.keras' / 'models'}, or set trainer.weights to its path, or to none" in message
    )


def test_offline_auto_is_none(no_server: None) -> None:
    resolved = resolve_weights("auto")
    assert (resolved.kind, resolved.path, resolved.sha256) == ("none", None, None)
    assert resolved.reason is not None
    assert "could not be had" in resolved.reason


def test_auto_does_not_wait_for_a_slow_server(server: Server) -> None:
    server.content = CONTENT * 100
    server.pause = 0.05  # 135 s in all, and never silent for long
    started = time.monotonic()
    resolved = resolve_weights("auto", timeout_seconds=0.5)
    assert resolved.kind == "none"
    assert "not complete after 0.5 s" in str(resolved.reason)
    assert time.monotonic() - started < 30


def test_a_path_is_checked_and_hashed(keras_file: Path) -> None:
    resolved = resolve_weights(str(keras_file))
    assert resolved == ResolvedWeights(
        str(keras_file), str(keras_file), hashlib.sha256(keras_file.read_bytes()).hexdigest()
    )


def test_a_whole_saved_model_is_read_too(tmp_path: Path) -> None:
    model = tf_keras.applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3))
    with pytest.warns(UserWarning, match="HDF5"):  # tf_keras advises against the format
        model.save(tmp_path / "model.h5")
    arrays = read_backbone_weights(str(tmp_path / "model.h5"))
    np.testing.assert_array_equal(arrays["block5_conv3"][0], model.get_layer("block5_conv3").get_weights()[0])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"missing\.h5: there is no such file; set trainer\.weights to imagenet, none or"
    ):
        resolve_weights(str(tmp_path / "missing.h5"))


def test_a_file_that_is_no_hdf5_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.h5").write_text("not weights")
    with pytest.raises(UserError, match=r"text\.h5, which cannot be read as HDF5"):
        resolve_weights(str(tmp_path / "text.h5"))


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read as HDF5"):
        resolve_weights(str(tmp_path))


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    tf_keras.applications.MobileNet(include_top=False, weights=None, alpha=0.25).save_weights(tmp_path / "mobile.h5")
    with pytest.raises(UserError, match=r"of another architecture: VGG16's layer block1_conv1 .* has no such layer"):
        resolve_weights(str(tmp_path / "mobile.h5"))


def test_layers_of_another_shape_are_refused(keras_file: Path, tmp_path: Path) -> None:
    (tmp_path / "narrow.h5").write_bytes(keras_file.read_bytes())
    with h5py.File(tmp_path / "narrow.h5", "r+") as file:
        group = file["block3_conv1"]
        kernel = group.attrs["weight_names"][0]
        del group[kernel]
        group[kernel] = np.zeros((3, 3, 128, 64), np.float32)
    with pytest.raises(UserError, match=r"layer block3_conv1 has the shapes .* the file has shapes"):
        resolve_weights(str(tmp_path / "narrow.h5"))
