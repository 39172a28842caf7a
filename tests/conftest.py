"""What all tests share: an order that keeps two processes busy, and memory that goes back after each file."""

import contextlib
import ctypes
import fcntl
import functools
import gc
import itertools
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MethodType, SimpleNamespace
from typing import Any
from weakref import WeakKeyDictionary

import pytest

# Minutes each: started last, one of them would run alone. Among them are those whose processes import TensorFlow, too,
# while this one is still small. Files that are not named follow in their own order.
LONGEST = (
    "test_end_to_end",
    "test_serving_validator",
    "test_model_converter",
    "test_evaluator_executor",
    "test_scoring",
    "test_trainer_recipe_runs",
    "test_serve_page",
    "test_report_page",
    "test_trainer_resume",
    "test_trainer_run_fn",
    "test_image_example_gen",
    "test_trainer_weights",
    "test_tuner_search",
    "test_report_gen",
    "test_trainer_prefix_cache",
    "test_preflight",
)
# Of processes that start from here, workers among them: memory that threads gave back is not kept for each of them.
os.environ.setdefault("MALLOC_ARENA_MAX", "2")
# As each command sets it; else TensorFlow imports Keras 3, too, and that IPython: 1.3 s of 4.6, in each process.
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
_LIBC = ctypes.CDLL(None)
# Blocks from 4 MiB on, most of a model's weights, go back to the system once they are freed. glibc's own bound grows to
# the largest block that was freed.
_LIBC.mallopt(-3, 4 << 20)  # M_MMAP_THRESHOLD
_MUCH = 100 << 20  # bytes that a test left: a whole network's weights
_resident_after_collection = [0]


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Looks for no garbage while all is imported, which leaves hardly any: an eighth of the time that it takes."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


def pytest_collection_finish() -> None:
    """Leaves what was imported out of the collections of garbage to come.

    Python collects all only once a quarter of all long-lived objects are new: with TensorFlow, TFX and Beam imported it
    hardly ever did, while models, which hold themselves in cycles, piled up.
    """
    if "apache_beam" in sys.modules:
        _spare_beam_repetitions()
    if rules := sys.modules.get("tensorflow.python.autograph.core.config"):
        # TensorFlow rewrites the code of what it traces, for seconds; not its own, and from 2.21 on not tf_keras's.
        rules.CONVERSION_RULES += tuple(map(rules.DoNotConvert, ("tf_keras", "tensorflow_transform")))
        # It keeps the stack of Python's calls, pytest's among them, with each operation: a seventh of what one takes.
        stacks = sys.modules["tensorflow.python.util.tf_stack"]
        stack = stacks.extract_stack()
        stacks.extract_stack = lambda stacklevel=1: stack
    gc.collect()
    gc.freeze()


def _spare_beam_repetitions() -> None:
    """Takes from Beam what it repeats in building a pipeline: of a test's, which has next to no data, a third.

    It asks for the signature of each of a step's thirty methods, some ten times a step, and as often whether any wants
    state or timers; for each transform it makes parsers of all command-line flags; it compresses each pickle, in tables
    of megabytes, and sets the level of dill's logger after it, upon which Python forgets of all loggers whether they
    are enabled; and for the size of each side input it lists the globals of all modules.
    """
    from apache_beam.internal import cloudpickle_pickler, dill_pickler
    from apache_beam.options.pipeline_options import PipelineOptions
    from apache_beam.transforms import core, userstate
    from objsize import traverse

    inspect_function, make_view = core.get_function_args_defaults, PipelineOptions.view_as
    find_specs = userstate.get_dofn_specs
    signatures: dict[Any, Any] = {}
    specs: WeakKeyDictionary[type, Any] = WeakKeyDictionary()
    views: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()

    def recall_signature(function: Any) -> tuple[list[str], list[Any]]:
        if not isinstance(function, MethodType):
            return inspect_function(function)
        if function.__func__ not in signatures:
            signatures[function.__func__] = inspect_function(function)
        names, defaults = signatures[function.__func__]
        return list(names), list(defaults)

    def recall_specs(step: Any) -> Any:
        if isinstance(vars(step).get("process"), MethodType):  # of another object
            return find_specs(step)
        if type(step) not in specs:
            specs[type(step)] = find_specs(step)
        return specs[type(step)]

    def recall_view(options: PipelineOptions, kind: type) -> Any:
        found = views.setdefault(options, {})
        if kind not in found:
            found[kind] = make_view(options, kind)
        return found[kind]

    traverse._iter_modules_globals = tuple
    uncompressed = SimpleNamespace(compress=lambda pickled, compresslevel: pickled, decompress=lambda kept: kept)
    dill_pickler.bz2 = cloudpickle_pickler.bz2 = uncompressed
    core.get_function_args_defaults = recall_signature
    userstate.get_dofn_specs = recall_specs
    PipelineOptions.view_as = recall_view
    log = logging.getLogger("dill")
    log.setLevel(logging.WARNING)
    log.setLevel = lambda level: None  # type: ignore[method-assign]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """Gives back what models held: after a file's fixtures are gone, and wherever a test left much.

    What is left then, such as TensorFlow's and Beam's caches, stays to the end, and collections look at it no more.
    """
    yield
    is_last = nextitem is None or nextitem.path != item.path
    if is_last and (keras := sys.modules.get("tf_keras")):
        keras.backend.clear_session()
    if is_last or _resident_bytes() > _resident_after_collection[0] + _MUCH:
        item.funcargs.clear()  # pytest does so only afterwards
        gc.collect()
        _LIBC.malloc_trim(0)
        _resident_after_collection[0] = _resident_bytes()
    if is_last:
        gc.freeze()


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def make_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """Returns a folder that the first process of the session to come fills; nobody writes there afterwards."""
    root = factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root
    folder, made = root / name, root / f"{name}.made"
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            folder.mkdir()
            make(folder)
            made.touch()
    return folder


@pytest.fixture(scope="session")
def transformed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Examples and Transform's output of `tests.trainer_run.make_images`, at 32 pixels; nobody writes there."""
    from tests.trainer_run import transform_images  # imports TFX, which who hands out the tests does without

    return make_once(tmp_path_factory, "transform", transform_images)


