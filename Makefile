# Needs Python 3.11 or newer (with venv) and make. Everything else is installed into .venv.

PYTHON ?= python3
BIN := .venv/bin
MANAGE := $(BIN)/python manage.py
# Pinned by name and hash: what is installed today is what was tested.
INSTALL = $(BIN)/python -m pip --disable-pip-version-check --quiet install --constraint config/constraints.txt --requirement .venv/wanted.txt
WORKERS ?= 2
CHROMIUM := $(shell command -v chromium || command -v chromium-browser || command -v google-chrome)
# Debian keeps nginx where not everybody looks for programs.
NGINX := $(shell PATH="$$PATH:/usr/sbin" command -v nginx)
CADDY := $(shell command -v caddy)
PROXIES := $(and $(NGINX),$(CADDY))
NPM := $(shell command -v npm)
SLAPD := $(shell PATH="$$PATH:/usr/sbin" command -v slapd)
# Asked when the tests begin, since the environment may be made just before.
LDAP = $(and $(SLAPD),$(shell $(BIN)/python -c 'import django_auth_ldap; print("yes")' 2>/dev/null))

.PHONY: setup ldap demo run test lint format bench translations translations-check constraints clean

setup: .venv/.setup

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Tunehouse needs Python 3.11 or newer; name one: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv .venv || { echo "Python cannot make virtual environments here; on Debian: apt-get install python3-venv"; exit 1; }

.venv/.setup: .venv/bin/python pyproject.toml config/constraints.txt
	@echo "Installing what Tunehouse runs on …"
	@$(BIN)/python config/pins.py > .venv/wanted.txt
	@$(BIN)/python -m pip --disable-pip-version-check --quiet install --requirement .venv/wanted.txt
	@$(BIN)/python config/pins.py runtime embedded sandbox > .venv/wanted.txt
	@$(INSTALL)
	@touch $@

.venv/.dev: .venv/.setup
	@echo "Installing what the tests need …"
	@$(BIN)/python config/pins.py dev > .venv/wanted.txt
	@$(INSTALL)
	@touch $@

# Sign-in by LDAP, for those who want it: needs Debian's packages libldap2-dev, libsasl2-dev, gcc and python3-dev.
ldap: .venv/.setup
	@$(BIN)/python config/pins.py ldap > .venv/wanted.txt
	@$(INSTALL)

MESSAGES := config/locale/es/LC_MESSAGES/django

$(MESSAGES).mo: $(MESSAGES).po .venv/.setup
	@$(BIN)/pybabel --quiet compile --domain django --directory config/locale

demo: setup $(MESSAGES).mo
	@$(MANAGE) demo $(if $(ONCE),--once)

run: setup $(MESSAGES).mo
	@$(MANAGE) up --rehearsals $(if $(PORT),--port $(PORT))

# Some tests need more than Python: Debian's packages chromium, nginx and caddy, nodejs and npm, slapd (and `make ldap`), all of which CI
# installs. These are the marks of those that are left out here.
LEFT_OUT = $(strip $(if $(CHROMIUM),,browser) $(if $(PROXIES),,proxy) $(if $(NPM),,npm) $(if $(LDAP),,ldap))
SPACE := $() $()

test: .venv/.dev $(MESSAGES).mo
	@$(if $(CHROMIUM),,echo "No Chromium here: the browser's tests are left out.")
	@$(if $(PROXIES),,echo "No nginx or no Caddy here: the tests of these proxies are left out.")
	@$(if $(NPM),,echo "No npm here: the tests with Replicate's JavaScript client are left out.")
	@$(if $(LDAP),,echo "No slapd here, or not the group ldap: the tests of LDAP are left out.")
	@$(BIN)/python -m pytest -n $(WORKERS) $(if $(LEFT_OUT),-m "not ($(subst $(SPACE), or ,$(LEFT_OUT)))") $(ARGS)

lint: .venv/.dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@git ls-files -z 'templates/*.html' | xargs -0 $(BIN)/djade --check --target-version 5.2
	@$(BIN)/mypy .
	@$(BIN)/lint-imports
	@$(MANAGE) makemigrations --check --dry-run

format: .venv/.dev
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .
	@git ls-files -z 'templates/*.html' | xargs -0 $(BIN)/djade --target-version 5.2

bench: .venv/.dev $(MESSAGES).mo
	@TUNEHOUSE_LOG_LEVEL=WARNING $(BIN)/python -m pytest tests/benchmarks -q -s

# These two need GNU gettext.
translations: .venv/.dev
	@$(MANAGE) makemessages --locale es --no-obsolete --no-location

# Fails if a text of the pages is not in the catalogue; that each is translated is one of the tests.
translations-check: translations
	@git diff --exit-code --ignore-matching-lines='^"POT-Creation-Date' -- config/locale || { echo "The catalogue is behind: run make translations and fill in config/locale/es."; exit 1; }

# Resolve every group anew and pin what comes out, with the hashes of all its files.
constraints: .venv/bin/python
	@$(BIN)/python -m pip --quiet install pip-tools
	@{ echo pip; echo setuptools; $(BIN)/python config/pins.py --loose dev ldap; } > .venv/wanted.txt
	@$(BIN)/pip-compile --quiet --upgrade --strip-extras --allow-unsafe --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options --output-file config/constraints.txt .venv/wanted.txt

clean:
	@rm -rf .venv .data .static
