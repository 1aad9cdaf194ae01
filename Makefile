# make run     the daemon in the foreground; more options: make run ARGS="--http tcp:8080"
# make test    lint, types, tests with branch coverage and its gate, then man and the tests with a browser, Prometheus
#              and systemd; it says what it leaves out where these are not installed
# make check   lint, types and the fast tests: under a minute, for every save
# make test-faults   real faults: kills, cut links, full disks, wrong clocks; needs root, takes minutes
# make test-clients  curl, wrk, Node.js and Java as callers, nginx and haproxy in front; installs them with apt-get
# make test-browser  the pages in Chromium; installs it with apt-get
# make test-prometheus  Prometheus reads our files and a daemon; installs it with apt-get
# make screenshots   takes pictures of the dashboard at work, for the documentation; a few minutes
# make test-systemd  systemd checks the units in etc; installs it with apt-get
# make docs    the documentation as a site, in build/docs/html, and the man pages, in build/docs/man
# make tutorial  what docs/tutorial.md says, in a new clone, with the time of each step
# make fuzz    atheris looks for inputs that break something; longer, or less: make fuzz SECONDS=600 TARGETS="body http"
# make test-openapi  schemathesis compares a daemon with its OpenAPI document, for longer: make test-openapi EXAMPLES=500
# make options  the files that are made from the lists of options and of metrics
# make bench   against Node.js or FastAPI with Redis or PostgreSQL; takes long; some of it: make bench BENCH="--only post100"
# Everything happens in VENV, which is made when needed and kept up to date.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
BENCH ?=
SECONDS ?= 60
TARGETS ?=
EXAMPLES ?= 200
SEED ?= $(shell date +%s)

BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --quiet --disable-pip-version-check
# What an install depends on. The code is not in it: the install is editable.
INPUTS = setup.cfg pyproject.toml constraints.txt

.PHONY: run test check docs man tutorial test-faults test-clients test-browser screenshots test-prometheus test-systemd test-openapi fuzz bench bench-tools options lint types constraints dist clean
.DELETE_ON_ERROR:

run: $(VENV)/.run
	@exec $(BIN)/dcounter serve $(ARGS)

test: lint types
	@$(BIN)/python -m pytest --cov -n auto --dist worksteal
	@$(MAKE) --no-print-directory man
	@if command -v $(CHROMIUM) >/dev/null || [ "$$(id -u)" = 0 ]; then \
		$(MAKE) --no-print-directory test-browser; else \
		echo "Left out: the tests of the pages in a browser. Install $(CHROMIUM) for them." >&2; fi
	@if command -v promtool >/dev/null || [ "$$(id -u)" = 0 ]; then \
		$(MAKE) --no-print-directory test-prometheus; else \
		echo "Left out: the tests with Prometheus. Install it for them." >&2; fi
	@if command -v systemd-analyze >/dev/null || [ "$$(id -u)" = 0 ]; then \
		$(MAKE) --no-print-directory test-systemd; else \
		echo "Left out: what systemd says of the units in etc. Install systemd for it." >&2; fi

# Of the tests, those that start no process and play no long story.
FAST = tests/cli tests/docs tests/http tests/ledger tests/protocol tests/test_client.py tests/test_floors.py

check: lint types
	@$(BIN)/python -m pytest --quiet $(FAST)

# Warnings are errors: a link that leads nowhere is one.
SPHINX = $(BIN)/python -m sphinx -W --keep-going -q -d build/docs/doctrees
docs: $(VENV)/.docs man
	@$(SPHINX) -b html docs build/docs/html
	@echo "built build/docs/html/index.html"

