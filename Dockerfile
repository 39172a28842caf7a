# The images, one stage each. Of the pipeline on Vertex AI:
#
#   pipeline  every step of Vertex AI and the workers of Dataflow: the CPU build of TensorFlow
#   tpu       the Trainer on Cloud TPU: the TPU build and libtpu
#   gpu       the Trainer on NVIDIA GPUs: the CUDA build and NVIDIA's libraries
#
# And, anywhere:
#
#   serving   pipeline.serve, with the CPU build of TensorFlow and little else (docs/serving.md)
#
# `make image` builds them, with the hash of the sources that a container of another checkout's spec refuses.

# Which locks are installed, on which bases: locks/tfx-1.21 or locks/tfx-1.16. `make image` names the lane of the
# environment that compiles specs.
ARG LANE=tfx-1.21
# Bases can be others, or pinned by digest: --build-arg PYTHON_IMAGE=docker.io/library/python@sha256:...
ARG PYTHON_IMAGE=python-${LANE}
ARG BEAM_IMAGE=beam-${LANE}

FROM docker.io/library/python:3.13.5-slim-trixie AS python-tfx-1.21
FROM docker.io/library/python:3.10.18-slim-bookworm AS python-tfx-1.16
# Only Beam's boot program is taken from them; their version is that of apache-beam in the lane's locks.
FROM docker.io/apache/beam_python3.13_sdk:2.77.0 AS beam-tfx-1.21
FROM docker.io/apache/beam_python3.10_sdk:2.60.0 AS beam-tfx-1.16

FROM ${BEAM_IMAGE} AS beam

# What installs, and stays behind.
FROM ${PYTHON_IMAGE} AS installer
ENV UV_LINK_MODE=copy UV_NO_CACHE=1 UV_PYTHON=/opt/venv/bin/python UV_REQUIRE_HASHES=1 UV_COMPILE_BYTECODE=1
WORKDIR /build
ARG LANE
COPY locks/setup.txt locks/${LANE}/*.txt ./
RUN python -m venv /opt/uv \
    && /opt/uv/bin/python -m pip install --no-cache-dir --require-hashes -r setup.txt \
    && python -m venv --without-pip /opt/venv

# What is locked for every image of the pipeline, without TensorFlow itself.
FROM installer AS builder
# pyfarmhash comes as C++. The compiler's version is that of the base's Debian release.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/* \
    && /opt/uv/bin/uv pip install --no-deps -r image.txt

FROM builder AS builder-cpu
# The headers, 400 MB, are for building custom ops.
RUN /opt/uv/bin/uv pip install --no-deps -r cpu.txt \
    && rm -r /opt/venv/lib/python3.*/site-packages/tensorflow/include

# All that the images share, but for the environment itself.
FROM ${PYTHON_IMAGE} AS runtime
COPY --from=beam /opt/apache/beam/boot /opt/apache/beam/boot
COPY pipeline/image/beam_worker.sh /opt/beam_worker.sh
WORKDIR /app
COPY data data
COPY components components
COPY pipeline pipeline
ARG LANE
ARG SOURCES_HASH
# A label that says something else than the image holds would be worse than none.
RUN found="$(python -B -m pipeline.vertex.sources)" \
    && if [ "${found}" != "${SOURCES_HASH}" ]; then \
         echo "error: SOURCES_HASH is '${SOURCES_HASH}', but these sources have ${found}; build with make image" >&2; exit 1; \
       fi \
    && python -m compileall -q . \
    && useradd --create-home --uid 1000 pipeline
LABEL sources-hash=${SOURCES_HASH} \
    lane=${LANE}
# Beam's boot program would make another environment, which does not see this one.
ENV PATH=/opt/venv/bin:${PATH} \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    TF_USE_LEGACY_KERAS=1 \
    RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1
# By number, so that "not root" can be seen without the image's list of users.
USER 1000
# For Dataflow; Vertex AI names the command of each task.
ENTRYPOINT ["/opt/beam_worker.sh"]

FROM runtime AS pipeline
COPY --from=builder-cpu /opt/venv /opt/venv

FROM builder AS builder-tpu
ARG LIBTPU_URL
ARG LIBTPU_SHA256
COPY pipeline/image/fetch_libtpu.py ./
# One's own libtpu first: it is what may be missing. Else it is the locked package's, in its place a link: it is large.
# TensorFlow 2.16's asks for a libtpu that no package index has, hence --no-deps.
RUN if [ -n "${LIBTPU_URL}" ] || ! grep -q '^libtpu==' tpu.txt; then \
         python fetch_libtpu.py --url "${LIBTPU_URL}" --sha256 "${LIBTPU_SHA256}" \
           --symbol "$(cat libtpu-symbol.txt)" --output /opt/libtpu.so || exit; \
       fi \
    && /opt/uv/bin/uv pip install --no-deps -r tpu.txt \
    && for library in /opt/venv/lib/python3.*/site-packages/libtpu/libtpu.so; do \
         [ ! -e "${library}" ] || { [ -e /opt/libtpu.so ] || cp "${library}" /opt/libtpu.so; ln -sf /lib/libtpu.so "${library}"; }; \
       done \
    && rm -r /opt/venv/lib/python3.*/site-packages/tensorflow/include

FROM runtime AS tpu
COPY --from=builder-tpu /opt/libtpu.so /lib/libtpu.so
COPY --from=builder-tpu /opt/venv /opt/venv
# Through PJRT, as v5e needs it.
ENV NEXT_PLUGGABLE_DEVICE_USE_C_API=true \
    TF_PLUGGABLE_DEVICE_LIBRARY_PATH=/lib/libtpu.so

FROM builder AS builder-gpu
# TensorFlow looks beside itself for most of NVIDIA's packages only: 2.21 not for cuSOLVER, without which it sees no GPU,
# 2.16 not for NCCL, without which GPUs do not train together.
RUN /opt/uv/bin/uv pip install --no-deps -r gpu.txt \
    && rm -r /opt/venv/lib/python3.*/site-packages/tensorflow/include \
    && mkdir /opt/venv/cuda \
    && ln -s /opt/venv/lib/python3.*/site-packages/nvidia/*/lib/*.so* /opt/venv/cuda/ \
    && ln -s /opt/venv/lib/python3.*/site-packages/nvidia/cuda_nvcc/bin/* /opt/venv/bin/

FROM runtime AS gpu
COPY --from=builder-gpu /opt/venv /opt/venv
# The driver comes with the machine; Google's has it in /usr/local/nvidia.
ENV LD_LIBRARY_PATH=/opt/venv/cuda:/usr/local/nvidia/lib:/usr/local/nvidia/lib64 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

FROM installer AS builder-serving
RUN /opt/uv/bin/uv pip install --no-deps -r serving.txt -r cpu.txt \
    && rm -r /opt/venv/lib/python3.*/site-packages/tensorflow/include

FROM ${PYTHON_IMAGE} AS serving
WORKDIR /app
COPY data data
COPY components components
COPY pipeline pipeline
RUN python -m compileall -q . \
    && useradd --create-home --uid 1000 server
ARG LANE
LABEL lane=${LANE}
ENV PATH=/opt/venv/bin:${PATH} \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    TF_USE_LEGACY_KERAS=1
COPY --from=builder-serving /opt/venv /opt/venv
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["/app/pipeline/image/ask_health.sh"]
# SageMaker's page asks for root: --build-arg SERVING_USER=0
ARG SERVING_USER=1000
USER ${SERVING_USER}
ENTRYPOINT ["/app/pipeline/image/serve.sh"]
CMD ["serve"]
