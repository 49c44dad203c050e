# SPDX-License-Identifier: GPL-2.0
#
# Embedded mode, included by Kbuild: the Rust-for-Linux crates of a kernel
# built without CONFIG_RUST, compiled with the module's flags and linked into
# ovpn.o. Nothing of the kernel is patched: the crates' cfgs, target and
# bindings are ours to choose.
#
# All rules are kbuild's if_changed kind: a crate is compiled again when its
# command (it names the compiler's version) or a source of it changed, else a
# build only touches the module.

ovpn-rt  := $(obj)/runtime/rust
# bindings/lib.rs includes $OBJTREE/rust/bindings/...
ovpn-objtree := $(OVPN_OUT)/runtime
ovpn-krust := $(OVPN_RUST_KERNEL)/rust

# Between these pin-init became a crate of its own, and the macros began to need
# crates from elsewhere (embedded/crates.mk).
ovpn-release := $(VERSION).$(PATCHLEVEL)
ifeq ($(filter 6.12 7.2 7.3,$(ovpn-release)),)
$(error embedded mode knows the Rust crates of Linux 6.12, 7.2 and 7.3, not \
those of $(ovpn-release))
endif
ovpn-more-crates := $(filter-out 6.12,$(ovpn-release))

# --- target ------------------------------------------------------------------
# kbuild gives a target where the architecture has Rust support, else it is
# chosen here. All of them have soft floats: the kernel's registers are not ours.
#
# ARMv7 kernels get an ARMv7 target, not the ARMv6 one of later kernels: "dmb"
# instead of the deprecated CP15 barriers, unaligned loads as the C code has.
ovpn-rust-target-arm   := $(if $(CONFIG_CPU_32v7),armv7,arm)-unknown-linux-gnueabi
ovpn-rust-target-mips  := mips$(if $(CONFIG_CPU_LITTLE_ENDIAN),el)-mti-none-elf
ovpn-rust-target := $(if $(filter --target=%,$(KBUILD_RUSTFLAGS)),, \
	$(ovpn-rust-target-$(SRCARCH)))
ovpn-rust-target-flags := $(addprefix --target=,$(ovpn-rust-target))

# x86 and um describe their target in a file that only CONFIG_RUST kernels make.
ifneq ($(filter --target=%/target.json,$(KBUILD_RUSTFLAGS)),)
KBUILD_RUSTFLAGS := $(patsubst --target=%,--target=$(ovpn-rt)/target.json, \
	$(KBUILD_RUSTFLAGS))
ovpn-target-json := $(ovpn-rt)/target.json

quiet_cmd_ovpn_target = GEN     $@
      cmd_ovpn_target = $(RUSTC) --edition=2021 -o $(@:.json=) $< && \
	$(@:.json=) <$(objtree)/include/config/auto.conf >$@

$(ovpn-target-json): $(OVPN_RUST_KERNEL)/scripts/generate_rust_target.rs FORCE
	$(call if_changed,ovpn_target)
targets += runtime/rust/target.json
endif

# Modules are out of reach of a plain MIPS call.
ovpn-rust-target-flags += $(if $(CONFIG_MIPS),-Ctarget-feature=+long-calls)

# Stack traces go through Rust code too where the kernel unwinds by tables.
rustflags-$(CONFIG_ARM_UNWIND) += -Cforce-unwind-tables=y

# Paths end up in panic messages: those of this machine have no business there.
rustflags-y += $(ovpn-rust-target-flags) -L $(ovpn-rt) -Zfunction-sections=y \
	--remap-path-prefix=$(OVPN_RUST_KERNEL)/= \
	--remap-path-prefix=$(OVPN_RUST_LIB)/=rust/library/
ccflags-y += -ffunction-sections -fdata-sections \
	-fmacro-prefix-map=$(OVPN_RUST_KERNEL)/=

