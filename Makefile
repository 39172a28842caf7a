# Two commands are enough: `make run` and `make test`. Both set up .venv first, if it is not up to date.

SHELL := /bin/bash
PYTHON ?= python3.10
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
UV ?= $(BIN)/uv
VENV_TPU := .venv-tpu
INSTALLED_TPU := $(VENV_TPU)/.installed
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup run test test-slow check format lint types lock clean benchmark preflight rehearse image

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: $(INSTALLED) ## Make .venv from the locked requirements (skipped when nothing changed)

$(INSTALLED): requirements.txt requirements-setup.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 10))' 2>/dev/null || { \
	  echo "Python 3.10 is needed and '$(PYTHON)' is not it: install it (apt install python3.10 python3.10-venv, or pyenv install 3.10), or name it: make PYTHON=/path/to/python3.10 ..." >&2; exit 2; }
	@echo "Setting up .venv: about 260 locked packages, 3.4 GB, one to three minutes, once ..."
	@rm -f $@
	@$(PYTHON) -m venv --clear $(VENV) || { echo "'$(PYTHON) -m venv' failed: on Debian and Ubuntu install python3.10-venv" >&2; exit 2; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-setup.txt
	@UV_LINK_MODE=copy $(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --compile-bytecode -r requirements.txt
	@touch $@
	@echo "Setting up .venv: done."

run: $(INSTALLED) ## Run the pipeline on the embedded digits (ARGS="..." adds options)
	@$(BIN)/python -m pipeline.run_local $(ARGS)

test: $(INSTALLED) ## Run the tests (15 to 30 minutes on 2 cores)
	@$(BIN)/python -m pytest $(ARGS)

test-slow: $(INSTALLED) ## Run the tests that take longer
	@$(BIN)/python -m pytest -m slow $(ARGS)

check: format lint types test ## Format, lint, types, fast tests

format: $(INSTALLED) ## Format the code
	@$(BIN)/ruff format .

lint: $(INSTALLED) ## Lint the code
	@$(BIN)/ruff check .

types: $(INSTALLED) ## Check the types
	@$(BIN)/mypy

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
$(INSTALLED_TPU): requirements-tpu.txt | $(INSTALLED)
	@echo "Setting up $(VENV_TPU): the TPU compiler, 12 locked packages, about 1 GB, once ..."
	@rm -f $@
	@$(BIN)/python -m venv --clear --without-pip $(VENV_TPU)
	@UV_LINK_MODE=copy $(BIN)/uv pip install --quiet --python $(VENV_TPU)/bin/python --require-hashes --compile-bytecode -r requirements-tpu.txt
	@touch $@
	@echo "Setting up $(VENV_TPU): done."

IMAGE ?= image-classification-pipeline:local
STAGES ?= pipeline

image: ## Build the images for Vertex AI (IMAGE=NAME:TAG STAGES="pipeline tpu gpu")
	@PYTHON="$(PYTHON)" pipeline/image/build.sh $(IMAGE) $(STAGES)

benchmark: $(INSTALLED) ## Measure against plain Keras (about 6 minutes)
	@$(BIN)/python -m tests.benchmarks.default_run $(ARGS)

LOCK_IMAGE = $(UV) pip compile --quiet --python-version 3.10 --python-platform x86_64-manylinux_2_28 --generate-hashes \
  --no-emit-index-url --no-emit-find-links --no-annotate --no-emit-package libclang --custom-compile-command "make lock"

lock: ## Resolve pyproject.toml anew into the locked requirements
	@$(UV) pip compile --quiet pyproject.toml --extra dev --extra vertex --python-version 3.10 --python-platform x86_64-manylinux_2_28 \
	  --generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" -o requirements.txt
	@grep -E '^uv==' requirements.txt | sed 's/ *\\$$//' | $(UV) pip compile --quiet - --no-deps --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --no-annotate --custom-compile-command "make lock" -o requirements-setup.txt
	@echo 'jax[tpu]==0.6.2' | $(UV) pip compile --quiet - --python-version 3.10 --python-platform x86_64-manylinux_2_31 \
	  --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --custom-compile-command "make lock" -o requirements-tpu.txt
	@# Beam's boot program asks pip whether Beam is there. libclang is TensorFlow's for its build alone.
	@echo pip | $(LOCK_IMAGE) - pyproject.toml --extra vertex -c requirements.txt --no-emit-package tensorflow -o pipeline/image/requirements.txt
	@for build in cpu tpu; do grep -oE '^tensorflow==[^ ]+' requirements.txt | sed "s/tensorflow/&-$$build/" \
	  | $(LOCK_IMAGE) - --no-deps -o pipeline/image/$$build.txt || exit 1; done
	@grep -oE '^tensorflow==[^ ]+' requirements.txt | sed 's/tensorflow/&[and-cuda]/' | $(LOCK_IMAGE) - -c requirements.txt -o pipeline/image/gpu.txt

clean: ## Remove .venv, .venv-tpu and the default output
	rm -rf $(VENV) $(VENV_TPU) output
