# classmark: every task of the project is a target here, and CI calls the same ones.
#
# `make demo` and `make test` need Python >= 3.11 with pip, git and a C compiler (without a compiler
# the numpy kernel answers alone). Each makes its own environment, so neither changes the other.

PYTHON ?= python3
DEMO_VENV ?= .venv
TEST_VENV ?= .venv-test
DVC_VENV ?= .venv-dvc
BENTO_VENV ?= .venv-bento
LITSERVE_VENV ?= .venv-litserve
EVIDENTLY_VENV ?= .venv-evidently
RAY_VENV ?= .venv-ray
# Tests run in as many processes as there are cores, a file in one of them: fixtures of a module are
# made once. The longest files begin first (tests/conftest.py); xdist would begin with those of the
# most tests.
PROCESSES ?= auto
PARALLEL ?= --numprocesses $(PROCESSES) --dist loadfile --no-loadscope-reorder
PYTEST_ARGS ?=
# The deep tier (torch, MLflow, W&B) comes into the test environment unless DEEP is empty; its tests are
# left out then. This version of torch, and pip alone, take a CPU build that lies on a machine.
DEEP ?= yes
TORCH := --requirement requirements/torch.in
# make lock UPGRADE=--upgrade takes the newest versions; without it only what must change changes.
UPGRADE ?=
# Debian packages that tests drive (make system-deps installs them).
SYSTEM_PACKAGES := chromium wrk systemd docker.io docker-compose debootstrap postgresql \
	prometheus prometheus-alertmanager nginx
# Ubuntu's chromium is a snap in disguise; any of these is enough (GitHub's runners have Chrome).
BROWSERS := chromium chromium-browser google-chrome

