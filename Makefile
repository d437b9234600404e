# The first of these commands sets everything up in .venv; it needs Python 3.11 to 3.13 and the package registries.
BIN := .venv/bin
READY := .venv/ready
CELERY := .venv/celery
CONSTRAINTS := constraints/airflow-3.3.txt
AIRFLOWS := 2.11 3.0 3.1 3.2 3.3 3.4
# Twice as many as cores: two of them wait for a real Airflow most of the time.
WORKERS := 4
UNIT := -q -m "not long and not soak and not system" -p no:cacheprovider --durations 5
# What knows Airflow. The rest does not differ between Airflows: it runs on 3.3 with the newest Python, and as far as
# it uses libraries on the lowest versions; but for what reads the source or measures, which `make test` does.
ON_AIRFLOW := tests/airflow tests/test_docs.py
WITH_LIBRARIES := tests/api tests/demo tests/harness tests/sources tests/upload
CORE := $(WITH_LIBRARIES) tests/emulator tests/inspection tests/projects tests/reliability
TYPED := $(wildcard airflow_360 dags demo harness tests benchmarks docs/conf.py)
# With the second, each of some hundred Python processes would compile all of Airflow again.
unexport PYTHONPATH PYTHONDONTWRITEBYTECODE

.PHONY: help demo test test-system test-stores test-matrix test-lowest dist soak mutants check docs screenshots bench \
	emulator constraints clean

help: ## list the commands
	@sed -n 's/^\([a-z-]*\):.*## /  make \1	/p' Makefile | expand -t 20

demo: $(READY) ## run the main job in a real Airflow; FILES=folder takes your own files
	@$(BIN)/python -m demo $(if $(FILES),--files "$(FILES)")

test: $(READY) ## everything but the long tests; ARGS="-k name" narrows it
	@$(BIN)/python -m pytest -n $(WORKERS) -m "not long and not soak" $(ARGS)

# Three workers: two share an Airflow each, and one runs the tests that start their own.
test-system: $(CELERY) ## the long tests, those of real stores included
	@$(BIN)/python -m pytest -n 3 -m long --ignore=tests/stores $(ARGS)
	@$(if $(ARGS),,$(MAKE) --no-print-directory test-stores)

test-stores: .matrix/stores/ready ## the package against real stores: S3, Azure, GCS, SFTP, SMB
	@.matrix/stores/bin/python -m pytest -n 2 -m long -p no:cacheprovider tests/stores $(ARGS)

test-matrix: $(AIRFLOWS:%=test-units-%) $(AIRFLOWS:%=test-job-%) ## unit tests and the main job on every Airflow; AIRFLOWS="2.11 3.0" narrows it

test-units-%: .matrix/%/ready
	@echo "Airflow $*: unit tests"
	@.matrix/$*/bin/python -m pytest $(UNIT) $(ON_AIRFLOW) $(if $(filter 3.3,$*),$(CORE)) $(ARGS)

test-job-%: .matrix/%/ready
	@echo "Airflow $*: the main job with a retry, a clear and a long rate limit"
	@.matrix/$*/bin/python -m pytest -q -m matrix -p no:cacheprovider --durations 5 tests/system $(ARGS)

test-lowest: .matrix/lowest/ready ## unit tests on the lowest versions that pyproject.toml claims
	@.matrix/lowest/bin/python -m pytest $(UNIT) $(ON_AIRFLOW) $(WITH_LIBRARIES) $(ARGS)

dist: $(READY) ## build the wheel and the sdist in dist/, and check them
	rm -rf dist
	@. .ci/index; $(BIN)/uv build --quiet --out-dir dist
	$(BIN)/twine check --strict dist/*

soak: $(READY) ## a night of failures, fifty kills, thousands of simulated runs, and the main job on 3.0 to 3.2
	@$(BIN)/python -m pytest -m soak $(ARGS)
	@$(if $(ARGS),,$(MAKE) --no-print-directory test-job-3.0 test-job-3.1 test-job-3.2)

mutants: $(READY) ## is there a change to the core that no test notices?
	@$(BIN)/python -m mutmut run --max-children 2 $(ARGS); $(BIN)/python -m mutmut results

check: $(READY) ## lint, types, arrows, docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(TYPED)
	$(BIN)/lint-imports
	@$(MAKE) --no-print-directory docs

docs: $(READY) ## build the pages in docs/_build/html
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

screenshots: $(READY) ## the pictures of the docs, anew; needs chromium
	@SCREENSHOTS=docs/images $(BIN)/python -m pytest tests/system/test_browser.py tests/system/test_page.py $(ARGS)

bench: $(READY) ## the measurements
	@$(BIN)/python -m benchmarks $(ARGS)

emulator: $(READY) ## the server's stand-in, on http://127.0.0.1:8360
	@$(BIN)/python -m airflow_360.emulator --port 8360 $(ARGS)

constraints: $(READY) ## resolve the pins anew
	@sh .ci/constraints

.matrix/stores/ready: constraints/stores.txt pyproject.toml .ci/stores $(READY)
	@sh .ci/stores

.PRECIOUS: .matrix/%/ready
.matrix/%/ready: constraints/airflow-%.txt pyproject.toml .ci/matrix $(READY)
	@sh .ci/matrix $*

clean: ## remove what these commands made
	rm -rf .venv .demo .matrix dist docs/_build .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache

$(READY): pyproject.toml $(CONSTRAINTS) .ci/venv
	@PYTHON="$(PYTHON)" sh .ci/venv $(CONSTRAINTS)

$(CELERY): $(READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS) --editable '.[test-celery]'
	@touch $@
