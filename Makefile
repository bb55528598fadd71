VENV = .venv
PYTHONS = 3.13 3.12 3.11 3.10
TORCH = torch==2.13.0
PYTHON = $(VENV)/bin/python
PARALLEL = -n auto --maxprocesses 8 --dist worksteal
INSTALL = -m pip --disable-pip-version-check install -qq
PINS = --quiet --upgrade --generate-hashes --no-annotate --custom-compile-command 'make pins' --python-version 3.10

.PHONY: help demo test kernels sanitize coverage mutants campaign bench torch test-torch test-mpi rtl test-rtl test-ports readme docs maps pins clean
help:  ## list these targets
	@sed -n 's/^\([a-z-]*\):.*  ## /\1|/p' Makefile | while IFS='|' read -r name text; do \
		printf 'make %-12s%s\n' "$$name" "$$text"; done

demo: $(VENV)/ready  ## train on small digits inside Lava and show the result
	$(VENV)/bin/wage-neuro demo

kernels: $(VENV)/ready  ## build the compiled kernels, if their source has changed
	@$(KERNELS)

sanitize: $(VENV)/ready  ## run the kernels' tests under the address and undefined-behaviour sanitizers
	@tools/sanitize.sh $(PYTHON)

test: kernels  ## run ruff, mypy and all tests but the slow ones
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m mypy
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest $(PARALLEL)

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
	@$(PYTHON) -c 'import torch' 2>/dev/null || \
		$(PYTHON) $(INSTALL) $(TORCH)+cpu 2>/dev/null || \
		tools/uv.sh pip install --quiet --python $(PYTHON) --torch-backend cpu $(TORCH) || { printf '%s\n' \
		"No build of $(TORCH) for processors was found for this Python." \
		"The one for GPUs does as well: $(PYTHON) -m pip install '$(TORCH)'" >&2; exit 1; }

rtl: .venv-rtl/ready  ## set up .venv-rtl with Amaranth, Yosys and nextpnr, for the rtl command and its tests

test-rtl: .venv-rtl/ready  ## run the slow tests of the neurocore too: compiled simulation, Verilog, mutants
	OMP_NUM_THREADS=1 .venv-rtl/bin/python -m pytest $(PARALLEL) -m '' tests/mappings/hardware mappings/hardware

test-ports: .venv-ports/ready  ## run exported networks in snntorch, norse, sinabs, ONNX, NeuroBench, SANA-FE
	OMP_NUM_THREADS=1 .venv-ports/bin/python -m pytest $(PARALLEL) -m '' tests/mappings/formats tests/experiments/studies/test_ports.py

test-mpi: kernels  ## run the tests of several ranks and of Dask, the slow ones too
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -m '' tests/agreement/test_team.py tests/experiments/runs/test_ranks.py \
		tests/experiments/runs/test_cluster.py tests/experiments/benchmarks/test_scaling.py tests/mappings/cluster mappings/cluster

test-torch: torch  ## run the tests of what needs PyTorch alone
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest $(PARALLEL) $(TORCH_TESTS)

TORCH_TESTS = tests/agreement/test_torch.py tests/agreement/test_fused.py tests/mappings/engines/test_torch_floats.py \
	tests/experiments/studies/test_float_run.py tests/experiments/studies/test_continual_floats.py \
	tests/experiments/benchmarks/test_gpu.py mappings/engines/torch/engine.py mappings/engines/torch/floats.py

readme: $(VENV)/ready  ## make the README's tables and all pictures anew from the records
	$(PYTHON) -m experiments.records.figures

docs: .venv-docs/ready  ## build build/docs from docstrings and READMEs; a warning or a dead link is an error
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict -f docs/mkdocs.yml

maps: kernels  ## train the networks of the chip reports, and map them anew
	$(PYTHON) -m experiments.studies.maps

pins:  ## write requirements*.txt anew from pyproject.toml
	tools/uv.sh pip compile $(PINS) --universal --extra brian2 --extra export --extra lava --group dev \
		--no-emit-package lava-nc -o requirements.txt pyproject.toml
	tools/uv.sh pip compile $(PINS) --no-deps --group lava-nc -o requirements-lava.txt

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

.venv-ports/ready: pyproject.toml
	@echo "Setting up .venv-ports: PyTorch and what stands on it"
	@tools/venv.sh .venv-ports 3.11 3.12 || { echo "ports: no working Python 3.11 or 3.12 with venv found" >&2; exit 1; }
	@$(MAKE) -s torch VENV=.venv-ports PYTHONS=3.11 -o .venv-ports/ready
	@.venv-ports/bin/python $(INSTALL) 'setuptools>=77' hypothesis 'pytest>=8.4' pytest-timeout pytest-xdist
	@.venv-ports/bin/python $(INSTALL) --no-build-isolation --editable '.[ports]'
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
