#!/bin/bash
# Builds stages of the Dockerfile: pipeline/image/build.sh NAME:TAG [STAGE...]   (stages: pipeline tpu gpu serving; default: pipeline)
#
# From the environment: ENGINE (docker, podman or buildah; default: the first of them that answers), BUILD_FLAGS (for
# the engine), the Dockerfile's arguments LANE, PYTHON_IMAGE, BEAM_IMAGE, LIBTPU_URL, LIBTPU_SHA256, SERVING_USER, and PYTHON (3.10 or
# later; it needs no packages).
set -euo pipefail
cd "$(dirname "$0")/../.."

fail() { echo "error: $*" >&2; exit 2; }

image=${1:-}
[[ ${image##*/} == *:* && $image != *@* ]] || fail "the image is '$image'; give it a name and a tag, such as us-docker.pkg.dev/P/R/pipeline:v1"
stages=("${@:2}")
[[ ${#stages[@]} -gt 0 ]] || stages=(pipeline)
for stage in "${stages[@]}"; do
  [[ $stage =~ ^(pipeline|tpu|gpu|serving)$ ]] || fail "the stage is '$stage'; use pipeline, tpu, gpu, serving"
done

lanes=(locks/tfx-*)
known=${lanes[*]#locks/}
LANE=${LANE:-$(sed -n 's/^ARG LANE=//p' Dockerfile)}
[[ -d locks/$LANE ]] || fail "LANE is '$LANE'; use ${known// / or }"
# By name: buildah 1.28 passes over a stage that only the default of an argument names.
PYTHON_IMAGE=${PYTHON_IMAGE:-python-$LANE} BEAM_IMAGE=${BEAM_IMAGE:-beam-$LANE}

# An installed docker is not yet one that builds: its daemon must answer.
if [[ -z ${ENGINE:-} ]]; then
  for ENGINE in docker podman buildah ""; do
    [[ -n $ENGINE ]] && command -v "$ENGINE" >/dev/null && "$ENGINE" info >/dev/null 2>&1 && break
  done
fi
case $ENGINE in
  docker | podman) build=("$ENGINE" build) ;;
  buildah) build=(buildah bud) ;;
  "") fail "no container engine answers: start docker, or install podman or buildah" ;;
  *) fail "ENGINE is '$ENGINE'; use docker, podman or buildah" ;;
esac

build+=(--build-arg "SOURCES_HASH=$("${PYTHON:-python3}" -m pipeline.vertex.sources)")
for name in LANE PYTHON_IMAGE BEAM_IMAGE LIBTPU_URL LIBTPU_SHA256 SERVING_USER; do
  [[ -z ${!name:-} ]] || build+=(--build-arg "$name=${!name}")
done
for stage in "${stages[@]}"; do
  # As pipeline.vertex.worker_pools derives the Trainer's image from the pipeline's.
  tag=$image
  [[ $stage == pipeline ]] || tag=$image-$stage
  echo "Building $tag with $ENGINE ..."
  # BUILD_FLAGS are words.
  # shellcheck disable=SC2086
  "${build[@]}" ${BUILD_FLAGS:-} --target "$stage" --tag "$tag" --file Dockerfile .
done
