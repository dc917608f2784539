# make setup   the environment in .venv, from constraints.txt
# make study   the first study on real images, and its report
# make test    the whole test suite
# make lint    ruff and mypy
# make lock    constraints.txt anew, from what is current
# make wheelhouse    the wheels that a bare machine with an accelerator lacks, in wheelhouse/

PYTHON ?= python3
BIN := .venv/bin
WHEELHOUSE_PYTHON ?= 3.12

.PHONY: setup study test lint lock wheelhouse

setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[cpu,dev,pretrained]'
	touch $@

study: setup
	$(BIN)/python -m launch.sweep --experiment=quickstart --workdir=runs/quickstart

test: setup
	$(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lock:
	$(PYTHON) -m venv .venv/lock
	.venv/lock/bin/python -m pip install --quiet uv
	.venv/lock/bin/uv pip compile pyproject.toml --extra cpu --extra dev --extra pretrained --universal --python-version 3.11 \
		--no-header --no-annotate --output-file constraints.txt

wheelhouse: setup
	$(BIN)/python -m tests.accelerator.wheelhouse --output=wheelhouse --python=$(WHEELHOUSE_PYTHON)
