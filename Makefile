# `make` lists the targets. All of them make the environment they need.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO ?= runs/demo
# Building for CUDA takes minutes, and nothing here runs it: `make cuda` compiles it, `make emulate` tests it.
export FASTGAN_BUILD_CUDA ?= 0
# The tests compile again what `make install` has compiled, elsewhere.
export FASTGAN_OBJECTS ?= $(CURDIR)/build/objects
export CMAKE_CXX_COMPILER_LAUNCHER ?= $(abspath $(BIN))/python;$(CURDIR)/tools/compile_once.py
NATIVE := setup.py pyproject.toml CMakeLists.txt $(wildcard csrc/*.cpp csrc/*/*)

.DEFAULT_GOAL := help
.PHONY: help install demo check test sanitize emulate cuda lint format bench gallery gpu clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/installed ## make the environment, build the C++ extension and install fastgan, editable

# torch first: without it `fastgan` would be installed without its compiled part.
$(VENV)/tools: constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt torch setuptools wheel cmake ninja pybind11
	touch $@

$(VENV)/installed: $(VENV)/tools $(NATIVE)
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt \
	    --no-build-isolation -e ".[dev]"
	$(BIN)/fastgan doctor
	touch $@

demo: install ## train a GAN on digits into runs/demo and measure it beside eager PyTorch (five minutes)
	$(BIN)/fastgan train lsgan --data digits --preset quick --steps 1500 --out $(DEMO) --continue
	$(BIN)/fastgan sample $(DEMO) --out $(DEMO)/grid.png
	$(BIN)/fastgan bench step --no-compile --rounds 3
	@echo "look at $(DEMO)/grid.png and $(DEMO)/samples/"

# A process a core; tests run on one thread each (tests/conftest.py). What is among the slowest and starts a process, a
# compiler or a training wants a mark of pyproject.toml.
PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal --durations 20
check: install ## run the quick tests, two cases of each, few random networks: no compiler, processes, guides (90 seconds)
	FASTGAN_PROPERTY_DRAWS=800 FASTGAN_TEST_CASES=2 $(PYTEST) -m "not compiles and not processes and not guides and not slow"

test: install ## run every test
	$(PYTEST)

SANITIZED := build/sanitized
sanitize: install ## run the op tests on a build with AddressSanitizer and UndefinedBehaviorSanitizer
	$(BIN)/cmake -S . -B $(SANITIZED) -G Ninja -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN))/ninja -DFASTGAN_SANITIZE=ON \
	    -DFASTGAN_TORCH_DIR=$$($(BIN)/python -c "import pathlib, torch; print(pathlib.Path(torch.__file__).parent)")
	$(BIN)/cmake --build $(SANITIZED) --target fastgan_cpu
	rm -rf $(SANITIZED)/python && mkdir $(SANITIZED)/python && cp -r fastgan $(SANITIZED)/python/
	rm -f $(SANITIZED)/python/fastgan/*.so && cp $(SANITIZED)/libfastgan_cpu.so $(SANITIZED)/python/fastgan/
	cd $(SANITIZED)/python && PYTHONPATH="$$PWD" ASAN_OPTIONS=detect_leaks=0 \
	    LD_PRELOAD="$$(c++ -print-file-name=libasan.so) $$(c++ -print-file-name=libubsan.so)" \
	    $(abspath $(BIN))/pytest --rootdir $(CURDIR) -c $(CURDIR)/pyproject.toml --import-mode=append \
	    -m "not slow" $(CURDIR)/tests/ops $(CURDIR)/tests/convolutions

EMULATED := build/emulated
emulate: install ## run the op tests on the CUDA kernels, compiled as C++: no GPU needed; SANITIZE=--sanitize watches memory
	$(BIN)/python tests/cuda/emulated.py $(EMULATED) $(SANITIZE)
	cd $(EMULATED)/python && PYTHONPATH="$$PWD" ASAN_OPTIONS=detect_leaks=0:detect_stack_use_after_return=0 \
	    LD_PRELOAD="$(if $(SANITIZE),$$(c++ -print-file-name=libasan.so) $$(c++ -print-file-name=libubsan.so))" \
	    $(abspath $(BIN))/pytest --rootdir $(CURDIR) -c $(CURDIR)/pyproject.toml --import-mode=append \
	    -m "not slow and not cpu_kernels" $(CURDIR)/tests/ops $(CURDIR)/tests/convolutions

cuda: install ## compile the CUDA kernels for two architectures, with nvcc and without a GPU, and look at what they use
	$(BIN)/python -m pytest -n auto --maxprocesses 4 tests/cuda/test_build.py

lint: install ## ruff, mypy, clang-format, import-linter; changes nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/clang-format --dry-run -Werror $$(git ls-files 'csrc/*')
	$(BIN)/lint-imports

format: install ## rewrite the sources as lint wants them
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $$(git ls-files 'csrc/*')

bench: install ## measure ops, steps, networks and systems against PyTorch; rows into benchmarks/results/, tables into README and docs
	$(BIN)/fastgan bench ops --json benchmarks/results/ops.json
	$(BIN)/fastgan bench step --memory --json benchmarks/results/step.json
	$(BIN)/fastgan bench networks --memory --json benchmarks/results/networks.json
	$(BIN)/fastgan bench systems --json benchmarks/results/systems.json
	$(BIN)/python tools/figures.py

gallery: install ## train systems that translate, half an hour each, into docs/gallery.md; MINUTES=N, ONLY=pix2pix,srgan
	$(BIN)/python tools/gallery.py $(if $(MINUTES),--minutes $(MINUTES)) $(if $(ONLY),--only $(ONLY))

RESULTS ?= results/gpu
gpu: ## build, test and measure on a machine with a CUDA GPU, by PYTHON as it is, into RESULTS (nine minutes)
	$(PYTHON) tools/gpu.py --results $(RESULTS)

clean: ## remove what was built, not the runs
	rm -rf build dist *.egg-info fastgan/*.so $(VENV)/installed
