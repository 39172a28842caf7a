"""Beam's flags of a step that runs in its own process, on this machine or in a container of Vertex AI."""

IN_PROCESS_BEAM_ARGS = (
    # By its full name: the default runner of Beam from 2.61 on downloads a program (Prism) at run time.
    "--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner",
    # An image that this runner does not use: without one, TFX packs its own source for remote workers in every Beam
    # step, 2 to 6 s each.
    "--sdk_container_image=none",
)
"""Part of every node's cache key: leave it constant."""
