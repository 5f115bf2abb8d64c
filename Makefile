# llm8850: `make run` and `make test` need nothing but a Debian machine with Rust.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

CARGO   ?= cargo
OUT     := target/release
BUILD   := build
DEMO    := $(BUILD)/models/smollm2-135m
VENV    := $(BUILD)/venv
# What `make run` serves: MODEL=file.gguf packs that file, MODEL_DIR=dir takes a model directory as it is.
MODEL     ?=
MODEL_DIR ?=
# What scripts/buildroot takes.
export AXCL_DEB AXCL_SHA256 KEYRING BUILDROOT_DIR
# Addresses, separated by blanks. The second is Ollama's, where its clients look.
LISTEN    ?= 127.0.0.1:8000 127.0.0.1:11434
# The card's library: the emulator unless another is named.
RUNTIME   ?= $(CURDIR)/$(OUT)/libaxcl_rt.so

.PHONY: help setup build cross deb reproducible model run test test-build test-rust test-aarch64 test-campaign test-abuse test-abuse-briefly test-clients test-openapi test-frameworks test-npm test-npm-here test-page test-page-here sim campaign bars forms soak test-systemd test-deb test-lights image image-qemu flash sbom image-check vm-test vm-test-here powercut lint bench clean

help: ## Say what can be made
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Check for, and where possible install, what building needs
	@scripts/setup

build: setup ## Build supervisor, worker, emulator and axmodel-pack
	@echo "== building (the first time takes several minutes)"
	$(CARGO) build --release --locked --workspace

cross: setup ## Build the same for a Raspberry Pi (aarch64): target/aarch64-unknown-linux-gnu/release
	@scripts/cross-aarch64

test-aarch64: setup ## The emulated card's arithmetic on emulated ARM processors (installs qemu-user)
	@scripts/cross-aarch64 test

model: build ## Fetch and pack the demo model (SmolLM2-135M-Instruct, Apache-2.0)
	@scripts/demo-model $(OUT)/axmodel-pack $(DEMO)

run: build ## Answer chat requests here: MODEL=file.gguf, MODEL_DIR=dir, LISTEN="addr:port …", RUNTIME=lib.so
	@if [ -z "$(MODEL)$(MODEL_DIR)" ]; then $(MAKE) --no-print-directory model; fi
	@scripts/run --listen "$(LISTEN)" --runtime "$(RUNTIME)" --gguf "$(MODEL)" --model-dir "$(or $(MODEL_DIR),$(if $(MODEL),,$(DEMO)))"

# The clients last: their runner's closing lines end the whole.
test: test-rust test-campaign test-abuse-briefly test-openapi test-page-here test-frameworks test-npm-here test-clients ## Run every test

# Building through `cargo test` also makes the programs: one build, not two.
test-build: setup
	@echo "== building programs and tests (the first time takes several minutes)"
	$(CARGO) test --release --locked --workspace --no-run
	@scripts/demo-model $(OUT)/axmodel-pack $(DEMO)

test-rust: test-build
	@echo "== Rust tests"
	LLM8850_DEMO_MODEL="$(CURDIR)/$(DEMO)" $(CARGO) test --release --locked --workspace --no-fail-fast

$(VENV)/.stamp: tests/clients/requirements.txt
	@echo "== installing the client libraries the tests talk with"
	python3 -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --require-hashes -r $<
	@touch $@

test-clients: test-build $(VENV)/.stamp
	@echo "== official clients against the real service"
	$(VENV)/bin/pytest -q tests/clients

$(BUILD)/venv-%/.stamp: tests/%/requirements.txt
	@echo "== installing what tests/$* needs"
	python3 -m venv $(@D)
	$(@D)/bin/pip install --quiet --require-hashes -r $<
	@touch $@

CASES ?= 500
test-openapi: test-build $(BUILD)/venv-openapi/.stamp ## Ask whatever /openapi.json allows: CASES=number
	@echo "== schemathesis against the real service"
	$(BUILD)/venv-openapi/bin/python tests/openapi/run.py --cases $(CASES)
	$(BUILD)/venv-openapi/bin/python tests/openapi/run.py --cases 100 --keys

FRAMEWORKS := $(BUILD)/venv-frameworks
test-frameworks: test-build $(FRAMEWORKS)/.stamp ## LangChain, LiteLLM, Pydantic AI, llm-comply
	@echo "== frameworks against the real service"
	$(FRAMEWORKS)/bin/pytest -q tests/frameworks --ignore tests/frameworks/npm

test-npm: test-build $(FRAMEWORKS)/.stamp ## Clients of JavaScript programs (installs node)
	@scripts/setup-npm $(BUILD)/npm
	@echo "== npm's clients against the real service"
	$(FRAMEWORKS)/bin/pytest -q tests/frameworks/npm

# Debian's npm brings several hundred packages along.
test-npm-here: test-build
	@if command -v node && command -v npm; then $(MAKE) --no-print-directory test-npm; \
	else echo "!! NOT TESTED: npm's clients, for want of node: make test-npm installs it"; fi

test-page: test-build $(BUILD)/venv-page/.stamp ## The status page in a real browser (installs Chromium)
	@scripts/setup-page $(BUILD)/page
	@echo "== the status page in Chromium"
	$(BUILD)/venv-page/bin/pytest -q tests/page

