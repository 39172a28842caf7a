"""Where the first weights come from; downloads go to a real server on this machine."""

import hashlib
import pwd
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NoReturn

import h5py
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tfx.utils import import_utils, name_utils

from components.trainer.backbones import BACKBONES
from components.trainer.model import load_weights, make_model
from components.trainer.weights import ResolvedWeights, kept_imagenet, keras_cache_dir, resolve_weights
from components.weights_mirror.component import WeightsMirror
from data.errors import UserError

CONTENT = b"stands for 59 MB of weights"


class Server(ThreadingHTTPServer):
    """Serves `content` under any path, unless it is `missing`, each byte `pause` seconds after the last."""

    daemon_threads = True
    content = CONTENT
    pause = 0.0
    missing = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.paths: list[str] = []

    @property
    def requests(self) -> int:
        return len(self.paths)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/vgg16.h5"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.paths.append(self.path)
        if self.server.missing:
            self.send_error(404)
            return
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
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        md5 = f"md5:{hashlib.md5(CONTENT).hexdigest()}"
        monkeypatch.setitem(BACKBONES, "vgg16", replace(BACKBONES["vgg16"], weights_url=server.url, weights_hash=md5))
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
    nowhere = replace(BACKBONES["vgg16"], weights_url=f"http://127.0.0.1:{port}/vgg16.h5")
    monkeypatch.setitem(BACKBONES, "vgg16", nowhere)


@pytest.fixture(scope="module")
def keras_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random VGG16 weights as Keras 2 saves them."""
    path = tmp_path_factory.mktemp("weights") / "vgg16.h5"
    tf_keras.applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3)).save_weights(path)
    return path


def test_without_a_home_weights_lie_among_temporary_files(monkeypatch: pytest.MonkeyPatch) -> None:
    def know_nobody(number: int) -> NoReturn:
        raise KeyError(number)

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", know_nobody)
    assert keras_cache_dir() == Path(tempfile.gettempdir(), ".keras", "models")


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


def test_a_backbone_with_a_sha256_is_downloaded_from_its_own_address(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    url = server.url.replace("vgg16", "convnext")
    spec = replace(BACKBONES["convnext-tiny"], weights_url=url, weights_hash=f"sha256:{sha256}")
    monkeypatch.setitem(BACKBONES, "convnext-tiny", spec)
    resolved = resolve_weights("imagenet", "convnext-tiny")
    assert resolved == ResolvedWeights("imagenet", str(tmp_path / ".keras" / "models" / "convnext.h5"), sha256)


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


def mirror_of(server: Server) -> str:
    return server.url.rpartition("/")[0] + "/keras/"


def test_a_mirror_takes_the_place_of_keras_s_address(server: Server, no_server: None, tmp_path: Path) -> None:
    path = str(tmp_path / ".keras" / "models" / "vgg16.h5")
    wanted = ResolvedWeights("imagenet", path, hashlib.sha256(CONTENT).hexdigest())
    assert resolve_weights("auto").kind == "none"
    assert resolve_weights("auto", mirror=mirror_of(server)) == wanted
    assert server.paths == ["/keras/vgg16.h5"]
    Path(path).unlink()
    assert resolve_weights("imagenet", mirror=mirror_of(server).rstrip("/")) == wanted
    assert server.paths == ["/keras/vgg16.h5"] * 2
    assert resolve_weights("imagenet", mirror="https://nowhere.invalid") == wanted  # what is in Keras's cache


@pytest.mark.parametrize("scheme", ["file", "ram"])
def test_a_mirror_is_a_folder_or_what_tensorflow_reads(
    scheme: str, server: Server, no_server: None, tmp_path: Path
) -> None:
    """`ram` stands for `gs`: both are file systems of TensorFlow's."""
    mirror = f"{scheme}://{tmp_path}/mirror"
    tf.io.gfile.makedirs(mirror)
    with pytest.raises(UserError, match=f"but {mirror}/vgg16.h5 could not be downloaded"):
        resolve_weights("imagenet", mirror=mirror)
    with tf.io.gfile.GFile(f"{mirror}/vgg16.h5", "wb") as file:
        file.write(CONTENT)
    assert resolve_weights("imagenet", mirror=mirror).sha256 == hashlib.sha256(CONTENT).hexdigest()


def test_a_mirror_that_fails_is_named_with_the_way_round_it(server: Server, tmp_path: Path) -> None:
    mirror, cache = mirror_of(server), tmp_path / ".keras" / "models"
    way = (
        f"put Keras's file of that name there ({server.url}), or into {cache}, or set trainer.weights to its path, or "
        "to none for random weights, or trainer.weights_mirror to another folder that holds it"
    )
    server.missing = True
    with pytest.raises(UserError) as error:
        resolve_weights("imagenet", mirror=mirror)
    what = f"trainer.weights is imagenet, but {mirror}vgg16.h5 could not be downloaded"
    assert str(error.value) == f"{what} (HTTP Error 404: Not Found); {way}"
    assert resolve_weights("auto", mirror=mirror).reason == (
        f"ImageNet's weights could not be had from {mirror}: HTTP Error 404: Not Found"
    )
    server.missing, server.content = False, CONTENT + b"!"
    with pytest.raises(UserError) as error:
        resolve_weights("imagenet", mirror=mirror)
    assert str(error.value) == f"{what} (the download is damaged: its checksum is not that of Keras); {way}"
    assert not (cache / "vgg16.h5").exists()
    with pytest.raises(UserError, match="InvalidURL: nonnumeric port: 'x'"):
        resolve_weights("imagenet", mirror="http://host:x/folder")


