# Mundwerk's only build file.
#
#   make            bin/mundwerk and its links
#   make test       unit tests, command-line tests, lint
#   make check      the unit tests under ASan and UBSan
#   make fault      kill, starve and damage a save at each of its system calls
#   make fuzz       fuzz every reader for FUZZ_SECONDS (30) each; wants clang
#   make peers      what the checks against other programs need, see tests/peers/
#   make lint       law of includes, format, banned functions
#   make bench      the table of what training is to reach, against peers; ROWS="step gemm": some
#   make bench-kernels  GFLOP/s of the hot loops at every CPU level
#   make bench-linear   GFLOP/s of the products on matrices in blocks
#   make bench-update   Gparam/s of an optimiser step, against the memory's bandwidth
#   make format     rewrite the sources with clang-format
#   make help
#
# Objects lie in build/<hash of compiler and flags>/, so builds with different
# flags never mix. Local settings go to config.mk.
-include config.mk

VERSION := 0.1.0
CC      ?= gcc
Q       ?= @

WARN := -Wall -Wextra -Wshadow -Wpointer-arith -Wstrict-prototypes -Wmissing-prototypes \
        -Wvla -Wundef -Wformat=2
OPT  := -O2 -g -fno-math-errno -ffp-contract=off
# WERROR=1 makes warnings errors, as CI does: other compilers than its own may warn of more.
# SAN=address,undefined builds with sanitizers
SANITIZE := $(if $(SAN),-O1 -fno-omit-frame-pointer -fsanitize=$(SAN) -fno-sanitize-recover=all)

ALL_CFLAGS  := -std=c11 -D_GNU_SOURCE -DMUNDWERK_VERSION='"$(VERSION)"' -I. $(WARN) $(OPT) \
               -fopenmp $(CFLAGS) $(SANITIZE) $(if $(WERROR),-Werror)
ALL_LDFLAGS := -fopenmp $(LDFLAGS) $(SANITIZE)
LIBS        := -lzstd -lpcre2-8 -lyaml -lisal -lm

B := build/$(shell echo '$(CC) $(ALL_CFLAGS)' | md5sum | cut -c1-8)

# Only these files may use more than the base instruction set; who calls them asks
# cpu_level() first. Sanitized loops are not for speed, and take minutes to compile at -O3.
HOT := $(if $(SAN),-O1,-O3)
ifeq ($(shell uname -m),x86_64)
%_avx2.o:   ISA := $(HOT) -mavx2 -mfma -mf16c
%_avx512.o: ISA := $(HOT) -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma
%_amx.o:    ISA := $(HOT) -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512bf16 -mfma -mamx-tile -mamx-bf16
endif

