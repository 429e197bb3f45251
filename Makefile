# Every target first makes .venv (scripts/setup.sh), which takes no time when nothing changed.

export RAY_AUTH_MODE := disabled
export RAY_USAGE_STATS_ENABLED := 0

BIN := .venv/bin
GENERATOR := $(wildcard scripts/generate_docs.py)

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-full k8s-check check check-format check-lint check-types check-imports check-deps \
	check-spelling check-docs format bench bench-models docs site lock clean

help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Make .venv with everything that check and test need
	@scripts/setup.sh

demo: setup ## Start the service, embed a place, draw a picture
	$(BIN)/python docs/examples/demo.py

test test-full k8s-check: export HF_HUB_OFFLINE := 1

test: setup ## Run the tests (ARGS="-k name" to choose)
	$(BIN)/python -m pytest $(ARGS)

test-full: setup ## Run the tests and every golden case (needs ../shared/golden and much memory)
	@test -d ../shared/golden || { echo "make test-full needs ../shared/golden" >&2; exit 1; }
	$(BIN)/python -m pytest -m "full or not live" $(ARGS)

k8s-check: setup ## Check the manifests, deploy each overlay's Serve config on a local Ray, install the image's packages (K8S_WITHOUT_PROMTOOL=1: no promtool)
	@$(BIN)/python -m tests.k8s.promtool
	$(BIN)/python -m pytest tests/k8s -m k8s $(ARGS)

check: check-format check-lint check-types check-imports check-deps check-spelling check-docs ## Run every static check (make -k check: all, also after a failure)

check-format: setup
	$(BIN)/ruff format --check .

check-lint: setup
	$(BIN)/ruff check .

check-types: setup
	$(BIN)/mypy

check-imports: setup
	$(BIN)/lint-imports --no-logo

check-deps: setup
	$(BIN)/deptry .

check-spelling: setup
	$(BIN)/codespell

check-docs: setup
	$(if $(GENERATOR),$(BIN)/python $(GENERATOR) --check)

format: setup ## Format the code and fix what ruff can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup ## Measure the service (BENCH_OUT=FILE.json keeps the numbers)
	$(BIN)/python -m load_tests.bench $(if $(BENCH_OUT),--out $(BENCH_OUT))

bench-models: setup ## Measure every network against plain timm, torchvision or torch (BENCH_OUT=FILE.json)
	$(BIN)/python -m load_tests.models $(if $(BENCH_OUT),--out $(BENCH_OUT))

docs: setup ## Write the generated pages
	$(BIN)/python scripts/generate_docs.py

site: ## Build the documentation as a site, in site/
	@scripts/setup.sh docs
	$(BIN)/mkdocs build --strict

lock: setup ## Pin the requirements anew from pyproject.toml (ARGS=--upgrade for the newest)
	scripts/lock.sh $(ARGS)

clean: ## Remove caches and outputs, but not .venv
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist site demo_output bench_output
	find . -path ./.venv -prune -o -name __pycache__ -type d -exec rm -rf {} +
