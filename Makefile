# varve: a thin front for meson. `make run` and `make test` install what they need (tools/deps).
SHELL := /bin/bash
RELEASE := build/release
DEBUG := build/debug
.DEFAULT_GOAL := help
.PHONY: help run build debug asan tsan test test-nightly test-s3 test-kafka fuzz bench fmt install deps clean lint analyze

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1|/' | column -t -s'|'

deps: ## install the Debian packages a build needs (apt-get as root or sudo)
	@tools/deps build

run: build ## build and start the server with its embedded defaults
	@echo "Starting varve with its defaults (data in ./varve-data; Ctrl-C stops it). In another terminal:"
	@echo "  curl -d '[{\"key\":\"hello\",\"value\":\"world\",\"version\":0}]' http://127.0.0.1:8080/v1/put"
	@echo "  curl 'http://127.0.0.1:8080/v1/get?key=hello'"
	@echo "  $(RELEASE)/varve get hello        and   $(RELEASE)/varve --help"
	@echo "  curl http://127.0.0.1:8080/metrics"
	@exec $(RELEASE)/varve serve $(ARGS)

build: deps ## release build, in build/release
	@tools/build release

debug: deps ## developer build (-Werror, asserts, tests), in build/debug
	@tools/build debug

asan: deps ## AddressSanitizer and UndefinedBehaviorSanitizer build, in build/asan
	@tools/build asan

tsan: deps ## ThreadSanitizer build, in build/tsan
	@tools/build tsan

test: ## build and run the default suite (under 10 minutes on 2 cores)
	@tools/deps test
	@tools/test default

test-nightly: ## the heavy suite: more crash states, more kills, sanitizers
	@tools/deps test
	@tools/test nightly

test-s3: ## the object stores against Ceph's S3 gateway too (installs Ceph; skipped aloud where it cannot be)
	@tools/deps test
	@tools/deps s3 || echo "test-s3: Ceph's packages cannot be installed: its tests are skipped" >&2
	@tools/test s3

test-kafka: ## the bridge between Apache Kafka (Maven Central) and Ceph's S3; installs both, says aloud what it cannot have
	@tools/deps test
	@tools/deps kafka || echo "test-kafka: Java and Maven cannot be installed" >&2
	@tools/deps s3 || echo "test-kafka: Ceph's packages cannot be installed" >&2
	@tools/build debug
	@tools/test-kafka

fuzz: ## libFuzzer targets, 60 s each
	@tools/deps test
	@tools/fuzz

bench: build ## compare with redis-server, etcd and a bare epoll echo in one run
	@tools/deps bench
	@bench/run

lint: ## format, headers, room edges, banned calls
	@tools/lint

analyze: ## clang-tidy over src/ (.clang-tidy says what it looks for)
	@tools/deps analyze
	@tools/analyze

fmt: ## format every C file in place
	@git ls-files '*.c' '*.h' '*.cc' | xargs clang-format -i

install: build ## install the binary, client library, headers and man pages (DESTDIR, PREFIX)
	@meson install -C $(RELEASE) --no-rebuild $(if $(DESTDIR),--destdir $(DESTDIR))

clean: ## remove every build
	rm -rf build
