# Konsul. `make` or `make help` lists the targets.
SHELL       := /bin/bash
GO          ?= go
VERSION     ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS     := -s -w -X main.version=$(VERSION)
# raft's own metrics reach the Prometheus registry only with this tag.
TAGS        := hashicorpmetrics
FUZZTIME    ?= 30s
LINT        := v2.15.0
SOURCES     := $(shell find . -name '*.go' -not -path './.cluster/*') go.mod go.sum

.DEFAULT_GOAL := help
.PHONY: FORCE help build run test test-race test-cluster test-fault test-compose fuzz bench lint fmt proto cluster up down clean

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: bin/konsul ## one static binary: bin/konsul

bin/konsul: $(SOURCES) bin/.version
	CGO_ENABLED=0 $(GO) build -trimpath -tags $(TAGS) -ldflags '$(LDFLAGS)' -o $@ ./cmd/konsul

# The version that bin/konsul has in it: written only when it is another one, as after a tag or a commit.
bin/.version: FORCE
	@mkdir -p bin && echo '$(VERSION)' | cmp -s - $@ || echo '$(VERSION)' > $@

run: build ## a durable single node in ./data on 127.0.0.1:8500
	exec bin/konsul

test: ## unit tests and the short cluster tests: what CI runs
	$(GO) test -tags $(TAGS) ./...
	$(MAKE) test-cluster SHORT=-short

test-race: ## the unit tests under the race detector
	$(GO) test -race -tags $(TAGS) ./raftstore ./internal/persistence ./... # the longest first

test-cluster: build ## tests with real processes (SHORT=-short for the quick form)
	KONSUL_TEST_BINARY=$(CURDIR)/bin/konsul $(GO) test -tags $(TAGS),cluster -count=1 -timeout 60m $(SHORT) ./test/...

test-fault: build ## power cuts, full disks, long kills; needs root (SHORT=-short for the quick form)
	KONSUL_TEST_BINARY=$(CURDIR)/bin/konsul $(GO) test -tags $(TAGS),fault -count=1 -timeout 120m $(SHORT) ./test/...

test-compose: ## the docker-compose.yml as users get it; needs a Docker engine
	deploy/test-compose.sh

fuzz: ## every fuzz target for FUZZTIME each
	@set -e; for pkg in $$($(GO) list -tags $(TAGS) ./...); do \
	  for target in $$($(GO) test -tags $(TAGS) -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "fuzzing $$pkg $$target for $(FUZZTIME)"; \
	    $(GO) test -tags $(TAGS) -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$pkg; \
	  done; done

bench: build ## compare with etcd (Debian's etcd-server), if it is installed
	$(GO) run -tags $(TAGS) ./bench

lint: $(if $(shell golangci-lint version 2>/dev/null | grep -F '$(LINT:v%=%)'),,bin/golangci-lint) ## golangci-lint, pinned
	PATH="$(CURDIR)/bin:$$PATH" golangci-lint run

bin/golangci-lint:
	GOBIN=$(CURDIR)/bin $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT)

fmt: ## gofmt
	@gofmt -l -w $$(git ls-files -co --exclude-standard '*.go')

proto: ## generate the .pb.go files (needs protoc and protoc-gen-go)
	@for f in $$(git ls-files '*.proto'); do protoc --go_out=. --go_opt=paths=source_relative $$f; done

cluster: build ## three local nodes on 8501-8503 without Docker; Ctrl-C stops all
	@exec deploy/cluster.sh

up: ## the same three nodes in containers
	VERSION=$(VERSION) deploy/compose.sh up --build -d

down: ## stop and remove the containers; the data stays in its volumes
	deploy/compose.sh down

clean: ## remove what was built (not ./data)
	rm -rf bin .cluster
