# Everything a fresh machine needs is Python 3.11 or later and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header

# Documents for the demonstration and a question about them, the data set of a benchmark, what chaos begins with.
export DOCS ASK DATASET ROWS SEED PROFILE EXAMPLES QUESTIONS

.DEFAULT_GOAL := help
.PHONY: help demo up test conformance chaos endurance ledger-steps lint format requirements bench-retrieval bench-ledger bench-fairness \
	bench-context clean

help:  ## List what make can do
	@sed -n 's/^\([a-z-]*\):.*  ## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-24s %s\n", $$1, $$2 }'

demo: $(VENV)/requirements.stamp  ## Ask a question about documents and see what it cost [DOCS=folder] [ASK="question"]
	@$(BIN)/python manage.py demo $${DOCS:+--docs "$$DOCS"} $${ASK:+--ask "$$ASK"}

up: $(VENV)/requirements.stamp  ## Run everything on this machine until Ctrl-C
	@$(BIN)/python manage.py up

test: lint  ## Check the code and run the tests
	$(BIN)/python -m pytest --ds settings.test

conformance: $(VENV)/requirements-dev.stamp  ## Try every provider in every way, and print a table of how it does
	@$(BIN)/python -m pytest --ds settings.test --quiet -p tests.conformance.report tests/conformance

chaos: $(VENV)/requirements.stamp  ## Break everything under load, then check the books [SEED=n] [PROFILE=silent]
	@$(BIN)/python -m tests.chaos $${SEED:+--seed "$$SEED"} $${PROFILE:+--profile "$$PROFILE"}

endurance: $(VENV)/requirements-dev.stamp  ## Ask a thousand questions, then count what is left in Redis [QUESTIONS=number]
	ENDURANCE_QUESTIONS=$${QUESTIONS:-1000} $(BIN)/python -m pytest --ds settings.test tests/faults/test_life_cycle.py

ledger-steps: $(VENV)/requirements-dev.stamp  ## Play with the ledger for longer [EXAMPLES=2000] [SEED=n]
	LEDGER_EXAMPLES=$${EXAMPLES:-2000} LEDGER_SEED=$${SEED:-1} \
		$(BIN)/python -m pytest --ds settings.test tests/ledger/test_state_machine.py -k after_any_steps

lint: $(VENV)/requirements-dev.stamp  ## Check the code without running it
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .
	$(BIN)/lint-imports
	DJANGO_SETTINGS_MODULE=settings.dev $(BIN)/python manage.py document_settings --check
	DJANGO_SETTINGS_MODULE=settings.dev $(BIN)/python manage.py document_errors --check

format: $(VENV)/requirements-dev.stamp  ## Format the code, and repair what can be repaired without thinking
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

requirements: $(BIN)/python  ## Resolve requirements*.in again, to the newest versions they allow
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(COMPILE) --upgrade requirements.in --output-file requirements.txt
	$(COMPILE) --upgrade requirements-dev.in --output-file requirements-dev.txt

bench-retrieval: $(VENV)/requirements.stamp  ## Measure retrieval on a data set DATASET=folder
	@$(BIN)/python benchmarks/retrieval.py --dataset "$${DATASET:?name a folder: make bench-retrieval DATASET=…}"

bench-ledger: $(VENV)/requirements.stamp  ## Measure the ledger beside bare inserts; with ROWS=5000000 a large one [ROWS=number]
	@$(BIN)/python benchmarks/ledger.py $${ROWS:+--rows "$$ROWS"}

bench-fairness: $(VENV)/requirements.stamp  ## Measure how long a tenant waits beside another's backlog
	@$(BIN)/python benchmarks/fairness.py

bench-context: $(VENV)/requirements.stamp  ## Measure what building, signing and verifying a context costs
	@$(BIN)/python benchmarks/context.py

clean:  ## Remove the virtual environment and the caches; the data in .nooble stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis staticfiles
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "nooble needs Python 3.11 or later; $(PYTHON) is not. Name one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; \
		exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/requirements.stamp: requirements.txt | $(BIN)/python
	$(INSTALL) --requirement requirements.txt
	@touch $@

$(VENV)/requirements-dev.stamp: requirements-dev.txt $(VENV)/requirements.stamp
	$(INSTALL) --requirement requirements-dev.txt
	@touch $@
