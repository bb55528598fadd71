VENV = .venv
PYTHONS = 3.13 3.12 3.11 3.10
TORCH = torch==2.13.0
PYTHON = $(VENV)/bin/python
PARALLEL = -n auto --maxprocesses 8 --dist worksteal
INSTALL = -m pip --disable-pip-version-check install -qq
PINS = --quiet --upgrade --generate-hashes --no-annotate --custom-compile-command 'make pins' --python-version

.PHONY: help demo test types tests kernels sanitize coverage mutants campaign bench torch test-torch test-mpi rtl test-rtl test-ports test-browser readme docs maps pins clean test-avalanche
help:  ## list these targets
	@sed -n 's/^\([a-z-]*\):.*  ## /\1|/p' Makefile | while IFS='|' read -r name text; do \
		printf 'make %-16s%s\n' "$$name" "$$text"; done

demo: $(VENV)/ready  ## train on small digits inside Lava and show the result
	$(VENV)/bin/wage-neuro demo

kernels: $(VENV)/ready  ## build the compiled kernels, if their source has changed
	@$(KERNELS)

sanitize: $(VENV)/ready  ## run the kernels' tests under the address and undefined-behaviour sanitizers
	@tools/sanitize.sh $(PYTHON)

test: kernels  ## run ruff, mypy and all tests but the slow ones
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	@$(MAKE) -s -j 2 types tests  # mypy has one core, and would let the others wait

types:
	$(PYTHON) -m mypy

tests:
	env -u MAKEFLAGS OMP_NUM_THREADS=1 $(PYTHON) -m pytest $(PARALLEL)

coverage: $(VENV)/ready  ## run the tests and report the lines they reach
	$(PYTHON) -m coverage erase
	OMP_NUM_THREADS=1 $(PYTHON) -m coverage run -m pytest $(PARALLEL)
	$(PYTHON) -m coverage combine --quiet
	$(PYTHON) -m coverage report

mutants: $(VENV)/ready  ## change the code in small ways, see what tests notice (MUTANTS="--since COMMIT --at-most 20")
	$(PYTHON) -m experiments.benchmarks.mutants $(MUTANTS)

campaign: kernels  ## kill, fail disks, feed nonsense, wear out (CAMPAIGN="--form long" takes hours)
	$(PYTHON) -m experiments.campaign $(CAMPAIGN)

bench: kernels  ## time the engines against each other and against float training (BENCH="--only lenet")
	$(PYTHON) -m experiments.benchmarks.bench $(BENCH)

# PyPI's torch for Linux on x86-64 brings CUDA's libraries with it, some gigabytes. `+cpu` names the build for
# processors and nothing else; uv knows where PyTorch itself keeps it.
torch: $(VENV)/ready  ## add PyTorch's build for processors: the torch engine, patterns with real numbers, bench
	$(call add_torch,$(VENV))

define add_torch
	@$(1)/bin/python -c 'import torch' 2>/dev/null || \
		$(1)/bin/python $(INSTALL) $(TORCH)+cpu 2>/dev/null || \
		tools/uv.sh pip install --quiet --python $(1)/bin/python --torch-backend cpu $(TORCH) || { printf '%s\n' \
		"No build of $(TORCH) for processors was found for this Python." \
		"The one for GPUs does as well: $(1)/bin/python -m pip install '$(TORCH)'" >&2; exit 1; }
endef

rtl: .venv-rtl/ready  ## set up .venv-rtl with Amaranth, Yosys and nextpnr, for the rtl command and its tests

test-rtl: .venv-rtl/ready  ## run the slow tests of the neurocore too: compiled simulation, Verilog, mutants
	OMP_NUM_THREADS=1 .venv-rtl/bin/python -m pytest $(PARALLEL) -m '' tests/mappings/hardware mappings/hardware

