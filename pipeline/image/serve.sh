#!/bin/sh
# Starts the server in its container: `serve [OPTIONS OF pipeline.serve]`; any other command is run as it is.
[ "${1:-}" = serve ] || exec "$@"
shift
# Vertex AI names a folder of its own.
[ -n "${AIP_STORAGE_URI:-}" ] || set -- --model /opt/ml/model "$@"
# Words, of a platform that gives no arguments, such as SageMaker.
# shellcheck disable=SC2086
set -- ${SERVE_OPTIONS:-} "$@"
# All may reach it: what may not is kept out around the container. The last --host and --model count.
exec python -m pipeline.serve --host 0.0.0.0 --log - "$@"
