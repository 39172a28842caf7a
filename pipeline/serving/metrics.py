"""What the server counts, in Prometheus's text form."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0)
_COUNTS = (1, 2, 4, 8, 16, 32, 64)
CONTENT_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """The counters of one server; each label has few values, whatever clients send."""

    def __init__(
        self, queue: Callable[[], float], held_bytes: Callable[[], float], version: Callable[[], float]
    ) -> None:
        """Registers all; the functions are asked whenever somebody reads."""
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._requests = Counter(
            "serve_requests", "Requests that were answered.", ("route", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "serve_request_seconds",
            "From a request's head to the end of its answer.",
            ("route",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._refused = Counter("serve_refused_images", "Pictures that cannot be used.", registry=self._registry)
        self._batches = Histogram(
            "serve_batch_images", "Images of a call of the model.", buckets=_COUNTS, registry=self._registry
        )
        self._calls = Histogram(
            "serve_model_seconds", "Of a call of the model.", buckets=_SECONDS, registry=self._registry
        )
        self._decoding = Histogram(
            "serve_decode_seconds",
            "From a picture's bytes to the model's input.",
            buckets=_SECONDS,
            registry=self._registry,
        )
        for name, text, function in (
            ("serve_queue_images", "Images that are decoded, wait or are answered.", queue),
            ("serve_held_bytes", "Of the bodies of the requests that are being answered.", held_bytes),
            ("serve_model_version", "The version that answers.", version),
        ):
            Gauge(name, text, registry=self._registry).set_function(function)

    def count_request(self, route: str, status: int, seconds: float) -> None:
        """Counts a request that was answered."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def count_call(self, images: int, seconds: float) -> None:
        """Counts a call of the model."""
        self._batches.observe(images)
        self._calls.observe(seconds)

    def count_picture(self, usable: bool, seconds: float) -> None:
        """Counts a picture that was decoded, or could not be."""
        self._decoding.observe(seconds)
        if not usable:
            self._refused.inc()

    def render(self) -> bytes:
        """Returns all of it as Prometheus reads it."""
        return generate_latest(self._registry)