def run_weights_mirror(mirror: str, folder: str) -> None:
    """Runs the node as its container does: by the executor's import path."""
    node = WeightsMirror(backbone="vgg16", mirror=mirror, weights_dir=folder)
    executor = import_utils.import_class_by_path(name_utils.get_full_name(node.executor_spec.executor_class))
    executor().Do({}, {}, dict(node.exec_properties))


def test_a_mirror_s_file_is_kept_for_containers_once(
    server: Server, no_server: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = f"file://{tmp_path}/root/.weights"
    assert kept_imagenet("vgg16", None) is None
    assert kept_imagenet("vgg16", folder) is None
    run_weights_mirror(mirror_of(server), folder)
    run_weights_mirror("https://nowhere.invalid", folder)
    assert server.requests == 1
    assert kept_imagenet("vgg16", folder) == folder
    monkeypatch.setenv("HOME", str(tmp_path / "another container"))
    assert resolve_weights("imagenet", mirror=folder).sha256 == hashlib.sha256(CONTENT).hexdigest()
    kept = tmp_path / "root" / ".weights" / "vgg16.h5"
    kept.write_bytes(b"damaged")
    monkeypatch.setenv("HOME", str(tmp_path / "a third"))
    run_weights_mirror(mirror_of(server), folder)
    assert kept.read_bytes() == CONTENT
    assert [path.name for path in kept.parent.iterdir()] == ["vgg16.h5"]


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


def test_a_whole_saved_model_is_read_too_and_its_head_left_out(tmp_path: Path) -> None:
    inputs = tf_keras.Input((32, 32, 3))
    pixels = tf_keras.layers.Normalization(name="mine")(inputs)  # has weights, before the backbone
    network = tf_keras.applications.VGG16(include_top=False, weights=None, input_tensor=pixels, pooling="avg")
    whole = tf_keras.Model(inputs, tf_keras.layers.Dense(7, name="predictions")(network.output))
    with pytest.warns(UserWarning, match="HDF5"):  # tf_keras advises against the format
        whole.save(tmp_path / "model.h5")
    assert resolve_weights(str(tmp_path / "model.h5")).head == ("predictions",)
    model = make_model(3, 32, dropout=0.0, precision="float32")
    load_weights(model, str(tmp_path / "model.h5"))
    for loaded, saved in zip(model.get_layer("backbone").get_weights(), whole.get_weights()[3:-2], strict=True):
        np.testing.assert_array_equal(loaded, saved)


@pytest.mark.parametrize(
    ("backbone", "head"),
    [
        ("mobilenetv3-small", ("Conv_2", "Logits")),
        # Its last normalisation has another name below a head: only the order tells.
        pytest.param("convnext-tiny", ("convnext_tiny_head_dense",), marks=pytest.mark.slow),
    ],
)
def test_a_head_of_any_class_count_is_left_out(backbone: str, head: tuple[str, ...], tmp_path: Path) -> None:
    construct = getattr(tf_keras.applications, BACKBONES[backbone].constructor)
    saved = construct(weights=None, classes=7, input_shape=(32, 32, 3))
    saved.save_weights(tmp_path / "top.h5")
    assert resolve_weights(str(tmp_path / "top.h5"), backbone).head == head
    model = make_model(3, 32, dropout=0.0, precision="float32", backbone=backbone)
    load_weights(model, str(tmp_path / "top.h5"))
    for loaded, expected in zip(model.get_layer("backbone").get_weights(), saved.get_weights(), strict=False):
        np.testing.assert_array_equal(loaded, expected)


def save_classifier(path: Path, classes: int) -> np.ndarray:
    """Saves a VGG16 with a dense head as Keras does, and returns the head's kernel."""
    network = tf_keras.applications.VGG16(include_top=False, weights=None, input_shape=(32, 32, 3), pooling="avg")
    saved = tf_keras.Model(network.input, tf_keras.layers.Dense(classes, name="predictions")(network.output))
    saved.save_weights(path)
    return saved.get_layer("predictions").kernel.numpy()


def test_a_head_of_as_many_classes_is_loaded_if_wanted(tmp_path: Path) -> None:
    kernel = save_classifier(tmp_path / "mine.h5", 3)
    model = make_model(3, 32, dropout=0.0, precision="float32")
    assert not load_weights(model, str(tmp_path / "mine.h5"), "drop")
    assert not np.array_equal(model.get_layer("head").kernel, kernel)
    assert load_weights(model, str(tmp_path / "mine.h5"), "load")
    np.testing.assert_array_equal(model.get_layer("head").kernel, kernel)


def test_a_head_of_another_class_count_is_refused_unless_dropped(tmp_path: Path) -> None:
    save_classifier(tmp_path / "seven.h5", 7)
    model = make_model(3, 32, dropout=0.0, precision="float32")
    message = (
        r"seven\.h5, whose head \(predictions\) has 7 classes where the images have 3; set trainer\.weights_head to"
    )
    with pytest.raises(UserError, match=message):
        load_weights(model, str(tmp_path / "seven.h5"), "load")


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


@pytest.mark.parametrize(("path", "reason"), [("file:///tmp", "directory"), ("nowhere://b/w.h5", "'nowhere' not impl")])
def test_a_place_that_tensorflow_cannot_read_is_refused(path: str, reason: str) -> None:
    with pytest.raises(UserError, match=rf"^trainer\.weights is {path}, which cannot be read .*{reason}.*; set .*$"):
        resolve_weights(path)


def test_layers_are_left_to_who_loads_them(tmp_path: Path) -> None:
    tf_keras.applications.MobileNet(include_top=False, weights=None, alpha=0.25).save_weights(tmp_path / "mobile.h5")
    assert resolve_weights(str(tmp_path / "mobile.h5"), check_layers=False).path == str(tmp_path / "mobile.h5")
    model = make_model(3, 32, dropout=0.0, precision="float32")
    with pytest.raises(UserError, match="of another architecture than VGG16"):
        load_weights(model, str(tmp_path / "mobile.h5"))


def test_a_damaged_layout_is_refused(keras_file: Path, tmp_path: Path) -> None:
    (tmp_path / "damaged.h5").write_bytes(keras_file.read_bytes())
    with h5py.File(tmp_path / "damaged.h5", "r+") as file:
        del file["block3_conv1"]
    with pytest.raises(UserError, match=r"damaged\.h5, which cannot be read as HDF5 .*block3_conv1"):
        resolve_weights(str(tmp_path / "damaged.h5"))


def refuse(path: Path, backbone: str = "vgg16") -> str:
    with pytest.raises(UserError) as error:
        resolve_weights(str(path), backbone)
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith(f"trainer.weights is {path}, of another architecture than {BACKBONES[backbone].title}: ")
    assert message.endswith(f"none or {BACKBONES[backbone].title}'s weights as Keras 2 saves them in HDF5")
    return message


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    tf_keras.applications.MobileNet(include_top=False, weights=None, alpha=0.25).save_weights(tmp_path / "mobile.h5")
    assert (
        "its layer block1_conv1 has the shapes 3x3x3x64, 64, in its place the file has conv1 with the shapes "
        "3x3x3x8, and 54 layers with weights, conv1 to conv_pw_13_bn"
    ) in refuse(tmp_path / "mobile.h5")


def test_a_deeper_sibling_is_refused(keras_file: Path, tmp_path: Path) -> None:
    """VGG19 has all of VGG16's layers by name and shape, and some more."""
    tf_keras.applications.VGG19(include_top=False, weights=None).save_weights(tmp_path / "vgg19.h5")
    assert "layer block4_conv1 has the shapes 3x3x256x512, 512, in its place the file has block3_conv4" in refuse(
        tmp_path / "vgg19.h5"
    )
    assert "layer block3_conv4 has the shapes 3x3x256x256, 256, in its place the file has block4_conv1" in refuse(
        keras_file, "vgg19"
    )


def test_layers_of_another_shape_are_refused(keras_file: Path, tmp_path: Path) -> None:
    (tmp_path / "narrow.h5").write_bytes(keras_file.read_bytes())
    with h5py.File(tmp_path / "narrow.h5", "r+") as file:
        group = file["block3_conv1"]
        kernel = group.attrs["weight_names"][0]
        del group[kernel]
        group[kernel] = np.zeros((3, 3, 128, 64), np.float32)
    assert "the file has block3_conv1 with the shapes 3x3x128x64, 256" in refuse(tmp_path / "narrow.h5")


def test_a_file_that_ends_early_is_refused(keras_file: Path, tmp_path: Path) -> None:
    (tmp_path / "short.h5").write_bytes(keras_file.read_bytes())
    with h5py.File(tmp_path / "short.h5", "r+") as file:
        file.attrs["layer_names"] = file.attrs["layer_names"][:10]
    assert "layer block4_conv1 is missing; the file has 7 layers" in refuse(tmp_path / "short.h5")


def test_keras_newer_layout_is_refused(tmp_path: Path) -> None:
    model = tf_keras.applications.MobileNet(include_top=False, weights=None, alpha=0.25)
    model.save_weights(tmp_path / "mobile.weights.h5")
    assert "no layers with weights in the layout of Keras 2" in refuse(tmp_path / "mobile.weights.h5")
