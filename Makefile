# Two commands on a fresh machine with Python >= 3.11 and make: `make run` and `make test`.
# No target or prerequisite holds a path from outside, so the checkout may lie anywhere.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help run test bench lint setup setup-dev lock
.SUFFIXES:

PY := .venv/bin/python

help:
	@echo 'make run    set up and run everything, with the demo fleet'
	@echo 'make test   set up and run all tests'
	@echo 'make bench  run the benchmarks, which write docs/benchmarks.md'
	@echo 'make lint   check style, types and import direction'

# DEMO_SCENARIO, DEMO_ONSET_S, DEMO_SPEED and PORT reach it through the environment.
run: setup
	@exec $(PY) manage.py up --demo

test: setup-dev
	@exec $(PY) -m tests.run $(ARGS)

bench: setup-dev
	@exec $(PY) -m tests.benchmark $(ARGS)

lint: setup-dev
	@exec .ci/lint

setup:
	@exec .ci/setup base

setup-dev:
	@exec .ci/setup dev

# Writes the lock files anew; needs uv. What runs takes the versions that it is developed with.
lock: setup-dev
	@compile() { uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	        --no-emit-index-url --no-header "$$@"; }; \
	    compile requirements/dev.in -o requirements/dev.txt && \
	    compile -c requirements/dev.txt requirements/base.in -o requirements/base.txt