BIN := $(if $(filter Windows_NT,$(OS)),Scripts,bin)
RUN := $(TEST_VENV)/$(BIN)/python -m
C_SOURCES := $(wildcard src/classmark/*.c src/classmark/*/*.[ch] src/classmark/*/*/*.[ch])
BUILD_INPUTS := pyproject.toml $(wildcard setup.py MANIFEST.in) $(C_SOURCES)
# make docs serves here.
DOCS_ADDRESS ?= 127.0.0.1:8001
BENCHMARKS := $(wildcard benchmarks/bench_*.py) benchmarks/service.py
MADE_FOR_CLOUD := $(addprefix tests/cloud/,test_cloud_watch.py test_cloud_infra.py)
SCRIPTS := .ci/run deploy/docker/locked
WORKFLOWS := $(wildcard .github/workflows/*.yml)
NEIGHBOURS := packages/classmark-neighbours
# The rooms that answer a paper: what must work on every platform.
CORE_TESTS := $(wildcard $(addprefix tests/, \
	bulk bundle cli client golden journal kernels papers records registry runtime storage taxonomy wire))
LOCK = $(TEST_VENV)/$(BIN)/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" $(UPGRADE)
LOCK_AS_TESTED = $(LOCK) --constraints requirements/test.txt

.DEFAULT_GOAL := help
# Tests start hundreds of Pythons; without its caches each would compile every module that it imports.
unexport PYTHONDONTWRITEBYTECODE
.PHONY: help demo test quick most long-tests core test-dvc test-bento test-evidently test-ray images test-images check docs site links report pictures bench neighbours-wheel lock system-deps clean

##@ Use

# A heading is a line that begins with ##@; a target is listed below the one that it follows.
help:  ## Show this list
	@awk 'BEGIN {FS = ":.*## "} \
		/^##@ / {printf "%s%s\n", n++ ? "\n" : "", substr($$0, 5)} \
		/^[a-z][a-z -]*:.*## / {k = split($$1, names, " "); \
			for (i = 1; i <= k; i++) printf "  make %-16s %s\n", names[i], $$2}' $(MAKEFILE_LIST)

demo: $(DEMO_VENV)/.ready  ## Fit, serve, drift, retrain, replace on a sample; SHORT=1: to the first look (own .venv)
	$(DEMO_VENV)/$(BIN)/classmark demo --output demo$(if $(SHORT), --short)

##@ Test

# As many processes as cores compute already; threads of each would wait for those of the others.
test quick most long-tests core: export OMP_NUM_THREADS ?= 1

test: $(TEST_VENV)/.ready  ## Run every test with branch coverage (own .venv-test)
	$(RUN) pytest --cov --cov-report=term-missing:skip-covered $(if $(DEEP),,--cov-fail-under=85) $(PARALLEL) $(PYTEST_ARGS)

quick: $(TEST_VENV)/.ready  ## Run the tests that together take a minute, without coverage
	$(RUN) pytest -q -m "not slow and not long" $(PARALLEL) $(PYTEST_ARGS)

most: $(TEST_VENV)/.ready  ## Run the tests that are not slow, without coverage
	$(RUN) pytest -q -m "not slow" $(PARALLEL) $(PYTEST_ARGS)

# On a quiet machine; `rm tests/long.txt` first to begin again.
long-tests: $(TEST_VENV)/.ready  ## Measure which tests `make quick` leaves out (tests/long.txt)
	touch tests/long.txt
	$(RUN) pytest -q -m "not slow and not long" $(PARALLEL) --junitxml=junit.xml
	$(TEST_VENV)/$(BIN)/python .ci/long_tests.py junit.xml

core: $(TEST_VENV)/.ready  ## Run the quick tests of the rooms that answer a paper
	$(RUN) pytest -q -m "not slow" $(PARALLEL) $(CORE_TESTS) $(PYTEST_ARGS)

test-dvc: $(DVC_VENV)/.ready  ## Run the tests of versioned data with DVC, a bucket too (own .venv-dvc)
	$(DVC_VENV)/$(BIN)/python -m pytest -q --no-cov tests/pipeline/test_pipeline_dvc.py $(PYTEST_ARGS)

test-bento: $(BENTO_VENV)/.ready $(LITSERVE_VENV)/.ready  ## Run the tests of BentoML and LitServe (own .venv-bento, .venv-litserve)
	$(BENTO_VENV)/$(BIN)/python -m pytest -q --no-cov tests/service/test_service_bento.py $(PYTEST_ARGS)

test-evidently: $(EVIDENTLY_VENV)/.ready  ## Run the tests of Evidently's report of drift (own .venv-evidently)
	$(EVIDENTLY_VENV)/$(BIN)/python -m pytest -q --no-cov tests/monitor/test_monitor_evidently.py $(PYTEST_ARGS)

# On a busy machine Ray now and then gives up starting a cluster or a worker: such tests run once more.
test-ray: $(RAY_VENV)/.ready  ## Run the tests of many machines with Ray: clusters of two nodes (own .venv-ray)
	$(RAY_VENV)/$(BIN)/python -m pytest -q --no-cov tests/cluster $(PYTEST_ARGS) || \
	$(RAY_VENV)/$(BIN)/python -m pytest -q --no-cov tests/cluster $(PYTEST_ARGS) --last-failed

##@ Containers

images:  ## Build the container images (Docker, or Debian's docker.io and debootstrap as root)
	$(PYTHON) deploy/docker/images.py $(if $(ONLY),--only $(ONLY))

test-images: $(TEST_VENV)/.ready  ## Build and run the container images
	$(RUN) pytest -q --no-cov tests/images $(PYTEST_ARGS)

##@ Check and document

check: $(TEST_VENV)/.ready-check  ## Lint, types, contracts, locks, workflows, docs
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy
	$(TEST_VENV)/$(BIN)/lint-imports
	$(RUN) pytest -q --no-cov tests/repository/test_repository_locks.py
	$(TEST_VENV)/$(BIN)/shellcheck $(SCRIPTS)
	$(TEST_VENV)/$(BIN)/actionlint -shellcheck $(TEST_VENV)/$(BIN)/shellcheck $(WORKFLOWS)
	$(RUN) check_jsonschema --builtin-schema vendor.github-workflows $(WORKFLOWS)
	$(RUN) check_jsonschema --builtin-schema vendor.compose-spec deploy/compose.yaml
	$(TEST_VENV)/$(BIN)/hadolint deploy/docker/Dockerfile .devcontainer/Dockerfile
	$(TEST_VENV)/$(BIN)/python deploy/grafana/dashboards.py --check
	$(RUN) pytest -q --no-cov -k "committed_files or page_of" $(MADE_FOR_CLOUD)
	$(RUN) check_jsonschema --builtin-schema vendor.github-actions $(wildcard .github/actions/*/action.yml)
	$(RUN) check_jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml
	$(RUN) check_jsonschema --builtin-schema vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml
	$(RUN) check_jsonschema --builtin-schema vendor.github-issue-forms \
		$(filter-out %/config.yml,$(wildcard .github/ISSUE_TEMPLATE/*.yml))
	$(TEST_VENV)/$(BIN)/zizmor --offline --quiet .github
	$(MAKE) --silent licences > /dev/null
	$(TEST_VENV)/$(BIN)/python docs/generated.py --check
	$(TEST_VENV)/$(BIN)/python .ci/blocking_client.py --check
	$(TEST_VENV)/$(BIN)/python reports/report.py check
	NO_MKDOCS_2_WARNING=true $(RUN) mkdocs build --strict --quiet
	$(TEST_VENV)/$(BIN)/python docs/links.py site --no-network

report: $(TEST_VENV)/.ready-check  ## Set the checklist of reports/, check the report, make one page of it
	$(TEST_VENV)/$(BIN)/python reports/report.py status --write
	$(TEST_VENV)/$(BIN)/python reports/report.py check
	$(TEST_VENV)/$(BIN)/python reports/report.py html --output report.html

pictures: $(TEST_VENV)/.ready-check  ## Draw the pictures of docs/ and reports/ from the running product
	$(TEST_VENV)/$(BIN)/python benchmarks/screenshots.py

docs: $(TEST_VENV)/.ready-check  ## Serve the documentation, and build it again after each change
	NO_MKDOCS_2_WARNING=true $(RUN) mkdocs serve --dev-addr $(DOCS_ADDRESS)

site: $(TEST_VENV)/.ready-check  ## Build the documentation into site/
	NO_MKDOCS_2_WARNING=true $(RUN) mkdocs build --strict

links: site  ## Check the links of the built site, also to other hosts if these can be reached
	$(TEST_VENV)/$(BIN)/python docs/links.py site

bench: $(TEST_VENV)/.ready  ## Run the benchmarks; each prints the machine and writes its JSON
	@for file in $(BENCHMARKS); do echo "== $$file"; $(TEST_VENV)/$(BIN)/python $$file || exit 1; done

##@ Maintain

# The training papers of the packaged model: an index with the others would know the answers of a test.
neighbours-wheel: $(TEST_VENV)/.ready  ## Build the wheel of papers that are evidence, from DATASET, into dist/
	$(RUN) classmark index build $(DATASET)/train.parquet --no-titles --bits 2 --overwrite --output $(NEIGHBOURS)/src/classmark_neighbours/index
	$(RUN) classmark index calibrate $(NEIGHBOURS)/src/classmark_neighbours/index $(DATASET)
	$(RUN) uv build --quiet --wheel --no-build-isolation --python $(TEST_VENV)/bin/python --out-dir dist $(NEIGHBOURS)

lock: $(TEST_VENV)/.ready  ## Resolve requirements/*.txt again from pyproject.toml, with hashes
	$(LOCK) --extra train --extra serve --extra profile --extra sign --extra postgres --extra otel --extra gcp --group test -o requirements/test.txt
	$(LOCK_AS_TESTED) --extra train --extra serve --extra profile --extra sign --extra postgres --extra otel --extra gcp --group dev -o requirements/check.txt
	$(LOCK) --resolution lowest-direct --extra train --extra serve --extra xlsx --extra profile --extra sign --extra postgres -o requirements/lowest.txt
	$(LOCK_AS_TESTED) --override requirements/left-out.in --extra deep --extra track --extra wandb --extra sweep \
		--extra gs --extra postgres -o requirements/deep.txt
	$(LOCK_AS_TESTED) --extra dvc --extra client --group test --group bucket -o requirements/dvc.txt
	$(LOCK_AS_TESTED) --constraints requirements/deep.txt --override requirements/left-out.in \
		--extra ray --extra deep --extra client --group test --group bucket -o requirements/ray.txt
	$(LOCK_AS_TESTED) --extra train -o requirements/train.txt
	$(LOCK_AS_TESTED) --extra data -o requirements/data.txt
	$(LOCK_AS_TESTED) --constraints requirements/deep.txt --extra track --group store -o requirements/tracking.txt
	$(LOCK_AS_TESTED) --constraints requirements/deep.txt --extra data --extra onnx -o requirements/data-onnx.txt
	$(LOCK_AS_TESTED) --extra serve -o requirements/serve.txt
	$(LOCK_AS_TESTED) --constraints requirements/deep.txt --extra serve --extra onnx -o requirements/serve-onnx.txt
	$(LOCK_AS_TESTED) --constraints requirements/deep.txt --extra serve --extra gs --extra postgres -o requirements/serve-gcp.txt
	$(LOCK) --extra bentoml --extra train --extra onnx --group test -o requirements/bento.txt
	$(LOCK) --extra monitor --extra train --group test -o requirements/evidently.txt
	$(LOCK_AS_TESTED) --constraints requirements/serve-onnx.txt --extra onnx --group litserve -o requirements/litserve.txt
	$(LOCK_AS_TESTED) -o requirements/core.txt
	$(subst pyproject.toml,,$(LOCK_AS_TESTED)) --group setup -o requirements/setup.txt
	$(subst pyproject.toml,,$(LOCK_AS_TESTED)) --group release -o requirements/release.txt

system-deps:  ## Install the Debian packages that tests drive
	@packages="$(strip $(SYSTEM_PACKAGES))"; \
	for browser in $(BROWSERS); do if command -v $$browser >/dev/null; then \
		packages=$$(echo $$packages | sed 's/^chromium *//'); fi; done; \
	if command -v systemd-analyze >/dev/null; then packages=$$(echo $$packages | sed 's/ *systemd//'); fi; \
	if docker version >/dev/null 2>&1; then packages=$$(echo $$packages | sed 's/ *docker.io//; s/ *debootstrap//'); fi; \
	if ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; then packages=$$(echo $$packages | sed 's/ *postgresql//'); fi; \
	if docker compose version >/dev/null 2>&1; then packages=$$(echo $$packages | sed 's/ *docker-compose//'); fi; \
	if [ -z "$$packages" ]; then echo "system-deps: no Debian package is needed"; \
	elif ! command -v apt-get >/dev/null; then echo "system-deps: no apt-get here; install yourself: $$packages"; \
	else sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
	$$sudo apt-get update -q && $$sudo apt-get install -q -y --no-install-recommends $$packages; fi

clean:  ## Remove everything that make made, environments included
	rm -rf $(DEMO_VENV) $(TEST_VENV) $(DVC_VENV) $(RAY_VENV) $(BENTO_VENV) $(EVIDENTLY_VENV) $(LITSERVE_VENV) $(LOWEST_VENV) $(RELEASE_VENV) build dist demo site report.html htmlcov .coverage .coverage.* src/*.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests benchmarks \( -name __pycache__ -o -name '*.so' -o -name '*.pyd' \) -exec rm -rf {} +

# --- environments ------------------------------------------------------------------------------
# pip brings uv and setuptools in (hashed), uv the rest in seconds; classmark itself is editable,
# built without isolation so that nothing outside the locks is fetched.

# $(call make_venv,DIR): an interpreter in DIR that holds what requirements/setup.txt names.
define make_venv
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "classmark needs Python 3.11 or newer, $(PYTHON) is older or missing. Run: make PYTHON=/path/to/python3.11 TARGET"; exit 1; }
	@$(1)/$(BIN)/python -c "" 2>/dev/null || $(PYTHON) -m venv --clear --without-pip $(1)
	$(PYTHON) -m pip --python $(1) install --quiet --disable-pip-version-check --require-hashes -r requirements/setup.txt
endef

# $(call install,DIR,LOCK): the locked packages of requirements/LOCK.txt into DIR.
install = $(1)/$(BIN)/uv pip install --quiet --python $(1) --require-hashes -r requirements/$(2).txt

# $(call install_classmark,DIR): this checkout into DIR, its C kernel compiled if that is possible.
install_classmark = $(1)/$(BIN)/uv pip install --quiet --python $(1) --no-deps --no-build-isolation --editable .

$(DEMO_VENV)/.locked: requirements/setup.txt requirements/train.txt requirements/serve.txt
	$(call make_venv,$(DEMO_VENV))
	$(call install,$(DEMO_VENV),train)
	$(call install,$(DEMO_VENV),serve)
	@touch $@

$(TEST_VENV)/.locked: requirements/setup.txt requirements/test.txt requirements/deep.txt
	$(call make_venv,$(TEST_VENV))
	$(call install,$(TEST_VENV),test)
ifneq ($(DEEP),)
	$(PYTHON) -m pip --python $(TEST_VENV) install --quiet --disable-pip-version-check $(TORCH)
	$(call install,$(TEST_VENV),deep) --no-deps
endif
	@touch $@

$(DVC_VENV)/.locked: requirements/setup.txt requirements/dvc.txt
	$(call make_venv,$(DVC_VENV))
	$(call install,$(DVC_VENV),dvc)
	@touch $@

$(BENTO_VENV)/.locked: requirements/setup.txt requirements/bento.txt
	$(call make_venv,$(BENTO_VENV))
	$(call install,$(BENTO_VENV),bento)
	@touch $@

# With pandas 2: Evidently cannot be imported with pandas 3, which the test environment has.
$(EVIDENTLY_VENV)/.locked: requirements/setup.txt requirements/evidently.txt
	$(call make_venv,$(EVIDENTLY_VENV))
	$(call install,$(EVIDENTLY_VENV),evidently)
	@touch $@

$(LITSERVE_VENV)/.locked: requirements/setup.txt requirements/litserve.txt
	$(call make_venv,$(LITSERVE_VENV))
	$(call install,$(LITSERVE_VENV),litserve)
	@touch $@

# Ray Train fits the deep tier, so torch comes too, as into the test environment.
$(RAY_VENV)/.locked: requirements/setup.txt requirements/ray.txt
	$(call make_venv,$(RAY_VENV))
	$(PYTHON) -m pip --python $(RAY_VENV) install --quiet --disable-pip-version-check $(TORCH)
	$(call install,$(RAY_VENV),ray) --no-deps
	@touch $@

$(TEST_VENV)/.ready-check: $(TEST_VENV)/.ready requirements/check.txt
	$(call install,$(TEST_VENV),check)
	@touch $@

%/.ready: %/.locked $(BUILD_INPUTS)
	$(call install_classmark,$*)
	@touch $@

-include .ci/workflows.mk