# A browser is too large to be installed by the way.
test-page-here: test-build
	@if command -v chromium && command -v chromedriver && command -v npm; then $(MAKE) --no-print-directory test-page; \
	else echo "!! NOT TESTED: the status page, for want of Chromium: make test-page installs it"; fi

# On a Raspberry Pi nothing has to be built for another machine.
deb: $(if $(filter aarch64,$(shell uname -m)),build,cross) ## Make the package for Raspberry Pi OS: build/deb/ (see docs/debian.md)
	@scripts/make-deb $(if $(filter aarch64,$(shell uname -m)),$(OUT),target/aarch64-unknown-linux-gnu/release) arm64 $(BUILD)/deb

reproducible: ## Build that package again in another directory, and compare bit for bit
	@scripts/reproducible

test-deb: model ## The package installed, updated and removed under a real systemd, in a container (as root)
	@tests/deb/run

test-systemd: model ## The service under a real systemd, in a container (as root; see docs/systemd.md)
	@tests/systemd/run
	@tests/systemd/run-image

test-lights: build cross ## The lights as real kernels drive them, in QEMU (see docs/lights.md)
	@tests/lights/run
	@tests/lights/run-gpio

image: ## Build the card's image with Buildroot: AXCL_DEB=, AXCL_SHA256=, MODEL_DIR=, KEYRING=, BUILDROOT_DIR= (docs/image.md)
	@MODEL_DIR="$(MODEL_DIR)" scripts/buildroot rpi5

image-qemu: model ## Build the same for QEMU: our runtime and the demo model in place of a card
	@MODEL_DIR="$(MODEL_DIR)" scripts/buildroot qemu

IMAGE ?= $(BUILD)/image-rpi5/images/llm8850.img
flash: ## Write the image to a card: DEVICE=/dev/…, IMAGE=file.img; asks before it erases
	@scripts/flash "$(IMAGE)" "$(DEVICE)"

sbom: ## List what the programs are made of, as CycloneDX: build/sbom.json
	@mkdir -p $(BUILD)
	@scripts/sbom > $(BUILD)/sbom.json

# Skips say what was not tested, and why.
image-check: $(BUILD)/venv-image/.stamp ## Check all of the image that needs no Buildroot; with BUILDROOT_DIR= what needs it, too
	@scripts/setup-image $(BUILD)/image
	@echo "== the image: external tree, overlay, units, partitions, updates, the vendor's package"
	PYTHONDONTWRITEBYTECODE=1 $(BUILD)/venv-image/bin/pytest -q -rs -p no:cacheprovider tests/image

vm-test: test-build cross $(VENV)/.stamp ## The image in a virtual machine, and broken on purpose (as root; see docs/vm.md)
	@tests/vm/run

# A machine on which no virtual one can be made is no fault of what is tested in it.
vm-test-here: test-build cross
	@if [ "$$(id -u)" = 0 ] && scripts/setup-vm; then $(MAKE) --no-print-directory vm-test; \
	else echo "!! NOT TESTED: the image in a virtual machine: it needs root, and what scripts/setup-vm installs"; fi

powercut: N = 200
powercut: test-build cross $(VENV)/.stamp ## Cut the virtual machine's power: N=times (as root)
	@tests/vm/run powercut.py $(N)

# Each kind of fault at least once, with the rest of 60 spread over them.
test-campaign: test-build $(VENV)/.stamp
	@echo "== faults under load"
	$(VENV)/bin/python tests/campaign/campaign.py --faults 60

# The same for less time.
test-abuse-briefly: test-build $(VENV)/.stamp
	@echo "== hostile and broken clients"
	$(VENV)/bin/python tests/abuse/abuse.py --seconds 1

EACH ?= 40
test-abuse: test-build $(VENV)/.stamp ## Hostile and broken clients beside a normal one: EACH=seconds
	$(VENV)/bin/python tests/abuse/abuse.py --seconds $(EACH)

N ?= 1000
SEED ?= 1
sim: test-build ## Random faults in virtual time: N=runs, SEED=first
	SIM_RUNS=$(N) SIM_SEED=$(SEED) $(CARGO) test --release --locked --workspace --lib -- service::sim --nocapture

FAULTS ?= 500
campaign: test-build $(VENV)/.stamp ## Break the emulated appliance under load: FAULTS=number
	$(VENV)/bin/python tests/campaign/campaign.py --faults $(FAULTS)

ROUNDS ?= 4
bars: test-build $(VENV)/.stamp ## Time detection and recovery, nothing compressed: ROUNDS=number
	$(VENV)/bin/python tests/campaign/bars.py --rounds $(ROUNDS)

forms: test-build $(VENV)/.stamp ## Answers that must have a form, of many schemas: N=number
	FORMS=$(N) $(VENV)/bin/pytest -q tests/clients/test_forms.py

H ?= 2
soak: test-build $(VENV)/.stamp ## Answer for hours, with a fault now and then: H=hours
	$(VENV)/bin/python tests/campaign/soak.py --hours $(H)

lint: ## Check format and clippy, warnings denied
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --locked --workspace --all-targets -- -D warnings

bench: model ## Measure and print tables (emulated card; see docs/performance.md)
	$(CARGO) build --release --locked --workspace --examples
	@scripts/bench $(OUT) $(DEMO) $(BUILD)

clean: ## Remove everything built, the demo model too
	rm -rf target $(BUILD)
