# `make demo` and `make test` are all that a newcomer needs. Both set up .venv on their first run.
PYTHON ?= python3
VENV := .venv
# facer needs torchvision, which only works with one exact build of torch: an environment of its own.
FACER_VENV := .venv-facer
BIN := $(VENV)/bin
DEMO := engines/demo/bundle.json
SHOWN := out/demo
SOURCES := $(shell find export runtime -name '*.py' -o -name '*.safetensors')

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast test-packages lint bench docs clean

help:
	@echo "make demo           build the demo engines and anonymize a photograph"
	@echo "make test           run the tests, in the environment of the demo"
	@echo "make test-fast      run the runtime's tests on the demo engines that are there; torch is not needed"
	@echo "make test-packages  run the tests that need other packages: Ray, OpenVINO, TensorRT, facer, the evaluation's"
	@echo "make lint           run ruff and mypy"
	@echo "make bench          compare the demo engines' speed with PyTorch and other runtimes"
	@echo "make clean          remove the environments, the demo engines and results"

# In folders of its own: whoever runs photos of theirs into out/ keeps what is there.
demo: $(DEMO)
	$(BIN)/anon-run "$$($(BIN)/python -c 'from importlib.resources import files; print(files("skimage") / "data/astronaut.png")')" --output $(SHOWN)/portraits --overwrite --json | $(BIN)/python -m anon_export.demo.sheet $(SHOWN)/side-by-side.png

test: $(VENV)/.installed-demo $(VENV)/.installed-test
	$(BIN)/python -m pytest --numprocesses 2

test-fast: $(VENV)/.installed-test $(if $(wildcard $(DEMO)),,$(DEMO))
	$(BIN)/python -m pytest --numprocesses 2 --bundle=$(dir $(DEMO)) tests/runtime

test-packages: $(VENV)/.installed-packages $(FACER_VENV)/.installed
	$(BIN)/python -m pytest -m packages
	$(BIN)/python -m pytest -m ray
	$(FACER_VENV)/bin/python -m pytest tests/facer

lint: $(VENV)/.installed-demo $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.installed-packages
	$(BIN)/python -m benchmarks.throughput

# With --quiet, mkdocs counts no warnings, and --strict would let them pass.
docs: $(VENV)/.installed-docs ## build the documentation
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "site/index.html"

clean:
	rm -rf $(VENV) $(FACER_VENV) engines/demo $(SHOWN) site

# A build of what is there already takes seconds, and says so.
$(DEMO): $(SOURCES) pyproject.toml constraints.txt | $(VENV)/.installed-demo
	$(BIN)/anon-export build demo
	@touch $@

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "anon-engines needs Python 3.11 or newer; say which with `make PYTHON=python3.11 ...`")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-demo: EXTRAS := cpu,export,demo
$(VENV)/.installed-test: EXTRAS := cpu,test
$(VENV)/.installed-docs: EXTRAS := docs
$(VENV)/.installed-packages: EXTRAS := openvino,tensorrt-rtx,ray,reference,bench,evaluate
$(VENV)/.installed-packages: | $(VENV)/.installed-demo $(VENV)/.installed-test
$(VENV)/.installed-%: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[$(EXTRAS)]'
	@touch $@

# facenet-pytorch asks for numpy 1, Pillow 10 and torch 2.2, and works with newer ones: the tests compare its own calls.
$(FACER_VENV)/.installed: pyproject.toml constraints-facer.txt
	$(PYTHON) -m venv $(FACER_VENV)
	$(FACER_VENV)/bin/pip install --quiet --constraint constraints-facer.txt --editable '.[cpu,export,facer,deepface,evaluate,evaluate-torchvision,test]'
	$(FACER_VENV)/bin/pip install --quiet --no-deps facenet-pytorch==2.6.0
	@touch $@
