# The front door.  Everything real is Meson's business; this file only saves typing.
BUILD ?= build
PREFIX ?= /usr/local
DESTDIR ?=
MESON_OPTIONS ?=

.PHONY: build lab check check-quick check-long bench fuzz install deps clean

build: deps
	@test -f $(BUILD)/build.ninja || meson setup $(BUILD) --prefix $(PREFIX) $(MESON_OPTIONS)
	@ninja -C $(BUILD)

# Installs what tools/packages.txt lists and this machine lacks (as root), or says what to type.
deps:
	@tools/install-packages

lab: build
	@$(BUILD)/postrider lab --dir $${LAB_DIR:-/tmp/postrider-lab}

check: build
	@tools/run-checks check

check-quick: build
	@tools/run-checks quick

check-long: build
	@tools/run-checks long

bench: build
	@bench/run

fuzz:
	@tools/run-fuzz

install: build
ifneq ($(filter command environment,$(firstword $(origin PREFIX))),)
	@meson configure $(BUILD) --prefix $(PREFIX)
	@ninja -C $(BUILD) --quiet
endif
	@DESTDIR=$(DESTDIR) meson install -C $(BUILD) --quiet

clean:
	rm -rf $(BUILD) $(BUILD)-*
