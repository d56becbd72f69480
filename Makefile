# ddvla: `make demo` and `make test` set up everything they need; `make help` lists the rest.
SHELL := /bin/bash
.DEFAULT_GOAL := help

CHECKPOINT ?= policies/tiny
# Where CHECKPOINT is exported to, in place of what is there; other things in build/ have other names. A bundle of
# one's own may be named, and is used as it is.
EXPORTED   := build/$(if $(filter policies/%,$(CHECKPOINT)),,bundles/)$(or $(notdir $(CHECKPOINT:%/=%)),$(error CHECKPOINT is empty))
$(if $(filter build/bundles/%,$(CHECKPOINT)),$(error CHECKPOINT is $(CHECKPOINT): build/bundles is for what is exported))
BUNDLE     ?= $(EXPORTED)
# What no file of a checkpoint tells; training leaves it beside the weights.
EXPORT     ?= $(shell cat $(CHECKPOINT)/export.args 2>/dev/null || echo --action-rate 20)
DEMO_FLAGS ?= --task all
GO_TEST    ?= go test
DURATION   ?= 10m
TIMES      ?= 20
SOURCES    := $(shell git ls-files --cached --others --exclude-standard '*.go' '*.c' '*.cc' '*.h' '*.urdf' go.mod go.sum 2>/dev/null)
# package.xml's, and the commit behind it where there is one.
VERSION    := $(shell sed -n 's:.*<version>\(.*\)</version>.*:\1:p' package.xml)$(shell git describe --match '' --always --dirty 2>/dev/null | sed 's:^:+:;s:-:.:')
export DDVLA_ORT_LIBRARY ?= $(CURDIR)/.deps/onnxruntime/libonnxruntime.so.1

.PHONY: help setup setup-test build bundle demo test test-ros colcon race vet lint fuzz proof faults soak scale bench speed tables eval dataset-memory bag-memory demos sim-experts train-three walkthrough clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

setup: ## install what the demo needs (apt packages, ONNX Runtime); nothing the second time
	@tools/setup

setup-test: ## install what the tests need besides (PyTorch, npm packages)
	@tools/setup test

build: setup bin/ddvla ## build bin/ddvla

bin/ddvla: $(SOURCES)
	@mkdir -p bin
	go build -ldflags "-X main.version=$(VERSION)" -o bin/ddvla ./cmd/ddvla

bundle: build $(BUNDLE)/policy.json ## export the tiny checkpoint, or $(CHECKPOINT), to a policy bundle

