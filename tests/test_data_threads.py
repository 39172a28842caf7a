"""Beam steps that work in threads."""

import threading
import time

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to

from data import threads
from data.threads import FlatMapInThreads, WorkInThreads
from pipeline.in_process_beam import IN_PROCESS_BEAM_ARGS


class Watched(WorkInThreads):
    """Later elements are ready earlier; counts how many are handed over and not yet yielded."""

    names: set = set()
    running = most = 0
    lock = threading.Lock()

    def work(self, element):
        with self.lock:
            Watched.running += 1
            Watched.most = max(Watched.most, Watched.running)
            Watched.names.add(threading.current_thread().name)
        time.sleep(0.002 * (3 - element % 4))
        with self.lock:
            Watched.running -= 1
        return [element, -element]


@pytest.fixture(autouse=True)
def three_threads(monkeypatch):
    monkeypatch.setattr(threads, "thread_count", lambda: 3)


def run_do_fn(do_fn, elements):
    """Returns what each call yields, as the runner makes them."""
    do_fn.start_bundle()
    calls = [list(do_fn.process(element)) for element in elements]
    return calls, [output.value for output in do_fn.finish_bundle()]


def test_results_come_in_order_from_several_threads():
    calls, rest = run_do_fn(Watched(), range(50))
    assert [*(output for call in calls for output in call), *rest] == [x for i in range(50) for x in (i, -i)]
    assert len(Watched.names) == Watched.most == 3


def test_a_bounded_number_of_elements_is_under_way():
    taken = []
    do_fn = FlatMapInThreads(lambda element: [element])
    do_fn.start_bundle()
    for i in range(30):
        taken += do_fn.process(i)
        assert i + 1 - len(taken) < 12
    assert len(list(do_fn.finish_bundle())) == 11


def test_an_error_ends_the_step():
    with pytest.raises(ZeroDivisionError):
        run_do_fn(FlatMapInThreads(lambda element: [1 / element]), [2, 1, 0])


def test_a_pipeline_sees_all_of_them_also_by_tag():
    def tag(element):
        return [beam.pvalue.TaggedOutput("odd", element)] if element % 2 else [element]

    with beam.Pipeline(argv=list(IN_PROCESS_BEAM_ARGS)) as pipeline:
        parts = pipeline | beam.Create(range(20)) | beam.ParDo(FlatMapInThreads(tag)).with_outputs("odd", main="even")
        for name, first in (("even", 0), ("odd", 1)):
            assert_that(parts[name], equal_to(list(range(first, 20, 2))), label=name)
