# Two commands are enough: `make run` and `make test`. Both choose the lane that this machine can have (pipeline/lanes.py;
# LANE= and PYTHON= overrule) and set up its environment first, if it is not up to date.

SHELL := /bin/bash
# Any Python from 3.8 on tells which lane it is: the one on the PATH, or pyenv's, whose stand-ins may choose none.
CHOICE := $(shell for python in $(PYTHON) python3 python3.10 /usr/bin/python3 $${PYENV_ROOT:-$$HOME/.pyenv}/versions/3*/bin/python3; do \
  "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 8))' 2>/dev/null && LANE='$(LANE)' PYTHON='$(PYTHON)' exec "$$python" pipeline/lanes.py; \
  done; echo "error: no Python from 3.8 on was found; install one, or name it: make PYTHON=/path/to/python3 ...")
export CHOICE
ifeq ($(filter tfx-%,$(word 1,$(CHOICE))),)
VENV := .no-lane
else
CHOSEN_LANE := $(word 1,$(CHOICE))
CHOSEN_PYTHON := $(word 2,$(CHOICE))
VENV := $(word 3,$(CHOICE))
endif
LOCKS := locks/$(CHOSEN_LANE)
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
UV ?= $(BIN)/uv
VENV_TPU := .venv-tpu
INSTALLED_TPU := $(VENV_TPU)/.installed
ARGS ?=
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help setup run test test-quick test-slow test-py313 check format format-check lint types pictures lock clean benchmark preflight rehearse image

help: ## Show this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(INSTALLED) ## Make the lane's environment from its lock (skipped when nothing changed)

# What cannot be chosen is said where it is needed, so that `make help` and `make clean` always work.
.no-lane/.installed:
	@echo "$$CHOICE" >&2; exit 2

# pyfarmhash comes as C++ source.
%/.installed: $(LOCKS)/environment.txt locks/setup.txt
	@command -v g++ >/dev/null && "$(CHOSEN_PYTHON)" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' || { \
	  version="$$("$(CHOSEN_PYTHON)" -c 'import sys; print("{}.{}".format(*sys.version_info))')"; \
	  echo "error: a locked package comes as C++ source, and g++ or Python.h is missing; on Debian and Ubuntu: apt install g++ python$$version-dev" >&2; exit 2; }
	@[ ! -L $(VENV) ] || { echo "error: $(VENV) is a link, and setting it up anew would empty $$(readlink -f $(VENV)); remove the link" >&2; exit 2; }
	@echo "Setting up $(VENV) ($(CHOSEN_LANE)): about 270 locked packages, 3.9 GB, one to three minutes, once ..."
	@rm -f $@
	@"$(CHOSEN_PYTHON)" -m venv --clear $(VENV) || { echo "'$(CHOSEN_PYTHON) -m venv' failed: on Debian and Ubuntu install $(notdir $(CHOSEN_PYTHON))-venv" >&2; exit 2; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r locks/setup.txt
	@UV_LINK_MODE=copy $(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --compile-bytecode -r $(LOCKS)/environment.txt
	@touch $@
	@echo "Setting up $(VENV): done."

run: $(INSTALLED) ## Run the pipeline on the embedded digits (ARGS="..." adds options)
	@$(BIN)/python -m pipeline.run_local $(ARGS)

# Files stay whole, for what their tests share, and in the order of tests/conftest.py: the longest first.
PYTEST = $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test: $(INSTALLED) ## Run the tests (about 10 minutes on 2 cores)
	@$(PYTEST) $(ARGS)

# What neither trains nor runs a node.
QUICK := $(filter-out tests/test_vertex_compile.py,$(wildcard $(foreach name,data_* vertex_* *_settings arrows code_hash \
  command_line config dependencies display docs lanes rehearse_checks run_vertex summary trainer_recipes,tests/test_$(name).py)))

test-quick: $(INSTALLED) ## Run the tests that need no minute together
	@$(PYTEST) $(QUICK) $(ARGS)

test-slow: $(INSTALLED) ## Run the tests that take longer
	@$(BIN)/python -m pytest -m slow $(ARGS)

test-py313: ## Run digits and tests on TFX 1.21 in a Debian 13 root (as root, 4.5 GB, once 6 minutes; ARGS="tests/test_x.py")
	@tests/py313.sh $(if $(ARGS),pytest $(ARGS),full)

check: format-check lint types test ## All that CI checks: format, lint, types, tests; changes no file

format: $(INSTALLED) ## Format the code
	@$(BIN)/ruff format .

format-check: $(INSTALLED) ## Check the format
	@$(BIN)/ruff format --check .

lint: $(INSTALLED) ## Lint the code
	@$(BIN)/ruff check .

types: $(INSTALLED) ## Check the types
	@$(BIN)/mypy

pictures: $(INSTALLED) ## Draw docs/*.svg anew from the code
	@TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/python -m docs.draw_design

preflight: $(INSTALLED) $(INSTALLED_TPU) ## Compile the training step for a TPU, without one (ARGS="--tpu v5e:2x2 --preset photos")
	@$(BIN)/python -m pipeline.preflight $(ARGS)

REHEARSAL := output/digits-rehearsal

rehearse: $(INSTALLED) ## Compile the digits for Vertex AI (TPU, Dataflow, endpoint) and run that spec on this machine
	@mkdir -p $(REHEARSAL)
	@$(BIN)/python -m pipeline.run_vertex --preset digits --project rehearsal --region us-central1 \
	  --pipeline-root gs://rehearsal/root --image us-docker.pkg.dev/rehearsal/images/pipeline:local \
	  --tpu v5e-4 --beam-runner dataflow --endpoint digits --compile-only $(REHEARSAL)/spec.json
	@$(BIN)/python -m pipeline.rehearse $(REHEARSAL)/spec.json --output-dir $(REHEARSAL) $(ARGS)

# An environment of its own: JAX's ml-dtypes and numpy clash with those of TensorFlow 2.16.
$(INSTALLED_TPU): locks/tpu-compiler.txt | $(INSTALLED)
	@echo "Setting up $(VENV_TPU): the TPU compiler, 12 locked packages, about 1 GB, once ..."
	@rm -f $@
	@$(BIN)/python -m venv --clear --without-pip $(VENV_TPU)
	@UV_LINK_MODE=copy $(BIN)/uv pip install --quiet --python $(VENV_TPU)/bin/python --require-hashes --compile-bytecode -r locks/tpu-compiler.txt
	@touch $@
	@echo "Setting up $(VENV_TPU): done."

IMAGE ?= image-classification-pipeline:local
STAGES ?= pipeline

image: ## Build the images for Vertex AI and for serving (IMAGE=NAME:TAG STAGES="pipeline tpu gpu serving")
	@[ -n "$(CHOSEN_LANE)" ] || { echo "$$CHOICE" >&2; exit 2; }
	@PYTHON="$(CHOSEN_PYTHON)" LANE="$(CHOSEN_LANE)" pipeline/image/build.sh $(IMAGE) $(STAGES)

benchmark: $(INSTALLED) ## Measure against plain Keras (about 6 minutes)
	@$(BIN)/python -m tests.benchmarks.default_run $(ARGS)

LOCK = $(UV) pip compile --quiet --generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"
LOCK_1.16 = $(LOCK) --python-version 3.10 --python-platform x86_64-manylinux_2_28
# One lock for every Python of the lane, with markers where they differ.
LOCK_1.21 = $(LOCK) --python-version 3.11 --universal
# An image has one Python. libclang is TensorFlow's for its build alone.
IMAGE_1.16 = $(LOCK_1.16) --no-annotate --no-emit-package libclang
IMAGE_1.21 = $(LOCK) --python-version 3.13 --python-platform x86_64-manylinux_2_39 --no-annotate --no-emit-package libclang

lock: lock-1.16 lock-1.21 ## Resolve pyproject.toml anew into the locks of both lanes
	@grep -E '^uv==' locks/tfx-1.21/environment.txt | sed 's/ *\\$$//' | $(LOCK) - --no-deps --no-annotate -o locks/setup.txt
	@echo 'jax[tpu]==0.6.2' | $(LOCK) - --python-version 3.10 --python-platform x86_64-manylinux_2_31 --no-annotate -o locks/tpu-compiler.txt

lock-%:
	@$(LOCK_$*) pyproject.toml --extra dev --extra vertex --extra aws --extra export -o locks/tfx-$*/environment.txt
	@# Beam's boot program asks pip whether Beam is there.
	@echo pip | $(IMAGE_$*) - pyproject.toml --extra vertex --extra export -c locks/tfx-$*/environment.txt --no-emit-package tensorflow -o locks/tfx-$*/image.txt
	@tensorflow=$$(grep -oE '^tensorflow==[^ ]+' locks/tfx-$*/environment.txt); \
	  echo "$${tensorflow/tensorflow/tensorflow-cpu}" | $(IMAGE_$*) - --no-deps -o locks/tfx-$*/cpu.txt && \
	  echo "$${tensorflow/tensorflow/tensorflow[and-cuda]}" | $(IMAGE_$*) - -c locks/tfx-$*/environment.txt -o locks/tfx-$*/gpu.txt && \
	  echo "$$tensorflow" | $(IMAGE_$*) - locks/serving.in -c locks/tfx-$*/environment.txt --no-emit-package tensorflow -o locks/tfx-$*/serving.txt && \
	  $(IMAGE_$*) locks/tfx-$*/tpu.in --no-deps -o locks/tfx-$*/tpu.txt

clean: ## Remove the environments and the default output
	rm -rf .venv .venv-tfx-1.21 $(VENV_TPU) output
