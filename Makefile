PYTHON = .venv/bin/python
INSTALL = -m pip --disable-pip-version-check install -qq

.PHONY: kernels sanitize help demo test test-newer test-torch coverage bench venv-torch readme pins clean
help:  ## list these targets
	@sed -n 's/^\([a-z-]*\):.*  ## /\1|/p' Makefile | while IFS='|' read -r name text; do \
		printf 'make %-12s%s\n' "$$name" "$$text"; done

kernels: .venv/ready  ## build the compiled kernels, if their source has changed
	@$(KERNELS)

sanitize: .venv/ready  ## run the kernels' tests under the address and undefined-behaviour sanitizers
	@tools/sanitize.sh $(PYTHON)

demo: .venv/ready  ## train on small digits inside Lava and show the result
	.venv/bin/wage-neuro demo

test: kernels  ## run ruff, mypy and all tests but the slow ones
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m mypy
	$(PYTHON) -m pytest

test-newer:  ## run the tests of wage_neuro on a newer Python and numpy 2
	@tools/venv.sh .venv-newer 3.13 3.12 3.11 || \
		{ echo "test-newer: no Python 3.13, 3.12 or 3.11 found, nothing run"; exit 0; }; \
	$(MAKE) --no-print-directory .venv-newer/ready && \
	.venv-newer/bin/python -m pytest tests/wage_neuro

test-torch: venv-torch  ## run the tests of what needs PyTorch, in .venv-torch
	OMP_NUM_THREADS=1 .venv-torch/bin/python -m pytest tests/agreement/test_torch.py tests/mappings/test_float_torch.py \
		tests/experiments/test_float_run.py mappings/accelerator.py mappings/accelerator_kernels.py mappings/float_torch.py

coverage: .venv/ready  ## run the tests and report the lines they reach
	$(PYTHON) -m coverage erase
	$(PYTHON) -m coverage run -m pytest
	$(PYTHON) -m coverage combine --quiet
	$(PYTHON) -m coverage report

bench: kernels  ## time the engines against each other and against float training
	$(PYTHON) -m experiments.bench

venv-torch:  ## set up .venv-torch with PyTorch, for test-torch, bench and patterns with real numbers
	@tools/venv.sh .venv-torch 3.11 3.12 3.13 3.10 || { echo "venv-torch: no Python 3.10 to 3.13 found" >&2; exit 1; }
	.venv-torch/bin/python $(INSTALL) torch==2.13.0 hypothesis 'pytest>=8.4' pytest-timeout 'setuptools>=77'
	.venv-torch/bin/python $(INSTALL) --no-build-isolation --editable .

readme: .venv/ready  ## make the README's tables anew from the records
	$(PYTHON) -m experiments.readme

pins:  ## write requirements*.txt anew from pyproject.toml
	tools/uv.sh pip compile $(PINS) --python-version 3.10 --extra brian2 --extra export --group dev -o requirements.txt pyproject.toml
	tools/uv.sh pip compile $(PINS) --python-version 3.11 --universal --group newer -o requirements-newer.txt
PINS = --quiet --upgrade --generate-hashes --no-annotate --custom-compile-command 'make pins'

clean:  ## remove the environments, caches and build results
	rm -rf .venv .venv-newer .venv-torch .venv-uv build dist *.egg-info .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find wage_neuro processes mappings experiments tests -name __pycache__ -prune -exec rm -rf {} +

# `ready` comes last, so a setup that was cut short is done again.
.venv/ready: pyproject.toml requirements.txt
	@echo "Setting up .venv, which takes a minute or two"
	@tools/venv.sh .venv 3.10 || tools/uv.sh venv --quiet --seed --clear --python 3.10 .venv || { printf '%s\n' \
		"No working Python 3.10 found, and lava-nc 0.10.0 runs on no other." \
		"Install it, then run make again. Any of these will do:" \
		"    pyenv install 3.10" \
		"    uv python install 3.10" \
		"    your system's packages (Debian and Ubuntu: both python3.10 and python3.10-venv)" >&2; exit 1; }
	@$(PYTHON) $(INSTALL) --require-hashes -r requirements.txt
	@$(PYTHON) $(INSTALL) --no-deps --no-build-isolation --editable .
	@command -v c++ g++ clang++ >/dev/null || $(PYTHON) $(INSTALL) ziglang || true
	@$(KERNELS)
	@touch $@
KERNELS = $(PYTHON) -m wage_neuro.kernels.build || true  # without them all works on numpy

.venv-newer/ready: requirements-newer.txt
	@echo "Setting up .venv-newer"
	@.venv-newer/bin/python $(INSTALL) --require-hashes -r $<
	@touch $@
