# make demo   sets up, trains six small U-Nets and three small VAEs offline; ends with two reports
# make test   installs what tests need too, and passes them
# make test-processors   trains the tests' networks again as other processors would round
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/pip install --quiet --no-compile --constraint constraints.txt --editable

.PHONY: demo test test-slow test-processors test-other-processor lint setup clean

demo: .venv/demo-installed
	$(BIN)/isthmus demo

test: lint
	$(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist loadfile

test-slow: setup
	$(BIN)/pytest -m slow

test-processors: setup
	$(BIN)/python tests/processors.py

# A few of them under one setting, which the commit chooses.
test-other-processor: setup
	$(BIN)/python tests/processors.py --quick --pick "$$(git rev-parse HEAD)"

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

setup: .venv/test-installed

# Each is made again only when what is to be installed has changed. The demo leaves byte code to the
# first import, of what it imports; tests start many processes, so everything is compiled for them.
.venv/demo-installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(INSTALL) '.[demo]'
	touch $@

.venv/test-installed: .venv/demo-installed
	$(INSTALL) '.[dev]'
	$(BIN)/python -m compileall -qq -j 0 .venv/lib || true # some packages ship templates as .py
	touch $@

clean:
	rm -rf .venv dist
