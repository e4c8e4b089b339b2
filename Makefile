# Needs Python 3.11 or newer (with venv) and make. Everything else is installed into .venv.

PYTHON ?= python3
BIN := .venv/bin
MANAGE := $(BIN)/python manage.py
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
GROUPS := --group runtime --group embedded --group sandbox
WORKERS ?= 2
CHROMIUM := $(shell command -v chromium || command -v chromium-browser || command -v google-chrome)

.PHONY: setup demo run test lint format bench translations clean

setup: .venv/.setup

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Tunehouse needs Python 3.11 or newer; name one: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv .venv || { echo "Python cannot make virtual environments here; on Debian: apt-get install python3-venv"; exit 1; }

.venv/.setup: .venv/bin/python pyproject.toml config/constraints.txt
	@echo "Installing what Tunehouse runs on …"
	@$(PIP) install -c config/constraints.txt pip
	@$(PIP) install -c config/constraints.txt $(GROUPS)
	@touch $@

.venv/.dev: .venv/.setup
	@echo "Installing what the tests need …"
	@$(PIP) install -c config/constraints.txt --group dev
	@touch $@

MESSAGES := config/locale/es/LC_MESSAGES/django

$(MESSAGES).mo: $(MESSAGES).po .venv/.setup
	@$(BIN)/pybabel --quiet compile --domain django --directory config/locale

demo: setup $(MESSAGES).mo
	@$(MANAGE) demo $(if $(ONCE),--once)

run: setup $(MESSAGES).mo
	@$(MANAGE) up $(if $(PORT),--port $(PORT))

# The browser's tests need a browser: Debian's package chromium. CI installs it.
test: .venv/.dev $(MESSAGES).mo
	@$(if $(CHROMIUM),,echo "No Chromium here: the browser's tests are left out.")
	@$(BIN)/python -m pytest -n $(WORKERS) $(if $(CHROMIUM),,-m "not browser") $(ARGS)

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
	@$(BIN)/python -m pytest tests/benchmarks -q -s

# Needs GNU gettext.
translations: .venv/.dev
	@$(MANAGE) makemessages --locale es --no-obsolete --no-location

clean:
	@rm -rf .venv .data .static
