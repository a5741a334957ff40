# Each target makes .venv when it is missing, brings it up to pyproject.toml, and calls one program.
# Another interpreter: make demo PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
TESTS := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --quiet -n 2 --dist worksteal

.PHONY: demo test test-slow check docs bench clean

demo: $(VENV)/.installed
	$(BIN)/harp run digits --out runs/digits

test: $(VENV)/.installed-dev
	$(TESTS) -m "not slow"

test-slow: $(VENV)/.installed-dev
	$(TESTS) -m slow

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports --no-logo

docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "site/index.html"

bench: $(VENV)/.installed
	$(BIN)/python benchmarks/training_step.py

clean:
	rm -rf build dist site .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path "./$(VENV)/*" -prune -exec rm -rf {} +

# The stamps. Installing more than the library installs the library too.

$(VENV)/.installed: pyproject.toml
	$(call install,.)
	@touch $@

$(VENV)/.installed-dev: pyproject.toml
	$(call install,.[dev])
	@touch $(VENV)/.installed $@

$(VENV)/.installed-docs: pyproject.toml
	$(call install,.[docs])
	@touch $(VENV)/.installed $@

define install
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	{ echo "harp needs Python 3.11 or newer, and $(PYTHON) is older or missing; name one: make PYTHON=python3.12" >&2; exit 1; }
@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
@echo "Installing $(1) into $(VENV); the first time this fetches torch and takes minutes"
@$(PIP) install --editable '$(1)'
endef
