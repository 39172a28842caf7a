#!/bin/bash
# The lane of TFX 1.21 on a machine that cannot have it: in a Debian 13 root, with Python 3.13, through make as a user's.
#
#   tests/py313.sh [full]                 digits to a push, then the tests that touch TFX, TensorFlow and Beam
#   tests/py313.sh smoke                  less of it, in 12 minutes at most; no root to be had is one line and no failure
#   tests/py313.sh pytest [ARGUMENTS]     any tests there
#   tests/py313.sh tpu                    the Trainer's with the TPU build, off a TPU, and what it exchanges with TensorFlow's
#
# The root (4.5 GB, about 6 minutes, once) is in the user's cache and called after the locks. It needs the right to
# mount and chroot, as root of a machine or of a privileged container. The host's files are not touched: the tests
# run on a copy of the checkout.
set -euo pipefail
cd "$(dirname "$0")/.."
mode=${1:-full}
case $mode in full | smoke | pytest | tpu) ;; *) echo "error: the mode is '$mode'; use full, smoke, pytest or tpu" >&2; exit 2 ;; esac
# Only a small run, which is part of others, has no time to lose.
MAKE_SECONDS=infinity SMOKE_SECONDS=720
[[ $mode == smoke ]] && MAKE_SECONDS=600
LANE=tfx-1.21
PACKAGES=python3,python3-venv,python3-dev,g++,make,ca-certificates
SMOKE=(tests/test_lanes.py tests/test_code_hash.py tests/test_data_decode.py tests/test_in_process_beam.py
  tests/test_create_pipeline.py tests/test_vertex_compile.py tests/test_evaluator_config.py tests/test_trainer_run_fn.py
  tests/test_serving_validator.py tests/test_report_gen.py tests/test_serve_process.py)
FULL=("${SMOKE[@]}" tests/test_transform_*.py tests/test_image_example_gen.py tests/test_evaluator_*.py tests/test_local_runner.py
  tests/test_run_local.py tests/test_end_to_end.py tests/test_trainer_*.py tests/test_report_*.py tests/test_vertex_*.py)

# Without a root there is nothing to test: no failure of a small run, which is part of others.
no_root() {
  echo "Python 3.13 not tested: $*"
  [[ $mode == smoke ]] && exit 0
  exit 2
}

[[ $(id -u) == 0 ]] || no_root "a Debian 13 root is made and entered by root alone"
unshare --mount true 2>/dev/null || no_root "this machine allows no mounts (unshare --mount)"
cache=${XDG_CACHE_HOME:-$HOME/.cache}/image-classification-pipeline
key=$(cat locks/setup.txt locks/$LANE/environment.txt <(echo "$PACKAGES") | sha256sum | cut -c 1-12)
root=$cache/py313-$key
mkdir -p "$cache"
exec 9>"$cache/py313.lock"
flock 9 # one at a time: they share /work

# Runs a command in the root, in a mount namespace of its own that ends with it.
enter() {
  local place=$1 downloads=${UV_CACHE_DIR:-$HOME/.cache/uv}
  mkdir -p "$downloads" "$place/work" "$place/root/.cache/uv"
  unshare --mount bash -c '
    set -e
    place=$1 downloads=$2
    mount --make-rprivate /
    for folder in proc dev sys; do mount --rbind /$folder "$place/$folder"; done
    mount --bind "$downloads" "$place/root/.cache/uv"
    # What the host trusts and how it finds names, for the package index.
    touch "$place/etc/resolv.conf"
    mount --bind "$(realpath /etc/resolv.conf)" "$place/etc/resolv.conf"
    [ ! -d /etc/ssl/certs ] || mount --bind /etc/ssl/certs "$place/etc/ssl/certs"
    shift 2
    exec chroot "$place" /usr/bin/env -i PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin HOME=/root LANG=C.UTF-8 "$@"
  ' bash "$place" "$downloads" "${@:2}"
}

# Copies the checkout, as it is on the disk, and keeps the environment, which the root's name says is up to date.
copy_checkout() {
  mkdir -p "$1/work"
  find "$1/work" -mindepth 1 -maxdepth 1 ! -name ".venv-$LANE" -exec rm -rf {} +
  tar --exclude-vcs --exclude='./.venv*' --exclude='./output' --exclude='__pycache__' -cf - . | tar -xf - -C "$1/work"
  [[ ! -e $1/work/.venv-$LANE/.installed ]] || touch "$1/work/.venv-$LANE/.installed"
}

