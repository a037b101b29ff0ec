# Names for the commands of the README; nothing happens here that they do not do.
.PHONY: dev test lint bench conformance ci

dev: ## try Cloister on this machine
	go run ./cmd/cloister dev

test: ## all tests
	go test ./...

lint: ## what the compiler does not check
	go vet ./...
	golangci-lint run

bench: ## measure against the raw ceiling of this machine
	go run ./cmd/cloister bench

ci: ## everything that must hold before a change goes in
	.ci/run

conformance: ## real clients and the HL7 validator against a running server
	conformance/run
	CLOISTER_NODE=required go test -count=1 -run TestTheAppOfThePageConnects ./cmd/cloister/internal/signin
