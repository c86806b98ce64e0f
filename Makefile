# This file creates the virtual environment. The commands themselves are in chatbackend/dev/.
# PYTHON: the Python of .venv. Without it, an existing .venv stays as it is. With another one, .venv is new.
PYTHON ?= $(if $(wildcard .venv/bin/python),.venv/bin/python,python3)
PACKAGES := .venv/.installed
RUN := .venv/bin/python -m
# Python's development mode without its checks of C memory: they take a tenth of the suite's time, and we have
# no C code. Bytecode is always written, because the suite starts our programs a hundred times.
STRICT := PYTHONDEVMODE=1 PYTHONMALLOC=default PYTHONDONTWRITEBYTECODE= $(RUN)

.DEFAULT_GOAL := help
.PHONY: help run setup test matrix image examples check audit bench servers faults mutate fuzz clean
ifneq ($(shell $(PYTHON) -V 2>&1),$(shell test -x .venv/bin/python && .venv/bin/python -V))
.PHONY: $(PACKAGES)
endif

help:  ## show this list
	@sed -n 's/^\([a-z]*\):.*## /\1|/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do \
		printf '  make %-8s %s\n' "$$name" "$$text"; done

run: $(PACKAGES)  ## run the page, the API and a database on this machine, until Ctrl-C
	@$(RUN) chatbackend.dev run

setup: $(PACKAGES)  ## install what `make run` and `make test` need
	@$(RUN) chatbackend.dev setup

test: setup  ## run all tests; a part: make test ARGS="-k audit"
	$(STRICT) pytest -n 4 --dist loadfile --no-loadscope-reorder $(ARGS)

matrix: setup  ## run the core of the tests with each Python of the machine and each Django; a part: ARGS="3.13"
	@$(RUN) chatbackend.dev matrix $(ARGS)

image: setup  ## run the steps of the Dockerfile without a container engine
	$(STRICT) pytest -m image tests/test_image.py

examples: setup  ## build examples/nextjs and the projects of the documents, and use them
	$(STRICT) pytest -m slow

check: $(PACKAGES)  ## check style, types, production settings and missing migrations
	$(RUN) ruff format --check .
	$(RUN) ruff check .
	$(RUN) mypy runtime authn support chatbackend benchmarks faults
	$(RUN) chatbackend.dev check

audit: setup  ## check the installed packages for known vulnerabilities
	@$(RUN) chatbackend.dev audit

bench: $(PACKAGES)  ## compare the speed with alternatives; options: make bench ARGS="--help"
	@$(RUN) benchmarks $(ARGS)

servers: setup  ## run the tests of other ASGI servers than uvicorn
	@$(RUN) pip install --quiet --disable-pip-version-check -r tests/servers/requirements.txt
	$(RUN) pytest -m servers tests/servers

faults: $(PACKAGES)  ## test database faults under load; growth of memory: make faults ARGS="soak"
	@$(RUN) faults $(ARGS)

mutate: setup  ## find code changes that no test notices; one file: make mutate ARGS="authn/jwt/keys.py"
	@$(RUN) pip install --quiet --disable-pip-version-check -r tests/mutation/requirements.txt
	@$(RUN) tests.mutation $(ARGS)

fuzz: setup  ## send random hostile requests; make fuzz CASES=1000000 SEED=7
	@CASES=$(CASES) SEED=$(SEED) $(RUN) pytest -q -x --show-capture=no tests/fuzz/long_run.py

clean:  ## remove the installed packages and the local database
	rm -rf "$$(readlink -f .local/postgres/server)" "$$(readlink -f .local/benchmarks/postgres/server)" .local .venv frontend/node_modules tests/better_auth/node_modules examples/nextjs/node_modules examples/nextjs/.next

$(PACKAGES): requirements.txt requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
		"Python 3.11 or newer is needed, such as: make PYTHON=python3.12")'
	@echo "Installing Python packages (about a minute) …"
	@test "$$($(PYTHON) -V)" = "$$(.venv/bin/python -V 2>&1)" -a -x .venv/bin/pip || $(PYTHON) -m venv --clear .venv
	@$(RUN) pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@
