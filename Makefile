# Breakglass Gateway. `make` lists the targets.
#
# Tools are pinned in hack/tools/versions.env and installed on first use below $(BREAKGLASS_CACHE)/tools.

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS   += --no-builtin-rules

include hack/tools/versions.env

MODULE := github.com/breakglass-gateway/breakglass-gateway

# Set BREAKGLASS_CACHE to share one set of tools among clones.
BREAKGLASS_CACHE ?= $(CURDIR)/.cache
export BREAKGLASS_CACHE
TOOLS := $(abspath $(BREAKGLASS_CACHE))/tools

GOVERSION := $(shell go env GOVERSION)
# The tools are keyed by the Go that built them: a linter cannot read code newer than its own Go.
go_tool = $(TOOLS)/$(1)-$(2)-$(GOVERSION)/$(1)

ENVOY          ?= $(TOOLS)/envoy-$(ENVOY_VERSION)/envoy
GOLANGCI_LINT  := $(call go_tool,golangci-lint,$(GOLANGCI_LINT_VERSION))
GOVULNCHECK    := $(call go_tool,govulncheck,$(GOVULNCHECK_VERSION))
CONTROLLER_GEN := $(call go_tool,controller-gen,$(CONTROLLER_GEN_VERSION))
HELM           := $(call go_tool,helm,$(HELM_VERSION))
COREDNS        := $(call go_tool,coredns,$(COREDNS_VERSION))
ALERTMANAGER   := $(call go_tool,alertmanager,$(ALERTMANAGER_VERSION))
AXE            := $(TOOLS)/axe-$(AXE_VERSION)/axe.min.js
# A directory: etcd, kubectl, kubelet and the others. Also what envtest wants as KUBEBUILDER_ASSETS.
KUBERNETES     := $(TOOLS)/kubernetes-$(KUBERNETES_VERSION)-$(GOVERSION)

BIN     := bin/breakglass
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
COMMIT  ?= $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X $(MODULE)/internal/version.Version=$(VERSION) -X $(MODULE)/internal/version.Commit=$(COMMIT)

FUZZTIME  ?= 1h
FUZZ      ?= .
FUZZFLAGS ?=
PROBES    ?= 10000
SEED      ?=
BENCHTIME ?= 1s
BENCH     ?= .
BENCHFLAGS ?=
# Extra flags for `go test`, such as -run=TestName or -v.
TESTFLAGS ?=

# How many processes run the specs of test/serve side by side. With 1, and BREAKGLASS_STRICT=1, milliseconds are judged.
PROCS ?= 4
# Extra flags for ginkgo, such as --focus='A full disk' or -v.
SPECFLAGS ?=
# How often `make test-faults` kills.
ROUNDS ?= 50
RATE   ?= 1000
OUTAGE ?= 10m
GINKGO := go run github.com/onsi/ginkgo/v2/ginkgo

# Where `make cluster` has its node. Two clones that share BREAKGLASS_CACHE need one each.
CLUSTER_DIR ?= $(abspath $(BREAKGLASS_CACHE))/cluster
CLUSTER     := bin/cluster
IMAGES      := bin/images
# The tag of our image in a cluster for tests.
IMAGE_TAG   ?= dev

# Packages with tests that start a real Envoy.
ENVOY_PACKAGES = $(shell grep -rlE --include='*_test.go' '^//go:build .*\benvoy\b' . | xargs -r -n1 dirname | sort -u)

##@ Help

.PHONY: help
help: ## List the targets.
	@awk 'BEGIN {FS = ":.*## "} \
	    /^##@ / {printf "\n%s\n", substr($$0, 5)} \
	    /^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##@ Build

.PHONY: build
build: ## Build bin/breakglass.
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN) ./cmd/breakglass

# One rule for both users of the generator, so that what is verified is what is generated.
generate_into = $(CONTROLLER_GEN) object crd paths=./api/v1alpha1/... output:object:dir=$(1) output:crd:dir=$(2)