test-ports: .venv-ports/ready  ## run exported networks in snntorch, norse, sinabs, ONNX, NeuroBench, SANA-FE, nengo-loihi
	@$(MAKE) -s .venv-loihi/ready || echo "what needs nengo-loihi is skipped"
	OMP_NUM_THREADS=1 .venv-ports/bin/python -m pytest $(PARALLEL) -m '' tests/mappings/formats tests/experiments/studies/test_ports.py

test-browser: .venv-browser/ready  ## run the tests of the pages in a headless Chromium, which the system must have
	OMP_NUM_THREADS=1 .venv-browser/bin/python -m pytest -rs -m '' -k browser tests/experiments/live tests/experiments/report

test-avalanche: .venv-avalanche/ready  ## learn streams of Avalanche and Continuum, our learner as their strategy
	OMP_NUM_THREADS=1 .venv-avalanche/bin/python -m pytest -m '' tests/experiments/continual/test_bridges.py \
		tests/experiments/test_examples.py -k 'bridges or avalanche'

test-mpi: kernels  ## run the tests of several ranks and of Dask, the slow ones too
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -m '' tests/agreement/test_team.py tests/experiments/runs/test_ranks.py \
		tests/experiments/runs/test_cluster.py tests/experiments/benchmarks/test_scaling.py tests/mappings/cluster mappings/cluster

test-torch: torch  ## run the tests of what needs PyTorch alone
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest $(PARALLEL) $(TORCH_TESTS) -k 'torch or fused or float or gpu'

TORCH_TESTS = tests/agreement/test_torch.py tests/agreement/test_fused.py tests/mappings/engines/test_torch_floats.py \
	tests/experiments/studies/test_float_run.py tests/experiments/studies/test_continual_floats.py \
	tests/experiments/benchmarks/test_gpu.py tests/experiments/runs/test_ranks.py mappings/engines/torch/engine.py \
	mappings/engines/torch/floats.py

readme: $(VENV)/ready  ## make the README's tables and all pictures anew from the records
	$(PYTHON) -m experiments.records.figures

docs: kernels .venv-docs/ready  ## build build/docs: READMEs, API, examples with output, the demo's report; a dead link is an error
	PYTHONPATH=. $(PYTHON) docs/made.py
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict -f docs/mkdocs.yml
	$(PYTHON) docs/links.py build/docs

maps: kernels  ## train the networks of the chip reports, and map them anew
	$(PYTHON) -m experiments.studies.maps

pins:  ## write requirements*.txt anew from pyproject.toml
	tools/uv.sh pip compile $(PINS) 3.10 --universal --extra brian2 --extra export --extra lava --group dev \
		--no-emit-package lava-nc -o requirements.txt pyproject.toml
	tools/uv.sh pip compile $(PINS) 3.10 --no-deps --group lava-nc -o requirements-lava.txt
	tools/uv.sh pip compile $(PINS) 3.9 --universal --group loihi -o requirements-loihi.txt
	for extra in ports avalanche; do echo '$(TORCH)' | tools/uv.sh pip compile $(PINS) 3.11 --universal --group test \
		--extra $$extra --constraint - -o requirements-$$extra.txt pyproject.toml || exit 1; done
	sed -E -i '/^(torch|triton|cuda-[a-z]+|nvidia-[a-z0-9-]+)==/,/[^\\]$$/d' requirements-ports.txt

clean:  ## remove the environments, caches and build results
	rm -rf .venv* build dist *.egg-info .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find wage_neuro processes mappings experiments tests -name __pycache__ -prune -exec rm -rf {} +