$(EXPORTED)/policy.json: $(wildcard $(CHECKPOINT)/*) bin/ddvla
	@rm -rf $(EXPORTED)
	bin/ddvla export --checkpoint $(CHECKPOINT) --out $(EXPORTED) $(EXPORT)

ifneq ($(BUNDLE),$(EXPORTED))
$(BUNDLE)/policy.json:
	@echo "BUNDLE is $(BUNDLE), where no policy.json is: name the directory that ddvla export wrote"; exit 2
endif

demo: bundle ## run the whole job over DDS without a robot: cameras and arms in, chunks, commands out
	bin/ddvla demo --bundle $(BUNDLE) --out build/demo $(DEMO_FLAGS)

test: setup-test bundle ## run all tests
	$(GO_TEST) ./...

test-ros: setup ## test against the ROS 2 Humble that is sourced: the rclgo back end, and ddvla under the ros2 command
	@test -n "$$AMENT_PREFIX_PATH" || { echo "make test-ros: source ROS 2 first, such as . /opt/ros/humble/setup.bash"; exit 2; }
	$(GO_TEST) -count 1 -tags rclgo ./ros/rclgo
	$(GO_TEST) -count 1 -timeout 40m ./internal/ros2cli -args -ros2

colcon: $(if $(AMENT_PREFIX_PATH),bundle) ## build the ROS package as a workspace does and check it (rclgo, launched, where ROS 2 is sourced; else Cyclone)
	@tools/setup colcon
	@BUNDLE=$(BUNDLE) tools/colcon

race: setup-test bundle ## run all tests under the race detector
	$(GO_TEST) -race ./...

vet: ## go vet, gofmt and staticcheck
	@test -z "$$(gofmt -l .)" || { echo "not gofmt'ed:"; gofmt -l .; exit 1; }
	go vet ./...
	go tool staticcheck ./...

lint: vet

fuzz: ## fuzz every parser of outside bytes for 10 s each
	@for p in $$(grep -rl --include='*_test.go' '^func Fuzz' . | xargs -n1 dirname | sort -u); do \
	  for f in $$(grep -rhoE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' $$p/*_test.go | awk '{ print $$2 }'); do \
	    echo "$$p $$f"; go test -run '^$$' -fuzz "^$$f$$" -fuzztime 10s -fuzzminimizetime 10x $$p || exit 1; done; done

proof: ## hold 100,000 random scenarios of the arms against the promises of docs/safety.md
	go test ./control -run NoScenario -v -timeout 30m -args -proof.scenarios 100000

faults: setup ## SIGSTOP, SIGKILL, clock jumps and silences done to real node processes (TIMES=200)
	go test ./cmd/ddvla -run '^TestFaultsOnRealProcesses$$' -v -count 1 -timeout 0 -args -faults.times $(TIMES)

soak: setup ## put a robot's load on the node (DURATION=10m) and account for every message
	go test ./cmd/ddvla -run '^TestSoak$$' -v -count 1 -timeout 0 -args -soak.duration $(DURATION)

scale: setup ## export and run a random checkpoint of OpenVLA-7B's size (DIR=/some/disk; 50 GB, an hour)
	@test -n "$(DIR)" || { echo "make scale DIR=/some/disk: a directory with 50 GB left"; exit 2; }
	go test ./weights -run TestScale -v -timeout 0 -args -scale.layers 32 -scale.dir $(DIR) -scale.rounds 12

bench: bundle speed ## run the benchmarks that the README quotes, and the tables
	go test -run '^$$' -bench Throughput -benchtime 3x ./bag
	go test -run '^$$' -bench . -benchmem ./msgs ./control ./policy/... ./node
	go test -run '^$$' -bench Refresh -benchtime 10x ./weights

speed: setup-test ## compare the ways to decode in one run, as ratios (docs/performance.md)
	go test ./weights -run '^TestSpeed$$' -v -count 1 -timeout 30m -args -speed.full

build/tiny-%/policy.json: $(BUNDLE)/policy.json
	@rm -rf build/tiny-$*
	bin/ddvla export --checkpoint $(CHECKPOINT) --out build/tiny-$* --precision $* $(EXPORT)

tables: bundle setup-test build/tiny-fp16/policy.json build/tiny-int8/policy.json build/tiny-int4/policy.json ## the paper's comparisons in closed loop (docs/eval.md; many hours); goes on where it was
	train/baselines.sh
	nice bin/ddvla eval tables --plan policies/tables.json --out build/tables $(if $(JOBS),--jobs $(JOBS))

eval: bundle ## success of $(BUNDLE) in the simulator
	bin/ddvla eval run --bundle $(BUNDLE) --out build/eval $(EVAL_FLAGS)

bag-memory: ## peak memory of reading 5 GB of bags against that of 0.1 GB (5 minutes, 5 GB of disk)
	go test ./bag -run '^TestMemoryIsThatOfASmallBag$$' -v -count 1 -timeout 60m -args -memory.gb 5

dataset-memory: setup-test ## memory of ddvla dataset on a bag of 20 minutes (4 minutes, 8 GB of disk)
	go test ./cmd/ddvla -run '^TestDatasetMemory$$' -v -count 1 -timeout 30m -args -dataset.minutes 20

demos: ## the generator of demonstrations as one static binary
	go build -tags netgo,osusergo -ldflags '-linkmode external -extldflags -static' -o bin/demos ./sim/demos

sim-experts: ## experts, wrong instructions and standing still on 200 seeds a task
	go test ./sim -run ExpertsSucceed -v -timeout 30m -args -task.seeds 200

train-three: build setup-test ## teach policies/tiny three tasks under other lights, tables and cameras: two cores, an hour (TASKS=reach,bell,cup)
	train/three_tasks.sh

walkthrough: build setup-test ## record, data set, train, export, check, judge: at toy scale, four minutes (TASK=bell EPISODES=10 MINUTES=2)
	rm -rf build/walkthrough
	tools/walkthrough

clean: ## remove what was built, keep what was set up
	rm -rf bin build
