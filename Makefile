# make demo: from an empty machine to runs/demo/report.html; make test: the whole test suite.
# make test-robosuite: the tests of the Robosuite tasks, in an environment of their own.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: demo test test-fast test-robosuite lint bench clean

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,test]'
	touch $@

.venv/.linters: $(STAMP)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: $(STAMP)
	$(BIN)/geoflow demo

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadscope

test-fast: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadscope -m "not slow"

# robosuite needs older mujoco and numpy than the rest.
.venv-robosuite/.installed: pyproject.toml constraints-robosuite.txt
	$(PYTHON) -m venv .venv-robosuite
	.venv-robosuite/bin/pip install --quiet --disable-pip-version-check -c constraints-robosuite.txt -e '.[all,robosuite]' pytest
	touch $@

test-robosuite: .venv-robosuite/.installed
	.venv-robosuite/bin/python -m pytest tests/envs/test_robosuite.py

lint: .venv/.linters
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

bench: $(STAMP)
	$(BIN)/geoflow bench lie

clean:
	rm -rf .venv .venv-robosuite runs build dist
