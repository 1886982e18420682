# Two commands do everything: `make demo` and `make test`. Both set up .venv on their first run.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := engines/demo/bundle.json
EXPORT_SOURCES := $(shell find export -name '*.py') runtime/anon_runtime/bundle.py runtime/anon_runtime/schedule.py

.DEFAULT_GOAL := help
.PHONY: help demo test lint clean

help:
	@echo "make demo   build the demo engines and anonymize a photograph"
	@echo "make test   run the tests"
	@echo "make lint   run ruff and mypy"
	@echo "make clean  remove .venv, engines and results"

demo: $(DEMO)
	$(BIN)/anon-run "$$($(BIN)/python -c 'from importlib.resources import files; print(files("skimage") / "data/astronaut.png")')" --output out
	@echo "The portrait is in out/astronaut.png"

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) engines/demo out

$(DEMO): $(EXPORT_SOURCES) | $(VENV)/.installed-demo
	$(BIN)/anon-export build demo

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "anon-engines needs Python 3.11 or newer; say which with `make PYTHON=python3.11 ...`")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-demo: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[cpu,export,demo]'
	@touch $@

$(VENV)/.installed-test: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[cpu,export,demo,test]'
	@touch $@ $(VENV)/.installed-demo
