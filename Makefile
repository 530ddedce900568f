# Every verb needs only Python >= 3.11 and git; what else it needs it finds, fetches, or names. `make help` lists them.
.DEFAULT_GOAL := help
.PHONY: help setup demo up down test simulate crashtest lint types crds verify image lock
MAKEFLAGS += --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
LOCKS := deploy/requirements

help: ## list the verbs
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r verb what; do printf '%-14s%s\n' "$$verb" "$$what"; done

setup: $(READY) ## make .venv with every dependency, pinned by hash

$(READY): pyproject.toml $(LOCKS)/development.txt .ci/setup
	@.ci/setup $(VENV)
	@touch $@

demo: setup ## run the main job on this machine, with no AWS account
	@$(BIN)/spotjob local demo

up: setup ## start the local platform and leave it running
	@$(BIN)/spotjob local up

down: setup ## stop the local platform
	@$(BIN)/spotjob local down

test: setup ## run all tests; ARGS="-k name" narrows them
	@$(BIN)/pytest $(ARGS)

simulate: setup ## play random histories of faults: make simulate SEEDS=2000 (FIRST=1 PROCESSES=2 PLANTED=a-bug)
	@PYTHONPATH=operator $(BIN)/python -m tests.simulation.simulate --seeds $(or $(SEEDS),200) --first $(or $(FIRST),1) \
	  --processes $(or $(PROCESSES),2) $(if $(PLANTED),--planted $(PLANTED))

crashtest: setup ## kill operator, API and sequencer at every write in the life of a job or a run; ARGS="--scenario a --points bind" narrows
	@PYTHONPATH=operator $(BIN)/python -m tests.crash.crashtest $(ARGS)

lint: setup ## check style, formatting and the import rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@PYTHONPATH=operator $(BIN)/lint-imports

types: setup ## check types, strictly
	@$(BIN)/mypy

crds: setup ## write crds/*.yaml from the models
	@$(BIN)/spotjob crds crds

verify: lint types ## all checks but the tests: lint, types, generated files, manifests, user data
	@fresh=$$(mktemp -d) && trap 'rm -rf "$$fresh"' EXIT && $(BIN)/spotjob crds "$$fresh" && \
	  diff -r -x kustomization.yaml crds "$$fresh" || { echo "crds/ is not what the models say: run make crds" >&2; exit 1; }
	@$(BIN)/shellcheck .ci/run .ci/setup
	@$(BIN)/pytest -q tests/core/test_userdata.py tests/cluster/test_deploy.py

image: ## build the container image: make image BASE_IMAGE=<an image with Python >= 3.11>
	@test -n "$(BASE_IMAGE)" || { echo "Name a base image: make image BASE_IMAGE=<an image with Python >= 3.11 and venv>" >&2; exit 1; }
	git archive HEAD operator/spotjob deploy | docker build --build-arg BASE_IMAGE=$(BASE_IMAGE) --tag $(or $(IMAGE),spotjob:0.1.0) $(BUILD_FLAGS) -f deploy/Dockerfile -

lock: ## pin the dependencies again, with hashes (needs uv)
	@pin() { uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --upgrade --generate-hashes \
	  --no-header --no-annotate "$$@"; }; \
	pin --output-file $(LOCKS)/runtime.txt && \
	pin --extra dev --constraints $(LOCKS)/runtime.txt --output-file $(LOCKS)/development.txt
