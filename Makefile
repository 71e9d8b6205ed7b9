# Two commands do everything, set-up included: `make repro` runs the pipeline on the embedded sample, `make test` checks
# the code. Nothing but python3 (3.11 to 3.13) and git is needed beforehand.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true
export DO_NOT_TRACK := true
# How long a thread that waits spins before it sleeps. Measured on two cores, seconds a training step: 1.06; with no
# spinning 1.56; with libgomp's own 1.35, and beside any other busy process tens.
export GOMP_SPINCOUNT := 10000
export PATH := $(CURDIR)/$(RUN):$(PATH)

.PHONY: repro test integration setup lock image image-serve image-gpu sbom e2e bench monitor clean

repro: setup
	dvc repro
	@echo "report: work/report/index.html    registered: work/register/version.json"

test: setup
	ruff format --check .
	ruff check .
	mypy
	lint-imports
	pytest -n 2 -m "not s3 and not containers"

# What needs a real S3 server (Ceph, which OAPSEG_TEST_INSTALL=1 lets the tests install) or the image and podman.
integration: setup
	pytest -m "s3 or containers"

setup: $(VENV)/.installed

$(VENV)/.installed: requirements.lock pyproject.toml
	test -x $(RUN)/python || $(PYTHON) -m venv $(VENV)
	$(RUN)/python -m pip install --quiet --disable-pip-version-check uv
	$(RUN)/uv pip install --quiet --python $(RUN)/python --require-hashes -r requirements.lock
	$(RUN)/uv pip install --quiet --python $(RUN)/python --no-deps --editable .
	touch $@

lock:
	$(RUN)/uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-header --quiet -o requirements.lock
	$(RUN)/uv pip compile pyproject.toml images/requirements.in --extra train --extra registry --extra serve \
	  --constraint requirements.lock --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-header --quiet -o images/requirements.lock

# Images, by buildah, podman or docker; what they hold; and the pipeline in them, on real S3 and a registry's server.
image:
	images/build.sh cpu

image-serve:
	images/build.sh serve

image-gpu:
	images/build.sh gpu

sbom: image
	mkdir -p build
	set -e; engine=$$(command -v podman || command -v docker); created=$$($$engine create localhost/oapseg:cpu); \
	  $$engine cp $$created:/venv/sbom.cdx.json build/oapseg-cpu.cdx.json; $$engine rm $$created > /dev/null

e2e: setup
	python -m tests.e2e.run $(E2E)

# Those that need no model, run or server of one's own; half an hour.
bench: setup
	set -e; for name in loader train_step oap generators crf score serve; do python benchmarks/$$name.py; done

# A Prometheus beside a run on this machine, with the alert rules: OAPSEG_METRICS_PORT=9108 dvc repro, in another shell.
monitor:
	k8s/monitoring/local.sh

clean:
	rm -rf work data mlruns mlartifacts mlflow.db mlflow.db.lock promotions