# groff reads what man shows; any warning of it is an error.
man: $(VENV)/.docs
	@$(SPHINX) -b man docs build/docs/man
	@command -v groff >/dev/null || [ "$$(id -u)" != 0 ] || { \
		apt-get -qq update && apt-get -qq install -y --no-install-recommends groff-base; }
	@command -v groff >/dev/null || { \
		echo "Left out: the check of the man pages. Install groff for it." >&2; exit 0; }; \
	for page in build/docs/man/*; do \
		faults=$$(groff -K utf8 -man -t -T utf8 -ww -z $$page 2>&1); \
		[ -z "$$faults" ] || { echo "$$faults" >&2; exit 1; }; \
	done
	@echo "built $$(echo build/docs/man/*): to read one, man -l PAGE"

tutorial: $(VENV)/.made
	@$(BIN)/python -m tests.tutorial $(ARGS)

# What breaks networks, disks and clocks; installed if it is not there.
FAULT_TOOLS = strace iproute2 nftables libfaketime

test-faults: $(VENV)/.test
	@[ "$$(id -u)" = 0 ] || { echo "Namespaces, mounts and strace need root." >&2; exit 1; }
	@dpkg -s $(FAULT_TOOLS) >/dev/null 2>&1 || { \
		apt-get -qq update && apt-get -qq install -y --no-install-recommends $(FAULT_TOOLS); }
	@$(BIN)/python -m pytest tests/faults

# The browser is Debian's; Playwright would fetch one of its own. A process of its own, since Playwright leaves a
# running event loop behind.
CHROMIUM = chromium

test-browser: $(VENV)/.test
	@command -v $(CHROMIUM) >/dev/null || { \
		[ "$$(id -u)" = 0 ] || { echo "Install this first: $(CHROMIUM)" >&2; exit 1; }; \
		apt-get -qq update && apt-get -qq install -y --no-install-recommends $(CHROMIUM); }
	@$(BIN)/python -m pytest tests/browser

test-prometheus: $(VENV)/.test
	@command -v promtool >/dev/null || { \
		[ "$$(id -u)" = 0 ] || { echo "Install this first: prometheus" >&2; exit 1; }; \
		apt-get -qq update && apt-get -qq install -y --no-install-recommends prometheus; }
	@$(BIN)/python -m pytest tests/prometheus

# Pages name the fonts of each system; these are what a reader most likely sees.
SCREENSHOT_FONTS = fonts-inter fonts-noto-color-emoji

screenshots: $(VENV)/.test
	@dpkg -s $(CHROMIUM) $(SCREENSHOT_FONTS) >/dev/null 2>&1 || { \
		[ "$$(id -u)" = 0 ] || { echo "Install these first: $(CHROMIUM) $(SCREENSHOT_FONTS)" >&2; exit 1; }; \
		apt-get -qq update && apt-get -qq install -y --no-install-recommends $(CHROMIUM) $(SCREENSHOT_FONTS); }
	@DCOUNTER_SCREENSHOTS=docs/images FONTCONFIG_FILE=$(CURDIR)/tests/browser/fonts.conf \
		$(BIN)/python -m pytest tests/browser/test_screenshots.py

# The service need not run systemd: it only has to be there.
test-systemd: $(VENV)/.test
	@command -v systemd-analyze >/dev/null || { \
		[ "$$(id -u)" = 0 ] || { echo "Install this first: systemd" >&2; exit 1; }; \
		apt-get -qq update && apt-get -qq install -y --no-install-recommends systemd; }
	@$(BIN)/python -m pytest tests/systemd

# What calls the daemon, and what is put in front of it; installed if it is not there. Each is a package,
# and behind the colon a program of it: some systems have the program from elsewhere.
CLIENT_TOOLS = curl:curl wrk:wrk nodejs:node default-jdk-headless:javac nginx-light:nginx haproxy:haproxy

# Debian puts programs of the administrator there.
test-clients: export PATH := $(PATH):/usr/sbin
test-clients: $(VENV)/.test
	@missing=; for each in $(CLIENT_TOOLS); do \
		command -v "$${each#*:}" >/dev/null || missing="$$missing $${each%:*}"; done; \
	[ -z "$$missing" ] || { \
		[ "$$(id -u)" = 0 ] || { echo "Install these first:$$missing" >&2; exit 1; }; \
		apt-get -qq update && apt-get -qq install -y --no-install-recommends $$missing; }
	@$(BIN)/python -m pytest tests/clients

test-openapi: $(VENV)/.test
	@DCOUNTER_OPENAPI_EXAMPLES=$(EXAMPLES) DCOUNTER_OPENAPI_SEED=$(SEED) \
		$(BIN)/python -m pytest -s tests/e2e/test_schemathesis.py

fuzz: $(VENV)/.fuzz-tools
	@$(BIN)/python -m tests.fuzz --seconds $(SECONDS) $(TARGETS)

# What drives, and what we are measured against; installed if it is not there. Node.js may be of another origin.
BENCH_TOOLS = wrk redis-server postgresql
BENCH_NODE = $(if $(shell command -v node && command -v npm),,nodejs npm)
NODE_PEER = benchmarks/peers/node_redis

bench: $(VENV)/.bench bench-tools $(NODE_PEER)/node_modules/.installed
	@$(BIN)/python -m benchmarks $(BENCH)

bench-tools:
	@dpkg -s $(BENCH_TOOLS) $(BENCH_NODE) >/dev/null 2>&1 || { \
		[ "$$(id -u)" = 0 ] || { echo "Install these first: $(BENCH_TOOLS) $(BENCH_NODE)" >&2; exit 1; }; \
		apt-get -qq update && apt-get -qq install -y --no-install-recommends $(BENCH_TOOLS) $(BENCH_NODE); }

# Exactly what the lock file names. Warnings are about packages that only tests of fastify use.
$(NODE_PEER)/node_modules/.installed: $(NODE_PEER)/package.json $(NODE_PEER)/package-lock.json | bench-tools
	@npm ci --prefix $(NODE_PEER) --loglevel=error
	@touch $@

# etc/*.toml, from the list of options, and the tables of docs/metrics.md.
options: $(VENV)/.run
	@$(BIN)/python -m dcounter.daemon.reference
	@$(BIN)/python -m dcounter.daemon.families

lint: $(VENV)/.test
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(VENV)/.test
	@$(BIN)/mypy

# The stamps: the environment exists; the daemon is installed; the tools for tests are, too; those for benchmarks are.
$(VENV)/.made:
	@command -v $(PYTHON) >/dev/null || { \
		echo "There is no '$(PYTHON)' here. Name another: make PYTHON=python3.12 ..." >&2; \
		exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "dcounter needs Python 3.11 or newer, but '$(PYTHON)' is" \
			"$$($(PYTHON) --version 2>&1). Name another: make PYTHON=python3.12 ..." >&2; \
		exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.run: $(VENV)/.made $(INPUTS)
	@echo "installing into $(VENV) ..."
	@$(PIP) install -c constraints.txt -e .
	@touch $@

$(VENV)/.test: $(VENV)/.made $(INPUTS)
	@echo "installing into $(VENV) ..."
	@$(PIP) install -c constraints.txt -e '.[test,docs]'
	@touch $(VENV)/.run $(VENV)/.docs $@

$(VENV)/.docs: $(VENV)/.made $(INPUTS)
	@echo "installing into $(VENV) ..."
	@$(PIP) install -c constraints.txt -e '.[docs]'
	@touch $(VENV)/.run $@

$(VENV)/.fuzz-tools: $(VENV)/.test
	@echo "installing into $(VENV) ..."
	@$(PIP) install -c constraints.txt -e '.[test,docs,fuzz]'
	@touch $@

$(VENV)/.bench: $(VENV)/.made $(INPUTS)
	@echo "installing into $(VENV) ..."
	@$(PIP) install -c constraints.txt -e '.[bench]'
	@touch $(VENV)/.run $@

# Run it with the oldest Python we support: what only that one needs is then pinned, too.
constraints:
	@set -e; tmp=$$(mktemp -d); trap 'rm -rf "$$tmp"' EXIT; \
	$(PYTHON) -m venv "$$tmp/venv"; \
	"$$tmp/venv/bin/python" -m pip --quiet --disable-pip-version-check install -e '.[test,docs,dev,bench,fuzz]'; \
	{ echo "# Everything that '.[test,docs,dev,bench,fuzz]' pulls in, for Python 3.11 to 3.13."; \
	  echo "# Made by: make constraints PYTHON=python3.11"; \
	  "$$tmp/venv/bin/python" -m pip --disable-pip-version-check freeze --exclude dcounter; \
	} > "$$tmp/constraints.txt"; \
	cp "$$tmp/constraints.txt" constraints.txt

dist: $(VENV)/.made
	@$(PIP) install -c constraints.txt build
	@$(BIN)/python -m build --outdir dist .

clean:
	rm -rf .venv build dist $(NODE_PEER)/node_modules *.egg-info .fuzz .mypy_cache .pytest_cache .ruff_cache .hypothesis .schemathesis .coverage*
	rm -f twisted/plugins/dropin.cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
