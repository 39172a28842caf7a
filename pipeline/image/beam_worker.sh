#!/bin/sh
# Starts Beam's worker on Dataflow, which mounts its own folder for staged files writable for root alone: the worker is
# not root. Of a flag that is given twice, Beam's boot program takes the last.
exec /opt/apache/beam/boot "$@" --semi_persist_dir=/tmp/beam
