# Two commands do everything: `make run` and `make test`. Each makes what it needs.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SEEDS ?= 3
SANITIZED := build/sanitized

# Some containers forbid Python to keep what it compiles; every command and every test process would compile all modules anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test test-slow test-search sanitize sanitize-threads lint format records docs clean help

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-17s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/run.done  ## train MNIST to 99 % with a few seeds
	$(BIN)/hotlap train mnist --seeds $(SEEDS)

test: $(VENV)/dev.done  ## lint, types and tests, with coverage
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist worksteal --cov --cov-report=term

test-slow: $(VENV)/dev.done  ## the tests that take minutes
	$(BIN)/python -m pytest -m slow

# Everywhere else they are the same at every run: a change is judged by what it changes.
test-search: $(VENV)/dev.done  ## the property tests, with examples that nobody has tried
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "hypothesis and not slow" --hypothesis-profile search

# Built anew in a place of its own: the library that everything else loads stays as it is.
sanitize: $(VENV)/dev.done  ## the kernels' tests, with kernels that watch memory and undefined behaviour (Linux, g++)
	rm -rf $(SANITIZED)
	CXX=g++ HOTLAP_CXXFLAGS="-fsanitize=address,undefined -fno-sanitize-recover=undefined -g -O1" \
	  $(BIN)/python setup.py --quiet build --build-base $(SANITIZED) --build-lib $(SANITIZED)/lib
	test -e $(SANITIZED)/lib/hotlap/native/_kernels.so
	LD_PRELOAD="$$(g++ -print-file-name=libasan.so)" ASAN_OPTIONS=detect_leaks=0 PYTHONPATH=$(SANITIZED)/lib \
	  $(BIN)/python -m pytest tests/native --ignore tests/native/test_build.py

# Only the kernels are watched; what is around them knows nothing of the watcher.
sanitize-threads: $(VENV)/dev.done  ## whole trainings, with kernels that watch for races between threads (Linux, g++)
	rm -rf $(SANITIZED)
	CXX=g++ HOTLAP_CXXFLAGS="-fsanitize=thread -g -O1" \
	  $(BIN)/python setup.py --quiet build --build-base $(SANITIZED) --build-lib $(SANITIZED)/lib
	test -e $(SANITIZED)/lib/hotlap/native/_kernels.so
	LD_PRELOAD="$$(g++ -print-file-name=libtsan.so)" TSAN_OPTIONS=ignore_noninstrumented_modules=1:halt_on_error=1 \
	  PYTHONPATH=$(SANITIZED)/lib setarch -R $(BIN)/python -m pytest tests/native/test_training.py -k "threads or bit"

lint: $(VENV)/dev.done  ## ruff and mypy only
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(VENV)/dev.done  ## let ruff format and mend the code
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

records: $(VENV)/dev.done  ## write everything that follows from the raw runs in records/ anew
	$(BIN)/python -m hotlap.report.record records README.md

docs: $(VENV)/dev.done  ## build the documentation into build/site
	NO_MKDOCS_2_WARNING=1 DISABLE_MKDOCS_2_WARNING=true $(BIN)/mkdocs build --strict --quiet
	@echo "Open build/site/index.html"

clean:  ## remove the environment and caches of this folder; data sets and stored runs stay
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .coverage*

# constraints.txt pins what our own environments are tested with; the package itself accepts a range.
$(VENV)/python.done:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "hotlap needs Python 3.11 or newer, this is $$($(PYTHON) --version): make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

# The kernels are compiled here where there is a C++ compiler, and again when their sources change.
$(VENV)/run.done: $(VENV)/python.done pyproject.toml setup.py constraints.txt $(wildcard src/hotlap/native/kernels/*)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	@touch $@

$(VENV)/dev.done: $(VENV)/run.done
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@
