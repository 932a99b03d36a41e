# The only commands anyone needs. Each does all of its own set-up in .venv; nothing is installed by hand.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
# Python compiles what it imports; of two gigabytes of packages that is little.
PIP := $(RUN) -m pip install --quiet --disable-pip-version-check --no-compile
unexport PYTHONDONTWRITEBYTECODE # or each of the many processes would compile it anew

.DEFAULT_GOAL := help
.PHONY: help setup serve test test-container image check export bench finetune-digits kubernetes-rules pin-base proto sbom lock clean

help: ## List these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/dev.stamp ## Everything: service, export (torch), tests and linters

serve: $(VENV)/service.stamp ## Serve the bundles in models/ on :8000, metrics on :9000 (no torch)
	$(RUN) -m service $(ARGS)

test: $(VENV)/dev.stamp ## Run the whole test suite in four processes, or in one what ARGS names
	$(RUN) -m pytest $(or $(ARGS),--numprocesses 4)

test-container: $(VENV)/dev.stamp ## Of these, the container image and Compose, on a Docker engine
	$(RUN) -m pytest tests/deploy/test_dockerfile.py tests/deploy/test_base_images.py tests/deploy/test_container.py tests/deploy/test_compose.py $(ARGS)

image: ## Build the container image (docs/container.md): make image IMAGE=mixer-serving ARGS=...
	DOCKER_BUILDKIT=1 docker build --tag $(IMAGE) $(LABELS) $(ARGS) .
IMAGE = mixer-serving
LABELS = --label org.opencontainers.image.version=$(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' service/__init__.py) \
	--label org.opencontainers.image.revision=$(shell git rev-parse HEAD) \
	--label org.opencontainers.image.source=$(shell git remote get-url origin 2> /dev/null | sed 's|//[^/]*@|//|')

check: $(VENV)/dev.stamp ## Lint, type-check and look for insecure code
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(RUN) -m bandit --quiet --configfile pyproject.toml --recursive service model_export benchmarks

export: $(VENV)/export.stamp ## Export a checkpoint: make export SOURCE=file NAME=name ARGS=...
	$(RUN) -m model_export export "$(SOURCE)" --name "$(NAME)" $(ARGS)

bench: $(VENV)/dev.stamp ## Measure the engine and the service on this machine
	$(RUN) -m benchmarks $(ARGS)

finetune-digits: $(VENV)/export.stamp ## Train the embedded default again and rebuild models/digits
	$(RUN) -m model_export finetune --from XS/4 --data digits --out runs/digits.safetensors
	$(RUN) -m model_export export runs/digits.safetensors --name digits --version 1 --golden digits --precision int8 --calibration digits --replace

kubernetes-rules: ## Write deploy/prometheus/rules into the Prometheus operator's form
	for rules in deploy/prometheus/rules/*.yml; do \
		printf -- '---\napiVersion: monitoring.coreos.com/v1\nkind: PrometheusRule\nmetadata:\n  name: mixer-%s\nspec:\n' $$(basename $$rules .yml); \
		sed 's/^\(.\)/  \1/' $$rules; \
	done > deploy/kubernetes/components/prometheus-operator/prometheusrule.yaml

pin-base: ## Pin the base images in Dockerfile and docker-compose.yml to the digests that their tags have now
	for image in $$(sed -n 's/^ARG BASE_IMAGE=\([^@]*\).*/\1/p' Dockerfile; sed -n 's/.*_IMAGE:-\([^@}]*\).*/\1/p' docker-compose.yml); do \
		digest=$$(docker buildx imagetools inspect "$$image" | awk '/^Digest:/ {print $$2}'); \
		test "$$digest" || exit 1; \
		sed -i.old -E "s|$$image(@[a-z0-9:]+)?|$$image@$$digest|" Dockerfile docker-compose.yml; \
		rm Dockerfile.old docker-compose.yml.old; \
	done

proto: $(VENV)/dev.stamp ## Write what the service reads of service/grpc_api/*.proto
	cd service/grpc_api && ../../$(RUN) -m grpc_tools.protoc -I. --descriptor_set_out=descriptors.binpb *.proto

sbom: $(VENV)/dev.stamp ## Write what the service is made of to dist/sbom.json (CycloneDX)
	mkdir -p dist
	$(RUN) -m cyclonedx_py requirements requirements/service.txt --pyproject pyproject.toml --output-reproducible -o dist/sbom.json

lock: ## Pin what pyproject.toml names and keep the rest; ARGS=--upgrade: the newest of all (needs uv)
	uv pip compile $(LOCK) -o requirements/service.txt pyproject.toml
	uv pip compile $(LOCK) -o requirements/otel.txt -c requirements/service.txt --extra otel pyproject.toml
	uv pip compile $(LOCK) -o requirements/dev.txt -c requirements/otel.txt -c requirements/torch.txt --extra dev pyproject.toml
	uv pip compile $(LOCK) -o requirements/export.txt -c requirements/dev.txt -c requirements/torch.txt --extra export pyproject.toml
	sed -n 's/^onnxruntime==\([0-9.]*\).*/onnxruntime-gpu[cuda,cudnn]==\1/p' requirements/service.txt \
		| uv pip compile $(LOCK) -o requirements/gpu.txt -c requirements/otel.txt -
	echo pillow-heif | uv pip compile $(LOCK) --no-deps -o requirements/heic.txt -c requirements/dev.txt -
	echo grpcio | uv pip compile $(LOCK) --no-deps -o requirements/grpc.txt -c requirements/dev.txt -
	echo checkov | uv pip compile $(LOCK) -o requirements/checkov.txt -
LOCK = --quiet $(ARGS) --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-package torch

clean: ## Remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info < (3, 14) else "Python 3.11 to 3.13 is needed; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/service.stamp: requirements/service.txt | $(VENV)/bin/python
	$(PIP) --require-hashes -r requirements/service.txt
	touch $@

$(VENV)/export.stamp: requirements/export.txt requirements/torch.txt | $(VENV)/bin/python
	$(PIP) --require-hashes -r requirements/export.txt
	$(PIP) -r requirements/torch.txt
	touch $@

$(VENV)/dev.stamp: requirements/dev.txt requirements/torch.txt requirements/oracles.txt | $(VENV)/bin/python
	$(PIP) --require-hashes -r requirements/dev.txt
	$(PIP) -r requirements/torch.txt
	$(PIP) --require-hashes --no-deps -r requirements/oracles.txt
	touch $@