.PHONY: man
man: build ## Write the man pages of every command to man/.
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct 2>/dev/null || echo 0) $(BIN) man man

.PHONY: generate
generate: $(CONTROLLER_GEN) ## Generate deep copies and CRDs from api/v1alpha1, and what the chart has of api.
	$(call generate_into,api/v1alpha1,api/crds)
	cp api/crds/breakglass.dev_*.yaml charts/breakglass/crds/
	cp api/admission/*.yaml charts/breakglass/files/admission/

.PHONY: clean
clean: ## Remove what was built. Installed tools stay.
	rm -rf bin man
	find . -name '*.test' -type f -not -path './.git/*' -delete

##@ Check

.PHONY: test
test: ## Everything: vet, unit tests with the race detector, chart, API server, tests on the real Envoy.
	@$(MAKE) --no-print-directory vet
	@$(MAKE) --no-print-directory test-unit
	@$(MAKE) --no-print-directory test-chart
	@$(MAKE) --no-print-directory test-apiserver
	@$(MAKE) --no-print-directory test-receivers
	@$(MAKE) --no-print-directory test-envoy
	@echo "make test: ok (vet, unit tests, chart, API server, receivers of sinks, tests on Envoy $(ENVOY_VERSION))"

.PHONY: vet
vet:
	go vet ./...
	go vet -tags envoy,cluster ./...
	go vet -tags clockstep ./internal/clock
	go vet -tags helm,apiserver,bench ./test/chart ./test/apiserver ./test/controller
	cd conformance && go vet .
	cd test/receivers && go vet -tags alertmanager .
	cd test/browser && go vet .

.PHONY: test-unit
test-unit: cc python ## Unit, golden and property tests and fuzz seeds, with the race detector. No Envoy needed.
	CGO_ENABLED=1 go test -race -shuffle=on -timeout 15m $(TESTFLAGS) ./...
	cd conformance && go test -shuffle=on -timeout 5m -skip '^TestConformance$$' $(TESTFLAGS) .

.PHONY: test-chart
test-chart: $(HELM) ## Render charts/breakglass and compare (build tag helm; TESTFLAGS=-update writes the golden files).
	BREAKGLASS_HELM='$(HELM)' go test -tags helm -shuffle=on -count=1 -timeout 5m ./test/chart $(TESTFLAGS)

.PHONY: test-apiserver
test-apiserver: $(HELM) $(KUBERNETES)/kubernetes ## The chart on a real kube-apiserver: CRDs, admission, RBAC (build tag apiserver).
	BREAKGLASS_HELM='$(HELM)' KUBEBUILDER_ASSETS='$(KUBERNETES)' go test -tags apiserver -shuffle=on -count=1 -timeout 5m $(TESTFLAGS) ./test/apiserver

.PHONY: test-receivers
test-receivers: $(ALERTMANAGER) ## Sinks on receivers of others: the OpenTelemetry collector's, CloudEvents and Standard Webhooks, Alertmanager.
	cd test/receivers && BREAKGLASS_ALERTMANAGER='$(ALERTMANAGER)' go test -tags alertmanager -shuffle=on -count=1 -timeout 5m $(TESTFLAGS) .

.PHONY: test-sink-faults
test-sink-faults: ## The same outage and kills for as long as issue 8 wants: 10 minutes at 1,000 requests/s, then 50 kills.
	cd test/receivers && OUTAGE=10m go test -count=1 -timeout 30m -v -run '^TestAnOutage' $(TESTFLAGS) .
	cd test/receivers && ROUNDS=50 go test -count=1 -timeout 30m -v -run '^TestKilled' $(TESTFLAGS) .

.PHONY: test-envoy
test-envoy: $(ENVOY) ## Tests on the real Envoy (build tag envoy).
	@$(MAKE) --no-print-directory test-envoy-packages
	@$(MAKE) --no-print-directory test-serve

.PHONY: test-envoy-packages
test-envoy-packages: $(ENVOY)
	BREAKGLASS_ENVOY='$(ENVOY)' go test -tags envoy -shuffle=on -count=1 -p 2 -timeout 20m $(TESTFLAGS) $(filter-out ./test/serve,$(ENVOY_PACKAGES))

# Its specs wait most of the time, for deadlines and for processes, so that several run side by side.
.PHONY: test-serve
test-serve: $(ENVOY) $(ALERTMANAGER) ## The whole gateway, binary and Envoy, from the outside (PROCS=4, SPECFLAGS='--focus=REGEXP').
	BREAKGLASS_ENVOY='$(ENVOY)' BREAKGLASS_ALERTMANAGER='$(ALERTMANAGER)' $(GINKGO) -tags envoy -procs=$(PROCS) --succinct --timeout 20m $(SPECFLAGS) ./test/serve

.PHONY: test-faults
test-faults: $(ENVOY) $(ALERTMANAGER) ## Kill serve and Envoy 50 times each at random moments under load (ROUNDS=50, SPECFLAGS='--seed=N' repeats one).
	@seed=$$(date +%s); echo "seed $$seed"; \
	BREAKGLASS_ENVOY='$(ENVOY)' BREAKGLASS_ALERTMANAGER='$(ALERTMANAGER)' BREAKGLASS_ROUNDS=$(ROUNDS) $(GINKGO) -tags envoy -procs=2 --succinct --timeout 60m \
	    --label-filter=kills --seed=$$seed $(SPECFLAGS) ./test/serve

# How long `make test-evidence-faults` takes the audit log service away.
OUTAGE ?= 10m
.PHONY: test-evidence-faults
test-evidence-faults: $(ENVOY) ## Kill agents and the audit log service 50 times under 1,000 requests/s, cut the network, fill the disks (as root; ROUNDS=50, OUTAGE=10m).
	@seed=$$(date +%s); echo "seed $$seed"; \
	BREAKGLASS_ENVOY='$(ENVOY)' BREAKGLASS_ROUNDS=$(ROUNDS) BREAKGLASS_OUTAGE=$(OUTAGE) $(GINKGO) -tags envoy --timeout 60m \
	    --label-filter=evidence --seed=$$seed $(SPECFLAGS) ./test/pod

# A network namespace for each process: not for ginkgo's own parallel runs.
.PHONY: test-controller
test-controller: as-root $(HELM) $(KUBERNETES)/kubernetes $(ENVOY) ## The controller on a real kube-apiserver, with real Envoys (as root; TESTFLAGS='-ginkgo.focus=REGEXP').
	BREAKGLASS_HELM='$(HELM)' KUBEBUILDER_ASSETS='$(KUBERNETES)' BREAKGLASS_ENVOY='$(ENVOY)' \
	    go test -tags apiserver -count=1 -timeout 20m ./test/controller $(TESTFLAGS)

.PHONY: test-cluster
test-cluster: as-root node-binaries images $(HELM) $(ALERTMANAGER) ## In a real Kubernetes cluster of one node, which comes and goes (as root; SPECFLAGS='--focus=REGEXP').
	BREAKGLASS_CLUSTER='$(abspath $(CLUSTER))' BREAKGLASS_KUBERNETES='$(KUBERNETES)' BREAKGLASS_COREDNS='$(COREDNS)' \
	BREAKGLASS_HELM='$(HELM)' BREAKGLASS_IMAGES='$(abspath $(IMAGES))' BREAKGLASS_ALERTMANAGER='$(ALERTMANAGER)' \
	    $(GINKGO) -tags cluster --succinct --timeout 30m $(SPECFLAGS) ./test/cluster

# OUTAGE is how long the audit log service is away, RATE requests a second.
.PHONY: test-cluster-faults
test-cluster-faults: ## Kill agents and the audit log service of that cluster 50 times under load (ROUNDS=50 RATE=1000 OUTAGE=10m).
	BREAKGLASS_ROUNDS=$(ROUNDS) BREAKGLASS_RATE='$(RATE)' BREAKGLASS_OUTAGE='$(OUTAGE)' \
	    $(MAKE) --no-print-directory test-cluster SPECFLAGS="--focus='is installed by Helm|log of the cluster' --timeout 60m $(SPECFLAGS)"

# Chromium is Debian's, of whatever version: what it has to show is HTML.
CHROMIUM ?= chromium
.PHONY: chromium
chromium:
	@command -v '$(CHROMIUM)' >/dev/null || hack/tools/apt-install 'a browser' chromium fonts-dejavu-core

.PHONY: test-report-browser
test-report-browser: chromium $(AXE) ## The pages of `breakglass report` in a real browser: asks for nothing, complains of nothing, accessible (a minute).
	cd test/browser && BREAKGLASS_CHROMIUM="$$(command -v '$(CHROMIUM)')" BREAKGLASS_AXE='$(AXE)' go test -count=1 -timeout 5m $(TESTFLAGS) .

.PHONY: look
look: chromium $(AXE) ## Pictures of the same, for people: light, dark, phone and print, in bin/look.
	@mkdir -p bin/look
	cd test/browser && BREAKGLASS_SHOTS='$(abspath bin/look)' BREAKGLASS_CHROMIUM="$$(command -v '$(CHROMIUM)')" go test -count=1 -timeout 5m -run '^TestThePageCanBePrinted$$' .
	@ls bin/look

# What the suite's binary runs with, and where it leaves its reports.
REPORTS ?= $(abspath conformance/reports)
conformance_run = BREAKGLASS_CLUSTER='$(abspath $(CLUSTER))' BREAKGLASS_KUBERNETES='$(KUBERNETES)' BREAKGLASS_COREDNS='$(COREDNS)' \
	BREAKGLASS_HELM='$(HELM)' BREAKGLASS_IMAGES='$(abspath $(IMAGES))' BREAKGLASS_CONFORMANCE='$(abspath bin/conformance.test)' \
	conformance/run -image-tag '$(IMAGE_TAG)' -conformance-profiles GATEWAY-HTTP,GATEWAY-GRPC \
	-organization breakglass-gateway -project breakglass-gateway -url 'https://$(MODULE)' \
	-version '$(VERSION)' -contact 'https://$(MODULE)/issues'

.PHONY: conformance
conformance: conformance-binaries ## The upstream conformance suite of the Gateway API in a cluster, with a token on every request (as root; see docs/conformance.md).
	@mkdir -p '$(REPORTS)'
	$(conformance_run) -log '$(abspath bin/conformance.log)' -report-output '$(REPORTS)/report.yaml' -summary '$(REPORTS)/summary.md' -facts '$(REPORTS)/tests.json' $(TESTFLAGS)

# Each case of a test that sends traffic waits this long for what cannot come.
.PHONY: conformance-locked
conformance-locked: conformance-binaries ## The same without tokens and without Activations: fails if one test that sends traffic passes.
	@mkdir -p '$(REPORTS)'
	$(conformance_run) -log '$(abspath bin/conformance-locked.log)' -test.parallel 4 -locked -against '$(REPORTS)/tests.json' -timeout-config-overrides MaxTimeToConsistency:1 \
	    -report-output '$(REPORTS)/locked-report.yaml' -summary '$(REPORTS)/locked-summary.md' $(TESTFLAGS)

# Those that need no Gateway but the suite's own four.
.PHONY: conformance-short
conformance-short: conformance-binaries ## The part of it that runs in a few minutes.
	$(conformance_run) -log '$(abspath bin/conformance-short.log)' -test.run 'TestConformance/^(HTTPRoute|GRPC)' $(TESTFLAGS)

.PHONY: conformance-binaries
conformance-binaries: as-root node-binaries images $(HELM)
	@cd conformance && go test -c -o ../bin/conformance.test .
	@cd conformance && CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o ../bin/echo-basic sigs.k8s.io/gateway-api/conformance/echo-basic
	@cd conformance/coredns && CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o ../../bin/coredns .
	@bin/image -o $(IMAGES)/conformance/echo-basic.tar $(addprefix -tag registry.k8s.io/gateway-api/echo-basic:,v1.5.1 v1.6.0-dev.2 v1.6.0-dev.3) bin/echo-basic:/echo-basic
	@bin/image -o $(IMAGES)/conformance/coredns.tar -tag registry.k8s.io/coredns/coredns:v1.12.2 -user 0:0 bin/coredns:/coredns

.PHONY: lint
lint: $(GOLANGCI_LINT) verify-generate ## golangci-lint, and that generated files are up to date.
	$(GOLANGCI_LINT) run ./...
	cd conformance && $(GOLANGCI_LINT) run ./...
	cd test/browser && $(GOLANGCI_LINT) run ./...

.PHONY: verify-generate
verify-generate: $(CONTROLLER_GEN) ## Fail when generated files differ from what `make generate` would write.
	@tmp=$$(mktemp -d) && trap 'rm -rf "$$tmp"' EXIT; \
	$(call generate_into,$$tmp,$$tmp/crds); \
	diff -u api/v1alpha1/zz_generated.deepcopy.go "$$tmp/zz_generated.deepcopy.go" || stale=1; \
	for f in "$$tmp"/crds/*.yaml; do diff -u "api/crds/$$(basename "$$f")" "$$f" || stale=1; done; \
	mkdir "$$tmp/chart" && cp api/crds/breakglass.dev_*.yaml "$$tmp/chart"; \
	diff -ru "$$tmp/chart" charts/breakglass/crds || stale=1; \
	diff -ru --exclude='*.go' api/admission charts/breakglass/files/admission || stale=1; \
	if [ "$${stale:-}" ]; then echo 'generated files are stale: run `make generate` and commit the result' >&2; exit 1; fi

.PHONY: vulncheck
vulncheck: $(GOVULNCHECK) ## Known vulnerabilities in what we call (needs the Go vulnerability database).
	$(GOVULNCHECK) ./...

# Fuzz targets one after the other. `go test -fuzz` knows one per run. What it finds interesting stays in Go's own
# cache; what fails is written to testdata/fuzz, and belongs into git together with the mend.
.PHONY: fuzz
fuzz: ## Run every fuzz target for FUZZTIME (default 1h) each; FUZZ=regexp chooses some.
	@failed=; for at in $$(grep -rHoE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' . | sed 's/:func /:/' | sort | grep -E '$(FUZZ)'); do \
	    dir=$$(dirname "$${at%%:*}") name=$${at##*:}; \
	    echo "== $$dir $$name ($(FUZZTIME))"; \
	    go test "$$dir" -run '^$$' -fuzz "^$$name\$$" -fuzztime '$(FUZZTIME)' -timeout 0 $(FUZZFLAGS) </dev/null || failed="$$failed $$name"; \
	done; \
	if [ -n "$$failed" ]; then echo "failed:$$failed" >&2; exit 1; fi

.PHONY: soak
soak: $(ENVOY) ## Random requests in random worlds on the real Envoy against the oracle (PROBES=10000; SEED=N: one world again).
	BREAKGLASS_ENVOY='$(ENVOY)' PROBES='$(PROBES)' SEED='$(SEED)' go test -tags envoy -count=1 -timeout 2h $(TESTFLAGS) -v ./test/oracle

.PHONY: bench
bench: build $(ENVOY) ## Measure serve on the real Envoy, about ten minutes (BENCHFLAGS='-routes 1,100 -rounds 10 -json FILE -only latency').
	go run ./test/bench -breakglass $(BIN) -envoy '$(ENVOY)' $(BENCHFLAGS)

.PHONY: bench-audit
bench-audit: build $(ENVOY) ## Kill serve and Envoy 50 times each under load, and count what the audit log has (about three minutes).
	go run ./test/bench -breakglass $(BIN) -envoy '$(ENVOY)' -audit -rounds 50 $(BENCHFLAGS)

.PHONY: bench-strict
bench-strict: build $(ENVOY) ## What audit.mode Strict adds to a request, at 1, 16 and 64 connections (two minutes).
	go run ./test/bench -breakglass $(BIN) -envoy '$(ENVOY)' -strict -rounds 60 $(BENCHFLAGS)

.PHONY: bench-controller
bench-controller: as-root $(HELM) $(KUBERNETES)/kubernetes $(ENVOY) ## From the creation of an Activation to the first 200, on a real kube-apiserver with up to 5,000 routes (three minutes).
	BREAKGLASS_HELM='$(HELM)' KUBEBUILDER_ASSETS='$(KUBERNETES)' BREAKGLASS_ENVOY='$(ENVOY)' \
	    go test -tags apiserver,bench -count=1 -timeout 20m -v ./test/controller -ginkgo.focus='How long it takes' $(TESTFLAGS)

.PHONY: bench-go
bench-go: ## Go benchmarks (BENCH=regexp, BENCHTIME=1s); they report, they never fail on a figure.
	go test -run '^$$' -bench '$(BENCH)' -benchtime '$(BENCHTIME)' -benchmem -p 1 $(TESTFLAGS) ./...

.PHONY: print-envoy
print-envoy:
	@echo '$(ENVOY)'

##@ Use

# What a pipeline of a break-glass repository runs; here on the example.
.PHONY: review
review: build ## Validate and lint examples/repo, as a pipeline of your own repository would.
	$(BIN) validate examples/repo
	$(BIN) lint -c examples/repo --fail-on warning

.PHONY: demo
demo: build $(ENVOY) ## A tour on the real Envoy, under a minute, and its report in bin/demo-report.html. KEEP=1 leaves it serving.
	$(BIN) demo --envoy '$(ENVOY)' --report bin/demo-report.html $(if $(filter 1 true yes,$(KEEP)),--keep)

##@ Cluster

.PHONY: cluster
cluster: as-root node-binaries images ## Start a Kubernetes cluster of one node on this machine (as root; CLUSTER_DIR=DIR for another one).
	@$(CLUSTER) up -dir '$(CLUSTER_DIR)' -kubernetes '$(KUBERNETES)' -coredns '$(COREDNS)' $(IMAGES)/*.tar
	@echo 'the cluster is up; try: $(CLUSTER) exec -dir $(CLUSTER_DIR) kubectl get all -A'

.PHONY: cluster-load
cluster-load: $(CLUSTER) images ## Give the cluster new images.
	@$(CLUSTER) load -dir '$(CLUSTER_DIR)' $(IMAGES)/*.tar

.PHONY: cluster-shell
cluster-shell: $(CLUSTER) $(HELM) ## A shell on its node, with kubectl and helm.
	@PATH="$(dir $(HELM)):$$PATH" $(CLUSTER) exec -dir '$(CLUSTER_DIR)' "$${SHELL:-/bin/sh}"

.PHONY: cluster-down
cluster-down: $(CLUSTER) ## End the cluster and remove what it had.
	@$(CLUSTER) down -dir '$(CLUSTER_DIR)'

.PHONY: images
images: build $(IMAGES)/envoy-$(ENVOY_VERSION).tar ## Container images for the cluster, in bin/images.
	@CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o bin/echo ./test/cluster/echo
	@cd hack/image && CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o ../../bin/ . ./pause
	@bin/image -o $(IMAGES)/pause.tar -tag registry.k8s.io/pause:3.10 bin/pause:/pause
	@bin/image -o $(IMAGES)/echo.tar -tag breakglass.dev/test/echo:dev bin/echo:/echo
	@bin/image -o $(IMAGES)/breakglass.tar -tag ghcr.io/breakglass-gateway/breakglass:$(IMAGE_TAG) $(BIN):/usr/local/bin/breakglass

# What the official distroless image has, as far as Envoy can tell: its C library is that of this machine.
$(IMAGES)/envoy-$(ENVOY_VERSION).tar: $(ENVOY)
	@cd hack/image && go build -o ../../bin/ .
	@bin/image -o '$@' -tag docker.io/envoyproxy/envoy:distroless-v$(ENVOY_VERSION) -libraries '$(ENVOY)':/usr/local/bin/envoy

# Before anything is built for a quarter of an hour.
.PHONY: as-root
as-root:
	@[ "$$(id -u)" = 0 ] || { echo 'a cluster needs root, for namespaces, mounts and cgroups: run make as root' >&2; exit 1; }

.PHONY: node-binaries
node-binaries: $(CLUSTER) $(KUBERNETES)/kubernetes $(COREDNS)
	@for c in containerd ctr runc ip nft iptables conntrack /usr/lib/cni/bridge; do command -v $$c >/dev/null || missing=1; done; \
	[ -z "$${missing:-}" ] || hack/tools/apt-install 'what a node needs' containerd runc containernetworking-plugins iproute2 iptables nftables conntrack

.PHONY: $(CLUSTER)
$(CLUSTER):
	@go build -o $@ ./hack/cluster

##@ Tools

.PHONY: tools
tools: $(ENVOY) $(GOLANGCI_LINT) $(GOVULNCHECK) $(CONTROLLER_GEN) ## Install every tool.

.PHONY: cluster-tools
cluster-tools: $(KUBERNETES)/kubernetes $(COREDNS) $(HELM) ## Install what the cluster needs: Kubernetes is built, which takes ten minutes of CPU.

.PHONY: print-kubernetes
print-kubernetes:
	@echo '$(KUBERNETES)'

.PHONY: envoy
envoy: $(ENVOY) ## Install the pinned Envoy and print its path.
	@echo '$(ENVOY)'

$(TOOLS)/envoy-$(ENVOY_VERSION)/envoy:
	@hack/tools/install-envoy '$@'

$(GOLANGCI_LINT):
	@hack/tools/install-go-tool github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION) '$@'

$(GOVULNCHECK):
	@hack/tools/install-go-tool golang.org/x/vuln/cmd/govulncheck@$(GOVULNCHECK_VERSION) '$@'

$(CONTROLLER_GEN):
	@hack/tools/install-go-tool sigs.k8s.io/controller-tools/cmd/controller-gen@$(CONTROLLER_GEN_VERSION) '$@'

$(HELM):
	@hack/tools/install-go-tool helm.sh/helm/v4/cmd/helm@$(HELM_VERSION) '$@'

$(ALERTMANAGER):
	@hack/tools/install-go-tool github.com/prometheus/alertmanager/cmd/alertmanager@$(ALERTMANAGER_VERSION) '$@'

$(COREDNS):
	@hack/tools/install-go-tool hack/coredns '$@'

$(AXE):
	@hack/tools/install-axe '$@'

$(KUBERNETES)/kubernetes:
	@hack/tools/install-kubernetes '$@'

# A verifier that is nothing of ours reads our log: docs/verify-log.py.
.PHONY: python
python:
	@command -v python3 >/dev/null || hack/tools/apt-install python3 python3-minimal

# The race detector needs a C compiler.
.PHONY: cc
cc:
	@command -v gcc >/dev/null || command -v clang >/dev/null || hack/tools/apt-install 'a C compiler (for go test -race)' gcc libc6-dev