@pytest.fixture(scope="module")
def narrow_vgg16() -> Iterator[None]:
    """VGG16 is narrow in the whole file; the fixtures that build one must ask for it."""
    from tests.narrow_vgg import narrow_vgg

    with narrow_vgg():
        yield


@pytest.fixture
def whole_vgg16() -> Iterator[None]:
    """VGG16 is itself in a test of such a file."""
    from tests.narrow_vgg import whole_vgg

    with whole_vgg():
        yield


@functools.cache
def spare_moto_repetitions() -> None:
    """Takes from moto what it looks up for each request: the folders of its own package, and a class's methods."""
    from moto import backends
    from moto.core import responses

    modules = tuple(backends.list_of_moto_modules())
    backends.list_of_moto_modules = lambda: modules
    responses.method_names_from_class = functools.cache(responses.method_names_from_class)


@pytest.fixture(scope="session")
def s3() -> Iterator[Any]:
    """A server that speaks S3, of this process, as boto3's resource."""
    import boto3
    from moto.server import ThreadedMotoServer

    spare_moto_repetitions()
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    session = boto3.session.Session("key", "secret", region_name="us-east-1")
    yield session.resource("s3", endpoint_url=address)
    server.stop()


@pytest.fixture
def bucket(s3: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An empty bucket, `pets`, as boto3's `Bucket`; environment variables alone say how to reach it."""
    from moto.moto_api._internal.models import moto_api_backend

    address = s3.meta.client.meta.endpoint_url
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    yield s3.create_bucket(Bucket="pets")
    moto_api_backend.reset()


def put_objects(bucket: Any, contents: Mapping[str, bytes]) -> None:
    """Puts them straight into the memory of the server, which is of this process: no request for each."""
    from moto.s3.models import s3_backends

    (backend,) = (found for found in s3_backends["123456789012"].values() if bucket.name in found.buckets)
    for key, content in contents.items():
        backend.put_object(bucket.name, key, content)


@pytest.fixture
def faulty(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """What puts a server with a fault in front of S3, for the requests `faulty(fault, text)` whose line holds a text.

    Of these only `times`, after `after` others. It returns the server, which is asked from then on.
    """
    from data.amazon_s3.client import _make_client
    from tests.faulty_s3 import faulty_server

    with contextlib.ExitStack() as stack:

        def start(fault: Any, text: str = "", times: int = 10**6, after: int = 0) -> Any:
            matching = itertools.count()

            def fault_of(handler: Any) -> Any:
                is_meant = text in f"{handler.command} {handler.path}"
                return fault if is_meant and after <= next(matching) < after + times else None

            server = stack.enter_context(faulty_server(bucket.meta.client.meta.endpoint_url, fault_of))
            monkeypatch.setenv("AWS_ENDPOINT_URL", server.address)
            _make_client.cache_clear()
            return server

        yield start
    _make_client.cache_clear()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium without a window."""
    from playwright import sync_api

    from tests.chromium import find_chromium

    chromium = find_chromium()
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()
