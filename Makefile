# Everything a developer does here. `make` alone lists it.

FUZZTIME ?= 10s

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build bin/proxy
	CGO_ENABLED=0 go build -trimpath -o bin/proxy ./cmd/proxy

run: ## run the proxy with config.yml or the defaults
	go run ./cmd/proxy serve

test: ## run all tests; end-to-end tests skip where a tool is missing
	go test -timeout 30m ./...

e2e: ## run the end-to-end tests, and fail where a tool is missing
	DIFFGATE_E2E=require go test -count=1 -timeout 30m -v ./e2e/...

e2e-tools: ## install with apt what the end-to-end tests need
	e2e/install

bench: ## measure everything beside what there is to compare it with; BENCH are flags
	go run ./e2e/bench $(BENCH)

microbench: ## run the benchmarks of single packages
	go test -run '^$$' -bench . -benchmem ./...

lint: ## check formatting, go vet, staticcheck
	.ci/run gofmt vet staticcheck

fuzz: ## run every fuzz target for FUZZTIME each (10s)
	@set -e; for package in $$(go list ./...); do \
		for target in $$(go test -list '^Fuzz' $$package | grep '^Fuzz' || true); do \
			echo "== $$package $$target"; \
			go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$package; \
		done; \
	done

image: ## build the static program and the image diffgate
	deployments/image

ci: ## run what continuous integration runs
	.ci/run

clean: ## remove what was built here
	rm -rf bin

.PHONY: help build run test e2e e2e-tools bench microbench lint fuzz image ci clean