# `ready` comes last, so a setup that was cut short is done again.
$(VENV)/ready: pyproject.toml requirements.txt requirements-lava.txt
	@echo "Setting up $(VENV), which takes a minute or two"
	@tools/venv.sh $(VENV) $(PYTHONS) || \
		tools/uv.sh venv --quiet --seed --clear --python $(firstword $(PYTHONS)) $(VENV) || { printf '%s\n' \
		"No working Python $(firstword $(PYTHONS)) to $(lastword $(PYTHONS)) with venv found." \
		"Install one, then run make again. Any of these will do:" \
		"    your system's packages (Debian and Ubuntu: python3-venv)" \
		"    uv python install $(firstword $(PYTHONS))" \
		"    pyenv install $(firstword $(PYTHONS))" >&2; exit 1; }
	@$(PYTHON) -m pip uninstall -qq --yes lava-nc 2>/dev/null  # or pip complains that the rest is too new for it
	@$(PYTHON) $(INSTALL) --require-hashes -r requirements.txt
	@$(PYTHON) $(INSTALL) --require-hashes --no-deps --ignore-requires-python -r requirements-lava.txt
	@$(PYTHON) $(INSTALL) --no-deps --no-build-isolation --editable .
	@command -v c++ g++ clang++ >/dev/null || $(PYTHON) $(INSTALL) ziglang || true
	@$(KERNELS)
	@touch $@
KERNELS = $(PYTHON) -m wage_neuro.kernels.build || true  # without them all works on numpy

# PyTorch comes by `make torch`, without what its other build brings for GPUs; the rest is pinned.
.venv-ports/ready: pyproject.toml requirements-ports.txt
	@echo "Setting up .venv-ports: PyTorch and what stands on it"
	@tools/venv.sh .venv-ports $(ON_TORCH) || { echo "ports: no working Python $(ON_TORCH) with venv found" >&2; exit 1; }
	$(call add_torch,.venv-ports)
	$(call add_pinned,ports)
	@touch $@

# Avalanche imports torchvision, of which PyPI has the build for GPUs alone, so PyTorch's must be that one too.
.venv-avalanche/ready: pyproject.toml requirements-avalanche.txt
	@echo "Setting up .venv-avalanche: PyTorch with its libraries for GPUs takes some gigabytes"
	@tools/venv.sh .venv-avalanche $(ON_TORCH) || { echo "avalanche: no working Python $(ON_TORCH) with venv found" >&2; exit 1; }
	$(call add_pinned,avalanche)
	@touch $@
ON_TORCH = 3.11 3.12
define add_pinned
	@.venv-$(1)/bin/python $(INSTALL) --require-hashes --no-deps -r requirements-$(1).txt
	@.venv-$(1)/bin/python $(INSTALL) --no-deps --no-build-isolation --editable .
endef

.venv-loihi/ready: requirements-loihi.txt
	@tools/venv.sh .venv-loihi 3.9 || { echo "loihi: no working Python 3.9 with venv found" >&2; exit 1; }
	@.venv-loihi/bin/python $(INSTALL) --require-hashes -r requirements-loihi.txt
	@touch $@

.venv-browser/ready: pyproject.toml
	@tools/venv.sh .venv-browser $(PYTHONS) || { echo "browser: no working Python $(PYTHONS) with venv found" >&2; exit 1; }
	@.venv-browser/bin/python $(INSTALL) 'setuptools>=77' hypothesis 'pytest>=8.4' pytest-timeout
	@.venv-browser/bin/python $(INSTALL) --no-build-isolation --editable '.[browser]'
	@touch $@

.venv-rtl/ready: pyproject.toml
	@echo "Setting up .venv-rtl: Yosys and nextpnr take some hundreds of megabytes"
	@tools/venv.sh .venv-rtl $(PYTHONS) || { echo "rtl: no working Python $(PYTHONS) with venv found" >&2; exit 1; }
	@.venv-rtl/bin/python $(INSTALL) 'setuptools>=77' hypothesis 'pytest>=8.4' pytest-timeout pytest-xdist
	@.venv-rtl/bin/python $(INSTALL) --no-build-isolation --editable '.[rtl]'
	@touch $@

.venv-docs/ready: pyproject.toml
	@tools/venv.sh .venv-docs $(PYTHONS) || { echo "docs: no working Python $(PYTHONS) with venv found" >&2; exit 1; }
	@.venv-docs/bin/python $(INSTALL) 'mkdocs>=1.6' 'mkdocstrings[python]>=1.0'
	@touch $@
