# Two commands: `make run` and `make test`. Both set up first; that is quick when nothing changed.
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.set-up

.PHONY: run test test-fast test-slow test-servers test-gpu test-image test-k8s setup site lint bench soak pictures lock
run: setup
	@$(BIN)/ai-assets up

test: setup
	@$(BIN)/python -m pytest -m "not slow and not servers" -n 2 --dist loadfile $(PYTEST_ARGS)

# The inner loop, in two minutes: what starts no process, server, database or browser.
test-fast: setup
	@$(BIN)/python -m pytest -m "not slow and not servers" --fast -n 2 --dist loadfile $(PYTEST_ARGS)

# Models that torch runs, on a processor: torch is in an environment of its own, which takes 1.5 GB and minutes.
test-gpu: setup
	@sh tests/gpu_environment.sh $(VENV) .venv-gpu $(PYTEST_ARGS)

# Kills, containers, browsers, dbt and large files. Three at once on two cores: each waits a part of its time.
test-slow: setup
	@$(BIN)/python -m pytest -m slow -n 3 --dist loadfile $(PYTEST_ARGS)

# Model servers that nobody here wrote, installed below .servers/ (1.3 GB) by pip; skipped loudly without an index.
test-servers: setup
	@$(BIN)/python -m pytest tests/test_real_servers.py $(PYTEST_ARGS)

# The image of deploy/Dockerfile, built with podman on a base from debootstrap: five minutes, 6 GB of disk meanwhile.
test-image: setup
	@AI_ASSETS_TEST_IMAGE=yes $(BIN)/python -m pytest tests/test_image.py $(PYTEST_ARGS)

# Runs as pods on nodes of this machine, which join the cluster of KUBECONFIG; without it the test kubelet's own.
test-k8s: setup
	@AI_ASSETS_TEST_KUBECONFIG="$(KUBECONFIG)" AI_ASSETS_TEST_NAMESPACE="$(or $(NAMESPACE),ai-assets-test)" \
		$(BIN)/python -m pytest tests/test_kubelet.py tests/test_kubernetes.py $(PYTEST_ARGS)

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@sh setup.sh $(VENV)
	@touch $@

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m pytest -q tests/test_docs.py

bench: setup
	@$(BIN)/python -m bench $(BENCH_ARGS)

# 500 runs of an unchanged collection and 100 changed ones beside a living `up`: nothing may have grown.
soak: setup
	@$(BIN)/python -m bench.soak $(SOAK_ARGS)

# The pictures in docs/, taken again in less than a minute on two idle cores; needs chromium.
pictures: setup
	@$(BIN)/python docs/pictures

# The documentation as a site, in .site/: any web server shows it, `python -m http.server -d .site` for one.
site: setup
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --require-hashes -r docs/site/requirements.txt
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "The site is in .site/; look at it: $(BIN)/python -m http.server -d .site"

# Needs uv. The lock names no package index, so that everyone's own is used.
lock:
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header \
		--extra all --extra dev pyproject.toml -o requirements.lock
