# Each target makes .venv when it is missing, brings it up to pyproject.toml, and calls one program.
# Another interpreter: make demo PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
TESTS := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --quiet -n 2 --dist worksteal

.PHONY: demo test test-slow test-gpu check docs bench sanitize wheels clean

demo: $(VENV)/.installed
	$(BIN)/harp run digits --out runs/digits

test: $(VENV)/.installed-dev
	$(TESTS) -m "not slow"

# Runs what takes minutes. The engine is also compiled by itself and for Windows, on Debian with
#     apt-get install cmake g++ g++-mingw-w64-x86-64        and, to run what was compiled for Windows:  wine64
# For ARM, emulated:  apt-get install cmake g++-aarch64-linux-gnu g++-arm-linux-gnueabihf qemu-user-static
# C files are run on an emulated Cortex-M4:  apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm
# Without these the tests that need them are skipped and say so.
test-slow: $(VENV)/.installed-dev
	$(TESTS) -m slow

# On a machine with a GPU, with the torch that is there (2.6 or newer) and no network; nothing is compiled:
#     python packaging/gpu_wheels.py wheels-gpu        where there is a network; the folder travels with the checkout
#     make test-gpu PYTHON=python3 WHEELS=wheels-gpu
# Without WHEELS, the modules are those of PYTHON. Without CUDA every file is skipped and says so.
WHEELS :=
GPU_SITE := build/gpu-site
GPU_PATH := $(CURDIR)/src:$(CURDIR)/$(GPU_SITE)
test-gpu:
	@$(PYTHON) -c 'import torch; assert tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 6), torch.__version__' || \
		{ echo "$(PYTHON) has no torch of 2.6 or newer; name one that has: make test-gpu PYTHON=..." >&2; exit 1; }
	$(if $(WHEELS),$(PYTHON) -m pip --disable-pip-version-check --quiet install --no-index --no-deps --upgrade --target $(GPU_SITE) $(WHEELS)/*.whl)
	PYTHONPATH="$(GPU_PATH)" CUBLAS_WORKSPACE_CONFIG=:4096:8 $(PYTHON) -m pytest --quiet --confcutdir=tests/gpu -W default \
		--durations 10 tests/gpu

# The engine without its Python face, whose headers the tool would have to be told of.
ENGINE := src/harp/runtime/engine
TIDIED := $(filter-out %/module.cpp %/module_reading.cpp,$(wildcard $(ENGINE)/*.cpp $(ENGINE)/*/*.cpp))

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports --no-logo
	$(BIN)/clang-format --dry-run --Werror $(wildcard $(addprefix $(ENGINE)/,*.h *.cpp */*.h */*.cpp)) tests/runtime/*.cpp tests/runtime/*.c examples/libharp/*.c $(wildcard src/harp/cfile/parts/*.c benchmarks/cortex_m/*.c)
	$(BIN)/clang-tidy --quiet $(TIDIED) -- -std=c++17 -I$(ENGINE) -DHARP_KERNELS=baseline_kernels

docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "site/index.html"

bench: $(VENV)/.installed
	$(BIN)/python benchmarks/training_step.py

# The kernels' tests under AddressSanitizer and UndefinedBehaviorSanitizer, in a build of their own. Python itself is
# not instrumented: the sanitizer's library must be there first, and its leaks are not ours.
SANITIZED := build/sanitized
sanitize: $(VENV)/.installed-dev
	cmake -S src/harp/runtime/engine -B $(SANITIZED) -DHARP_SANITIZE=ON -DPython_EXECUTABLE=$(CURDIR)/$(BIN)/python
	cmake --build $(SANITIZED) --parallel
	rm -rf $(SANITIZED)/src && mkdir -p $(SANITIZED)/src && cp -r src/harp $(SANITIZED)/src/
	rm -f $(SANITIZED)/src/harp/runtime/_engine*.so && cp $(SANITIZED)/_engine*.so $(SANITIZED)/src/harp/runtime/
	LD_PRELOAD="$$(c++ -print-file-name=libasan.so) $$(c++ -print-file-name=libubsan.so)" \
	ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 PYTHONPATH=$(SANITIZED)/src OMP_NUM_THREADS=1 \
		$(BIN)/python -m pytest --quiet tests/runtime

# Wheels of the runtime for this Python: of this processor, tried in a fresh environment, and of 64-bit ARM. The workflow
# `wheels` makes those of other systems and Pythons.
WHEEL_TOOLS := build/wheel-tools
wheels:
	$(PYTHON) -m venv $(WHEEL_TOOLS)
	$(WHEEL_TOOLS)/bin/pip --disable-pip-version-check --quiet install ziglang wheel
	$(WHEEL_TOOLS)/bin/python packaging/build_wheel.py --out dist
	$(WHEEL_TOOLS)/bin/python packaging/build_wheel.py --out dist --processor aarch64

clean:
	rm -rf build dist site .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path "./$(VENV)/*" -prune -exec rm -rf {} +

# The stamps. Installing more than the library installs the library too.

$(VENV)/.installed: pyproject.toml
	$(call install,.[train])
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
