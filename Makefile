# Robin Edge: `make help` lists what there is. Everything is installed into .venv; nothing needs a GPU, ROS or a camera.
SHELL := /bin/sh
PYTHON ?= python3
PICKS ?= 30
OUT ?= out/demo
BENCH ?= out/bench
PROCESSES ?= 2
ROBIN := .venv/bin/robin
PYTEST := OMP_NUM_THREADS=1 .venv/bin/python -m pytest
INPUTS := pyproject.toml constraints.txt scripts/setup.sh scripts/system_packages.sh

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev demo test check bench clean distclean

help: ## this list
	@grep -E '^[a-z-]+:.*## ' Makefile | sed 's/:.*## /\t/' | while IFS="$$(printf '\t')" read -r name text; do printf '  make %-10s %s\n' "$$name" "$$text"; done

setup: .venv/.stamp-run ## virtual environment with what the demo needs

setup-dev: .venv/.stamp-dev ## the same, with training (torch) and the tools for tests and checks

demo: .venv/.stamp-run ## 30 picks of the simulated cell, closed loop, with a report (PICKS=, OUT=)
	@$(ROBIN) demo --picks $(PICKS) --out $(OUT)

test: .venv/.stamp-dev ## the whole test suite
	$(PYTEST) -n $(PROCESSES) --dist loadfile

check: .venv/.stamp-dev ## format, lint, types and the fast tests, in about a minute
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	$(PYTEST) -n $(PROCESSES) --dist loadfile -m "not slow"

bench: .venv/.stamp-run ## latency of the pick path, rates of the simulator and of rendering, as JSON (BENCH=)
	@mkdir -p $(BENCH)
	$(ROBIN) bench pipeline --json $(BENCH)/pipeline.json
	$(ROBIN) bench sim --json $(BENCH)/sim.json
	$(ROBIN) bench dataset --json $(BENCH)/dataset.json

clean: ## remove caches and results of runs (data sets and models stay)
	rm -rf out build .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -path ./.venv -prune -o -type d -name __pycache__ -exec rm -rf {} +

distclean: clean ## as clean, and the virtual environment too
	rm -rf .venv

# A stamp is newer than what it was made from, so that a second `make setup` has nothing to do.
.venv/.stamp-run: $(INPUTS)
	@PYTHON=$(PYTHON) sh scripts/setup.sh sim,viz
	@touch $@

.venv/.stamp-dev: $(INPUTS)
	@PYTHON=$(PYTHON) sh scripts/setup.sh sim,viz,train,dev
	@touch .venv/.stamp-run $@