# The host's settings of the package index, if it has some.
mapfile -t settings < <(
  env | grep -Ei '^((PIP|UV)_[A-Z_]*(INDEX|CERT|TRUSTED_HOST|TIMEOUT)[A-Z_]*|SSL_CERT_(FILE|DIR)|(HTTPS?|ALL|NO)_PROXY)=' || true
)

make_root() {
  local new=$root.new
  if [[ ! -e $new/.debian ]]; then # else what a try without a package index has left
    rm -rf --one-file-system "$new"
    timeout "$MAKE_SECONDS" debootstrap --variant=minbase --include="$PACKAGES" trixie "$new" >"$cache/py313.log" 2>&1 || return 1
    touch "$new/.debian"
  fi
  copy_checkout "$new"
  [[ $MAKE_SECONDS == infinity ]] || MAKE_SECONDS=$((MAKE_SECONDS - SECONDS > 1 ? MAKE_SECONDS - SECONDS : 1))
  timeout --kill-after=10 "$MAKE_SECONDS" bash -c "$(declare -f enter)"'; enter "$@"' bash "$new" "${settings[@]}" make -C /work setup >>"$cache/py313.log" 2>&1 || return 1
  mv "$new" "$root"
  # Those of other locks.
  find "$cache" -maxdepth 1 -name 'py313-*' ! -name "py313-$key" -exec rm -rf --one-file-system {} +
}

if [[ ! -d $root ]]; then
  if ! command -v debootstrap >/dev/null && command -v apt-get >/dev/null; then
    { timeout 120 apt-get update; timeout 120 apt-get install -y --no-install-recommends debootstrap; } >/dev/null 2>&1 || true
  fi
  command -v debootstrap >/dev/null || no_root "debootstrap is not installed (apt install debootstrap)"
  echo "Making a Debian 13 root in $root: about 6 minutes and 4.5 GB, once ..."
  make_root || no_root "the root could not be made in time, or without a network: $(grep -E '^ *(E:|error|ERROR|cause)' "$cache/py313.log" | tail -n 1)"
fi
copy_checkout "$root"
run() { enter "$root" TF_CPP_MIN_LOG_LEVEL=3 "$@"; }
case $mode in
  pytest) run make -C /work test ARGS="${*:2}" ;;
  full)
    run make -C /work run ARGS="--output-dir /work/output/digits"
    run make -C /work test ARGS="${FULL[*]}"
    ;;
  tpu)
    # What the `tpu` image has, and pytest; beside /work, which is copied anew.
    run "${settings[@]}" UV_LINK_MODE=copy bash -ec '
      cd /work
      locks=locks/$0 bin=.venv-$0/bin
      place=/opt/tpu-$(cat $locks/{image,tpu}.txt | sha256sum | cut -c 1-12)
      if [[ ! -e $place/.installed ]]; then
        python3 -m venv --clear --without-pip $place
        install=("$bin/uv" pip install --quiet --python $place/bin/python)
        for lock in image tpu; do "${install[@]}" --no-deps --require-hashes -r $locks/$lock.txt; done
        "${install[@]}" -c $locks/environment.txt pytest pytest-timeout
        touch $place/.installed
      fi
      # Off a TPU libtpu would wait for a metadata server, and it takes the whole machine for one process.
      export TPU_SKIP_MDS_QUERY=1 ALLOW_MULTIPLE_LIBTPU_LOAD=1
      # This build has no XLA for CPUs, which lowering for preflight and the ConvNeXt of Keras take.
      left_out="xla or test_trainer_lowering or (keras_own_features and convnext)"
      $place/bin/python -m pytest -k "not ($left_out)" tests/test_trainer_*.py
      TPU_PYTHON=$place/bin/python $bin/python -m pytest -m slow tests/test_tensorflow_exchange.py
    ' $LANE
    ;;
  smoke)
    # With what making the root has taken: a small run is a part of others.
    SMOKE_SECONDS=$((SMOKE_SECONDS - SECONDS > 60 ? SMOKE_SECONDS - SECONDS : 60))
    # The first failure ends it: what is stopped has had none.
    timeout --kill-after=60 $SMOKE_SECONDS bash -c "root='$root'; $(declare -f enter run)"'
      run make -C /work run ARGS="--output-dir /work/output/digits" && run make -C /work test ARGS="-x $1"
    ' bash "${SMOKE[*]}" || {
      status=$?
      [[ $status == 124 ]] || exit $status
      echo "Python 3.13: not all tested in $SMOKE_SECONDS s, no failure up to then"
    }
    ;;
esac
