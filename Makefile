# Two commands do everything: `make demo` and `make test`. Both set up .venv on their first run.
PYTHON ?= python3
VENV := .venv
# facer needs torchvision, which only works with one exact build of torch: an environment of its own, about 6 GB.
FACER_VENV := .venv-facer
BIN := $(VENV)/bin
DEMO := engines/demo/bundle.json
EXPORT_SOURCES := $(shell find export -name '*.py' -o -name '*.safetensors') $(addprefix runtime/anon_runtime/,bundle.py integrity.py schedule.py)

.DEFAULT_GOAL := help
.PHONY: help demo test test-facer lint bench clean

help:
	@echo "make demo   build the demo engines and anonymize a photograph"
	@echo "make test   run all tests; test-facer runs only those that need torchvision: facer, DeepFace, evaluation"
	@echo "make lint   run ruff and mypy"
	@echo "make bench  compare the demo engines' speed with PyTorch and other runtimes"
	@echo "make clean  remove .venv, engines and results"

demo: $(DEMO)
	$(BIN)/anon-run "$$($(BIN)/python -c 'from importlib.resources import files; print(files("skimage") / "data/astronaut.png")')" --output out --overwrite --json | $(BIN)/python -m anon_export.demo.sheet out/astronaut-side-by-side.png

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest
	$(BIN)/python -m pytest -m ray
	$(MAKE) test-facer

test-facer: $(FACER_VENV)/.installed
	$(FACER_VENV)/bin/python -m pytest tests/facer

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.installed-test
	$(BIN)/python -m benchmarks.throughput

clean:
	rm -rf $(VENV) $(FACER_VENV) engines/demo out

$(DEMO): $(EXPORT_SOURCES) | $(VENV)/.installed-demo
	$(BIN)/anon-export build demo
	@touch $@

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "anon-engines needs Python 3.11 or newer; say which with `make PYTHON=python3.11 ...`")'
	$(PYTHON) -m venv $(VENV)

# facenet-pytorch asks for numpy 1, Pillow 10 and torch 2.2, and works with newer ones: the tests compare its own calls.
$(FACER_VENV)/.installed: pyproject.toml constraints-facer.txt
	$(PYTHON) -m venv $(FACER_VENV)
	$(FACER_VENV)/bin/pip install --quiet --constraint constraints-facer.txt --editable '.[cpu,export,facer,deepface,evaluate,evaluate-torchvision,test]'
	$(FACER_VENV)/bin/pip install --quiet --no-deps facenet-pytorch==2.6.0
	@touch $@

$(VENV)/.installed-demo: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[cpu,export,demo]'
	@touch $@

$(VENV)/.installed-test: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[cpu,openvino,tensorrt-rtx,ray,export,demo,reference,bench,evaluate,test]'
	@touch $@ $(VENV)/.installed-demo
