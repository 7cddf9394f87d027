# What the workflows call beside the targets of the Makefile, which includes this file. Each target
# runs on any machine; those that write to GitHub, to a registry or to a cloud say what they lack.
# LOAD, SPEED and CIBUILDWHEEL are further options of what a target runs.

LOWEST_VENV ?= .venv-lowest
RELEASE_VENV ?= .venv-release
# Tests of the repository drive tools, not classmark; tools are of the newest versions.
LOWEST_TESTS ?= $(if $(filter Linux,$(shell uname -s)),$(filter-out tests/repository/ tests/workflows/ \
	tests/images/,$(wildcard tests/*/)),$(CORE_TESTS))
LICENCE_VENVS ?= $(TEST_VENV) $(DVC_VENV) $(EVIDENTLY_VENV) $(BENTO_VENV) $(LITSERVE_VENV) $(RAY_VENV)
DEEP_TESTS ?= tests/training tests/export tests/kernels
BASE ?= HEAD^
COMMIT_TIME = $(shell git show --no-patch --format=%ct HEAD)

.PHONY: lowest deep coverage-report audit licences dist sdist wheels sbom try-wheel try-published data-report \
	model-gate comment speed load-test release-check release publish-docs push-image sbom-image \
	deploy rollback

##@ What the workflows call

lowest: $(LOWEST_VENV)/.ready  ## Run quick tests with the oldest versions that pyproject.toml allows
	$(LOWEST_VENV)/$(BIN)/python -m pytest -q -m "not slow" -W default --disable-warnings $(PARALLEL) \
		$(LOWEST_TESTS) $(PYTEST_ARGS)

deep: $(TEST_VENV)/.ready  ## Run the quick tests of the deep tier (TORCH=torch==VERSION: with another torch)
	$(RUN) pytest -q -m "not slow" $(PARALLEL) $(DEEP_TESTS) $(PYTEST_ARGS)

coverage-report:  ## Write the coverage of the last `make test` as Markdown, to the summary of a workflow
	@{ echo "## Branch coverage"; $(RUN) coverage report --format=markdown; } >> $${GITHUB_STEP_SUMMARY:-/dev/stdout}

audit: $(TEST_VENV)/.ready-check  ## Look for known vulnerabilities of the locked packages
	$(TEST_VENV)/$(BIN)/python .ci/audit.py

# Of every environment that this checkout has: that of the tests, and those of make test-dvc and the like.
licences: $(TEST_VENV)/.ready-check  ## Check that every installed package has an allowed licence
	@for venv in $(LICENCE_VENVS); do if [ -d $$venv ]; then echo "$$venv:"; \
		$(TEST_VENV)/$(BIN)/pip-licenses --summary --python $$venv/$(BIN)/python || exit 1; fi; done

dist: $(TEST_VENV)/.ready  ## Build sdist and wheel of HEAD into dist/, the same bytes each time
	$(TEST_VENV)/$(BIN)/python .ci/dist.py

sdist: $(TEST_VENV)/.ready  ## Build only the sdist
	$(TEST_VENV)/$(BIN)/python .ci/dist.py --sdist

wheels: $(RELEASE_VENV)/.locked  ## Build wheels of the sdist in dist/ with cibuildwheel (Linux: needs Docker)
	SOURCE_DATE_EPOCH=$(COMMIT_TIME) $(RELEASE_VENV)/$(BIN)/python -m cibuildwheel --output-dir dist \
		$(CIBUILDWHEEL) $(wildcard dist/*.tar.gz)

sbom: $(TEST_VENV)/.ready-check  ## Write what each wheel in dist/ holds as CycloneDX JSON
	@for wheel in dist/*.whl; do $(TEST_VENV)/$(BIN)/python .ci/sbom.py --wheel $$wheel \
		--output build/sbom/$$(basename $$wheel .whl).cdx.json || exit 1; done

try-wheel:  ## Install the wheel in dist/ into a new environment and classify, away from the checkout
	$(PYTHON) .ci/try_install.py --wheel dist

try-published:  ## Do the same with the newest published package
	$(PYTHON) .ci/try_install.py --published

data-report: $(TEST_VENV)/.ready  ## Compare the data with those of commit BASE, as build/data.md
	$(TEST_VENV)/$(BIN)/python .ci/data_report.py --base $(BASE) --output build/data.md

model-gate: $(TEST_VENV)/.ready  ## Decide on the packaged model against that of BASE, as build/model.md
	$(TEST_VENV)/$(BIN)/python .ci/model_gate.py --base $(BASE) --output build/model.md

comment:  ## Put FILE on the pull request as its comment ABOUT a subject; update an existing one
	$(PYTHON) .ci/github.py comment --about $(ABOUT) $(FILE)

speed: $(TEST_VENV)/.ready  ## Compare the speed of scoring with the last report, build/speed.json
	@mkdir -p build
	$(TEST_VENV)/$(BIN)/python benchmarks/regression.py --against build/speed.json \
		--output build/speed.json $(SPEED)

# CLASSMARK_API_KEY and CLOUD_IDENTITY_TOKEN of the environment let the requests in, where that is needed.
load-test: $(TEST_VENV)/.ready  ## Load the service at URL for 30 s; refuse it if answers fail or are slow
	$(TEST_VENV)/$(BIN)/python benchmarks/load_gate.py $(URL) $(LOAD)

release-check:  ## Check that TAG fits the version of the package and the changelog
	$(PYTHON) .ci/changelog.py check $(TAG)

release:  ## Publish a release of TAG on GitHub with the files in dist/
	@mkdir -p build
	$(PYTHON) .ci/changelog.py notes $(TAG) > build/notes.md
	$(PYTHON) .ci/github.py release --tag $(TAG) --notes build/notes.md $(wildcard dist/* build/sbom/*)

publish-docs: export PATH := $(abspath $(TEST_VENV)/$(BIN)):$(PATH)
publish-docs: export NO_MKDOCS_2_WARNING := true
publish-docs: export GIT_CONFIG_COUNT := 2
publish-docs: export GIT_CONFIG_KEY_0 := user.name
publish-docs: export GIT_CONFIG_VALUE_0 := workflow
publish-docs: export GIT_CONFIG_KEY_1 := user.email
publish-docs: export GIT_CONFIG_VALUE_1 := workflow@localhost
publish-docs: $(TEST_VENV)/.ready-check  ## Publish the documentation of HEAD as VERSION (ALIAS=latest) on gh-pages
	mike deploy --alias-type redirect --update-aliases $(PUSH) $(VERSION) $(ALIAS)
	$(if $(ALIAS),mike set-default $(PUSH) $(ALIAS))

push-image: $(TEST_VENV)/.ready  ## Push IMAGE, which `make images` built, to REGISTRY
	$(TEST_VENV)/$(BIN)/python .ci/push_image.py $(IMAGE) $(REGISTRY)

sbom-image: $(TEST_VENV)/.ready-check  ## Write what IMAGE (service) holds as CycloneDX JSON into build/sbom
	$(TEST_VENV)/$(BIN)/python .ci/sbom.py --image classmark/$(or $(IMAGE),service) \
		--output build/sbom/$(or $(IMAGE),service).cdx.json

# CLOUD_ENVIRONMENT is the text of cloud.yaml where there is no such file, as in a workflow.
cloud_environment = $(if $(CLOUD_ENVIRONMENT),--environment build/cloud.yaml)
write_environment = @$(if $(CLOUD_ENVIRONMENT),mkdir -p build && printenv CLOUD_ENVIRONMENT > build/cloud.yaml)

# The workflow gives IMAGE in the environment: on the command line make would run a $(shell ...) in its text.
deploy: $(TEST_VENV)/.ready  ## Deploy IMAGE to Cloud Run as cloud.yaml says (CLOUD_KEYS=yes: it asks for API keys)
	$(write_environment)
	$(RUN) classmark cloud deploy service --image "$$IMAGE" $(if $(CLOUD_KEYS),--keys) $(cloud_environment)

rollback: $(TEST_VENV)/.ready  ## Give all requests back to the deployment before the last one
	$(write_environment)
	$(RUN) classmark cloud rollback $(cloud_environment)

$(LOWEST_VENV)/.locked: requirements/setup.txt requirements/test.txt requirements/lowest.txt
	$(call make_venv,$(LOWEST_VENV))
	$(call install,$(LOWEST_VENV),test)
	$(call install,$(LOWEST_VENV),lowest)
	@touch $@

$(RELEASE_VENV)/.locked: requirements/setup.txt requirements/release.txt
	$(call make_venv,$(RELEASE_VENV))
	$(call install,$(RELEASE_VENV),release)
	@touch $@