SOURCES := $(wildcard common/*.c data/*.c tokenizer/*.c model/*.c model/kernels/*.c \
                      train/*.c checkpoints/*.c eval/*.c)
OBJECTS := $(SOURCES:%.c=$B/%.o)
TESTS   := $(wildcard tests/common/test_*.c tests/data/test_*.c tests/tokenizer/test_*.c \
                      tests/model/test_*.c tests/train/test_*.c tests/checkpoints/test_*.c \
                      tests/eval/test_*.c)
TEST_BINS := $(TESTS:%.c=$B/%)
LINKS   := data tokenizer train checkpoints eval generate

.PHONY: all test unit unit-build cli check peers fault fuzz fuzz-run lint format clean help \
        bench bench-kernels bench-linear bench-update
.SECONDARY:
all: bin/mundwerk

bin/mundwerk: $B/mundwerk
	$(Q)mkdir -p bin
	$(Q)cp -f $< $@.new && mv -f $@.new $@
	$(Q)for l in $(LINKS); do ln -sf mundwerk bin/$$l; done
	@echo "built $@"

$B/mundwerk: $B/mundwerk.o $(OBJECTS)
	@echo "link  $@"
	$(Q)$(CC) -o $@ $^ $(ALL_LDFLAGS) $(LIBS)

$B/%.o: %.c
	@mkdir -p $(@D)
	@echo "cc    $<"
	$(Q)$(CC) $(ALL_CFLAGS) $(ISA) -MMD -MP -c $< -o $@

$B/tests/%: $B/tests/%.o $(OBJECTS)
	$(Q)$(CC) -o $@ $^ $(ALL_LDFLAGS) $(LIBS) -lcmocka

# T=word selects the tests whose path holds the word. Running none is a failure.
SELECTED := $(strip $(if $(T),$(foreach t,$(TEST_BINS),$(if $(findstring $(T),$t),$t)),$(TEST_BINS)))
unit: $(SELECTED)
	@test -n '$(SELECTED)' || { echo "no unit test matches T=$(T)"; exit 1; }
	@sh tests/run-unit.sh $(SELECTED)

unit-build: $(TEST_BINS)

cli: bin/mundwerk
	@sh tests/run-cli.sh $(T)

test: all lint unit cli

bench-kernels bench-linear bench-update: bench-%: $B/tests/bench/bench_%
	$(Q)$< $(BENCH_ARGS)

bench: bin/mundwerk $B/tests/bench/bench_kernels $B/tests/bench/bench_update
	@BENCH_KERNELS=$B/tests/bench/bench_kernels BENCH_UPDATE=$B/tests/bench/bench_update \
	    sh tests/bench/run.sh $(ROWS)

# What the checks against other programs need (tests/peers/, by hand: they want Python).
peers: bin/mundwerk $B/tests/peers/peer_model
	$(Q)cp -f $B/tests/peers/peer_model bin/peer_model

check:
	@$(MAKE) --no-print-directory unit SAN=address,undefined

# Minutes, not seconds: each system call of a save fails or kills. Wants strace; root for more.
$B/tests/fault/victim: $B/tests/fault/victim.o $(OBJECTS)
	$(Q)$(CC) -o $@ $^ $(ALL_LDFLAGS) $(LIBS)

fault: bin/mundwerk $B/tests/fault/victim
	@VICTIM=$(CURDIR)/$B/tests/fault/victim sh tests/run-fault.sh $(T)

# The whole program once more by clang, with coverage for libFuzzer in every object.
FUZZ_BINS := $(patsubst %.c,$B/%,$(wildcard tests/fuzz/fuzz_*.c))
$B/tests/fuzz/%: $B/tests/fuzz/%.o $(OBJECTS)
	$(Q)$(CC) -fsanitize=fuzzer -o $@ $^ $(ALL_LDFLAGS) $(LIBS)

fuzz-run: $(if $(T),$(foreach t,$(FUZZ_BINS),$(if $(findstring $(T),$t),$t)),$(FUZZ_BINS))
	@sh tests/run-fuzz.sh $^

fuzz:
	@echo '#include <omp.h>' | clang -fopenmp -fsanitize=fuzzer,address -xc -c -o /dev/null - 2>/dev/null || \
	    { echo "fuzz: clang with libFuzzer and OpenMP is absent; scripts/setup fuzz installs it"; exit 1; }
	@$(MAKE) --no-print-directory fuzz-run CC=clang SAN=fuzzer-no-link,address,undefined

lint:
	@sh tests/lint.sh

format:
	clang-format -i $$(git ls-files '*.c' '*.h')

clean:
	rm -rf build bin

help:
	@sed -n '3,/^$$/s/^# \{0,1\}//p' Makefile

# common/build.c tells the program how it was made; it alone is compiled again when that changes.
COMMIT := $(shell git describe --always --dirty --abbrev=12 --exclude='*' 2>/dev/null || echo unknown)
BUILD_INFO := $(strip $(OPT) $(CFLAGS) $(SANITIZE)) $(COMMIT)
$B/common/build.o: private ALL_CFLAGS += -DMUNDWERK_COMMIT='"$(COMMIT)"' \
    -DMUNDWERK_FLAGS='"$(strip $(OPT) $(CFLAGS) $(SANITIZE))"'
$B/common/build.o: $B/build-info
$B/build-info: FORCE
	@mkdir -p $B
	@echo '$(BUILD_INFO)' | cmp -s - $@ || echo '$(BUILD_INFO)' >$@
.PHONY: FORCE

-include $(OBJECTS:.o=.d) $(TEST_BINS:%=%.d) $B/mundwerk.d $(wildcard $B/tests/*/*.d)
