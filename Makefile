# Names for the commands of the README; nothing happens here that they do not do.
.PHONY: dev test lint bench ci

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