# --- flags of the crates -----------------------------------------------------
# The kernel's cfgs, plus CONFIG_RUST, without which the kernel crate refuses;
# without CONFIG_BLOCK, whose abstractions want 64-bit atomics everywhere.
quiet_cmd_ovpn_rustc_cfg = GEN     $@
      cmd_ovpn_rustc_cfg = { echo --cfg=CONFIG_RUST; \
	sed -n -e '/^CONFIG_BLOCK=/d' -e '/"/d' \
	-e 's/^\(CONFIG_[^=]*\)=\([ym]\)$$/--cfg=\1\n--cfg=\1="\2"/p' $<; } > $@

$(ovpn-rt)/rustc_cfg: $(objtree)/include/config/auto.conf FORCE
	$(call if_changed,ovpn_rustc_cfg)

# Warnings there are not ours to fix.
ovpn-rt-flags = $(filter-out %/rustc_cfg --check-cfg=% '--check-cfg=%,$(rust_flags)) \
	@$(ovpn-rt)/rustc_cfg --cap-lints=allow

# Prerequisites of one target are spread over several rules: "$<" is not the
# source, the first file of its kind is.
ovpn-source = $(firstword $(filter $(1),$(real-prereqs)))

quiet_cmd_ovpn_rustc = RUSTC L $@
      cmd_ovpn_rustc = : '$(OVPN_RUSTC_VERSION)'; OBJTREE=$(ovpn-objtree) \
	$(RUSTC) $(filter-out $(ovpn-skip-flags),$(ovpn-rt-flags)) $(ovpn-crate-flags) \
	--emit=dep-info=$(depfile) --emit=obj=$@ \
	--emit=metadata=$(@:%/$(notdir $@)=%)/lib$(basename $(notdir $@)).rmeta \
	--crate-type rlib --crate-name $(basename $(notdir $@)) \
	-L $(ovpn-rt) --sysroot=/dev/null -Zunstable-options $(call ovpn-source,%.rs) \
	$(cmd_objtool)

define rule_ovpn_rustc
	$(call cmd_and_fixdep,ovpn_rustc)
	$(call cmd,gen_objtooldep)
endef

quiet_cmd_ovpn_rustc_macro = RUSTC P $@
      cmd_ovpn_rustc_macro = : '$(OVPN_RUSTC_VERSION)'; \
	$(RUSTC) $(rust_common_flags) $(ovpn-crate-flags) --cap-lints=allow \
	-Clinker-flavor=gcc -Clinker=$(HOSTCC) --extern proc_macro \
	--emit=dep-info=$(depfile) --emit=link=$@ --crate-type proc-macro \
	-L $(ovpn-rt) --crate-name $(patsubst lib%.so,%,$(notdir $@)) \
	$(call ovpn-source,%.rs)

# --- bindings ----------------------------------------------------------------
# libclang gets what decides about types and macros, and none of GCC's options
# it may not know: search paths, definitions, and the machine.
ovpn-bindgen-cflags = $(filter -nostdinc -I% -isystem -include %.h -D% -U% -std=% \
	-march=% -mips% -fms-% -EB -EL -mlittle-endian -mbig-endian -msoft-float -marm \
	-fshort-wchar -funsigned-char -fno-builtin,$(c_flags)) \
	-fno-builtin -w -D__BINDGEN__ -DMODULE --target=$(ovpn-clang-target) \
	-Wp$(comma)-MMD$(comma)$(depfile)

# MIPS has a union and a typedef of the name mips_instruction (uapi/asm/inst.h,
# asm/inst.h): C keeps them apart, Rust does not. Both are one word, so the
# union may stand for the other.
#
# _printk is called from Rust with the specifier %pA only, which this kernel
# does not know: print.c has a stand-in.
ovpn-bindgen-fixup = \
	-e 's/pub const RUST_CONST_HELPER_/pub const /' \
	-e '/^ *pub type mips_instruction = /d' \
	-e 's/^( *)pub fn _printk\(/\1\#[link_name = "ovpn_rust_printk"]\n&/'

quiet_cmd_ovpn_kbindgen = BINDGEN $@
      cmd_ovpn_kbindgen = $(BINDGEN) $(call ovpn-source,%.h %.c) $(ovpn-bindgen-flags) \
	--rust-target $(if $(ovpn-more-crates),1.85,1.68) \
	--use-core --with-derive-default --ctypes-prefix ffi --no-layout-tests \
	--no-debug '.*' --enable-function-attribute-detection -o $@ \
	-- $(ovpn-bindgen-cflags) && sed -Ei $(ovpn-bindgen-fixup) $@

ovpn-bindgen-params = $(shell sed '/^\#/d' $(ovpn-krust)/bindgen_parameters)

$(ovpn-rt)/bindings/bindings_generated.rs: $(ovpn-krust)/bindings/bindings_helper.h
$(ovpn-rt)/bindings/bindings_generated.rs: private ovpn-bindgen-flags = $(ovpn-bindgen-params)
$(ovpn-rt)/uapi/uapi_generated.rs: $(ovpn-krust)/uapi/uapi_helper.h
$(ovpn-rt)/uapi/uapi_generated.rs: private ovpn-bindgen-flags = $(ovpn-bindgen-params)
$(ovpn-rt)/bindings/bindings_helpers_generated.rs: $(ovpn-krust)/helpers/helpers.c
$(ovpn-rt)/bindings/bindings_helpers_generated.rs: private ovpn-bindgen-flags = \
	--blocklist-type '.*' --allowlist-var '' --allowlist-function 'rust_helper_.*'
$(ovpn-rt)/bindings/bindings_helpers_generated.rs: private ovpn-bindgen-fixup = \
	-e 's/pub fn rust_helper_(\w*)/\#[link_name = "rust_helper_\1"]\n    pub fn \1/'

ovpn-bindings := $(addprefix $(ovpn-rt)/,bindings/bindings_generated.rs \
	bindings/bindings_helpers_generated.rs uapi/uapi_generated.rs)
$(ovpn-bindings): %: FORCE
	$(call if_changed_dep,ovpn_kbindgen)

# --- crates ------------------------------------------------------------------
ovpn-crates := core compiler_builtins ffi build_error bindings uapi kernel \
	$(if $(ovpn-more-crates),zerocopy pin_init)
ovpn-crate-objs := $(patsubst %,$(ovpn-rt)/%.o,$(ovpn-crates))

# They become part of the module, so they get the flags of one.
$(ovpn-rt)/%: part-of-module := y
$(ovpn-rt)/%: modname := ovpn

$(ovpn-rt)/core.o: private ovpn-skip-flags = --edition=2021 -Wunreachable_pub
$(ovpn-rt)/core.o: private ovpn-crate-flags = --edition=2024 --cfg no_fp_fmt_parse
$(ovpn-rt)/bindings.o $(ovpn-rt)/uapi.o: private ovpn-crate-flags = --extern ffi \
	$(if $(ovpn-more-crates),--extern pin_init)
$(ovpn-rt)/kernel.o: private ovpn-crate-flags = --extern ffi --extern build_error \
	--extern macros=$(ovpn-rt)/libmacros.so --extern bindings --extern uapi \
	$(if $(ovpn-more-crates),--extern pin_init --extern zerocopy --extern zerocopy_derive)

$(ovpn-rt)/core.o: $(OVPN_RUST_LIB)/core/src/lib.rs
$(ovpn-rt)/compiler_builtins.o: $(ovpn-krust)/compiler_builtins.rs $(ovpn-rt)/core.o
$(ovpn-rt)/ffi.o: $(ovpn-krust)/ffi.rs $(ovpn-rt)/compiler_builtins.o
$(ovpn-rt)/build_error.o: $(ovpn-krust)/build_error.rs $(ovpn-rt)/compiler_builtins.o
$(ovpn-rt)/bindings.o: $(ovpn-krust)/bindings/lib.rs $(ovpn-rt)/ffi.o \
	$(filter $(ovpn-rt)/bindings/%,$(ovpn-bindings))
$(ovpn-rt)/uapi.o: $(ovpn-krust)/uapi/lib.rs $(ovpn-rt)/ffi.o \
	$(filter $(ovpn-rt)/uapi/%,$(ovpn-bindings))
$(ovpn-rt)/kernel.o: $(ovpn-krust)/kernel/lib.rs $(ovpn-rt)/build_error.o \
	$(ovpn-rt)/libmacros.so $(ovpn-rt)/bindings.o $(ovpn-rt)/uapi.o
$(ovpn-rt)/ovpn_print.o: $(src)/embedded/print.rs $(ovpn-rt)/compiler_builtins.o

ifneq ($(ovpn-more-crates),)
include $(src)/embedded/crates.mk
endif

$(ovpn-crate-objs) $(ovpn-rt)/ovpn_print.o: %: $(ovpn-rt)/rustc_cfg $(ovpn-target-json) FORCE
	+$(call if_changed_rule,ovpn_rustc)

ovpn-macros := $(ovpn-rt)/libmacros.so $(ovpn-more-macros)
$(ovpn-rt)/libmacros.so: $(ovpn-krust)/macros/lib.rs
$(ovpn-macros): %: FORCE
	+$(call if_changed_dep,ovpn_rustc_macro)

$(obj)/src/ovpn_main.o: $(ovpn-rt)/kernel.o

# --- what goes into the module -------------------------------------------------
# Not compiler_builtins: its functions panic, and a 64-bit division or a float
# on a 32-bit machine is better refused by the build. Not build_error: reaching
# it is the error.
ovpn-linked := core ffi bindings uapi kernel ovpn_print \
	$(if $(ovpn-more-crates),zerocopy pin_init)
ovpn-rust-objs := src/ovpn_main.o $(patsubst %,runtime/rust/%.o,$(ovpn-linked))

ovpn-y += $(patsubst %,runtime/rust/%.o,$(ovpn-linked)) \
	embedded/print.o $(if $(ovpn-more-crates),,embedded/compat.o) runtime/helpers.o

# Helpers the module calls. All of them would do, were it not for the tables
# under KEEP (__bug_table and the like): these hold on to every function of the
# file they come from, and with it to symbols no module may use.
#
# Newer kernels build modules in their directory, and make drops the "./".
ovpn-rust-prereqs := $(patsubst ./%,%,$(addprefix $(obj)/,$(ovpn-rust-objs)))
quiet_cmd_ovpn_helpers = GEN     $@
      cmd_ovpn_helpers = LD="$(LD) $(KBUILD_LDFLAGS)" READELF=$(READELF) \
	$(CONFIG_SHELL) $(src)/embedded/select-helpers.sh $@ \
	$(ovpn-krust)/helpers $(src)/embedded/module-gc.lds \
	"$(filter $(ovpn-rust-prereqs),$(real-prereqs))" \
	"$(filter-out $(ovpn-rust-prereqs),$(filter %.o,$(real-prereqs)))"

$(obj)/runtime/helpers.c: $(addprefix $(obj)/,$(filter-out runtime/helpers.o,$(ovpn-y))) \
	$(src)/embedded/module-gc.lds $(src)/embedded/select-helpers.sh FORCE
	$(call if_changed,ovpn_helpers)

CFLAGS_runtime/helpers.o := -I$(ovpn-krust)/helpers \
	-Wno-missing-prototypes -Wno-missing-declarations

# kbuild links the parts of a module with "ld -r"; this one drops what neither
# entry point reaches.
LDFLAGS_ovpn.o := --gc-sections -T $(src)/embedded/module-gc.lds \
	-u init_module -u cleanup_module

targets += $(patsubst $(obj)/%,%,$(ovpn-bindings) $(ovpn-crate-objs)) \
	$(patsubst $(obj)/%,%,$(ovpn-macros) $(ovpn-host-crates) $(ovpn-generated)) \
	runtime/rust/rustc_cfg runtime/rust/ovpn_print.o runtime/helpers.c
