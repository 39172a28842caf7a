"""Beam's flags of a step in its own process: no runner is downloaded, and nothing is packed for workers."""

import subprocess
import sys

from pipeline.in_process_beam import IN_PROCESS_BEAM_ARGS
from pipeline.vertex.sources import ROOT

WITHOUT_NETWORK = """
import socket, subprocess, sys, urllib.request
def refuse(*_, **__):
    print("the network or a program was asked for", file=sys.stderr, flush=True)
    raise AssertionError
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = urllib.request.urlopen = refuse
import apache_beam as beam
from apache_beam.testing.util import assert_that, equal_to
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
subprocess.Popen = refuse

class Executor(BaseBeamExecutor):
    def Do(self, *_):
        with self._make_beam_pipeline() as pipeline:
            assert_that(pipeline | beam.Create([1, 2]) | beam.Map(lambda x: 2 * x), equal_to([2, 4]))
        print(type(pipeline.runner).__name__, *self._beam_pipeline_args)

sys.argv[1:], args = [], sys.argv[1:]
Executor(BaseBeamExecutor.Context(beam_pipeline_args=args)).Do({}, {}, {})
"""


def test_a_step_asks_for_no_runner_and_packs_nothing_without_a_network(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_NETWORK, *IN_PROCESS_BEAM_ARGS],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "was asked for" not in done.stderr
    runner, *args = done.stdout.split()
    assert runner == "FnApiRunner"
    assert not [word for word in args if word.startswith(("--extra_package", "--setup_file"))]
