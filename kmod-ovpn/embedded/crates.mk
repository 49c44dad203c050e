# SPDX-License-Identifier: GPL-2.0
#
# Included by runtime.mk for kernels whose Rust crates are more than those of
# 6.12: pin-init and zerocopy, their macros, and the crates that macros are
# written with. Their cfgs are those of the kernel's rust/Makefile.

# --- crates that run in the compiler -------------------------------------------
ovpn-host-crates := $(patsubst %,$(ovpn-rt)/lib%.rlib,proc_macro2 quote syn)
ovpn-more-macros := $(patsubst %,$(ovpn-rt)/lib%.so,zerocopy_derive pin_init_internal)
ovpn-features = $(patsubst %,--cfg='feature="%"',$(1))

quiet_cmd_ovpn_rustc_host = RUSTC PL $@
      cmd_ovpn_rustc_host = : '$(OVPN_RUSTC_VERSION)'; \
	$(RUSTC) $(filter-out $(ovpn-skip-flags),$(rust_common_flags)) \
	$(ovpn-crate-flags) --cap-lints=allow \
	--emit=dep-info=$(depfile) --emit=link=$@ --crate-type rlib -O \
	-L $(ovpn-rt) --crate-name $(patsubst lib%.rlib,%,$(notdir $@)) $(call ovpn-source,%.rs)

$(ovpn-rt)/libproc_macro2.rlib: private ovpn-crate-flags = --cfg=wrap_proc_macro \
	$(call ovpn-features,proc-macro) \
	$(if $(call rustc-min-version,108800),--cfg=proc_macro_span_file \
		--cfg=proc_macro_span_location)
$(ovpn-rt)/libquote.rlib: private ovpn-skip-flags = --edition=2021
$(ovpn-rt)/libquote.rlib: private ovpn-crate-flags = --edition=2018 \
	--extern proc_macro2 $(call ovpn-features,proc-macro)
$(ovpn-rt)/libsyn.rlib: private ovpn-crate-flags = --extern proc_macro2 \
	--extern quote $(call ovpn-features,clone-impls derive full parsing \
	printing proc-macro visit visit-mut)

$(ovpn-rt)/libproc_macro2.rlib: $(ovpn-krust)/proc-macro2/lib.rs
$(ovpn-rt)/libquote.rlib: $(ovpn-krust)/quote/lib.rs $(ovpn-rt)/libproc_macro2.rlib
$(ovpn-rt)/libsyn.rlib: $(ovpn-krust)/syn/lib.rs $(ovpn-rt)/libquote.rlib
$(ovpn-host-crates): %: FORCE
	+$(call if_changed_dep,ovpn_rustc_host)

# --- macros --------------------------------------------------------------------
ovpn-macro-flags := --extern proc_macro2 --extern quote --extern syn
ovpn-pin-init-flags := --cfg=kernel --cfg=USE_RUSTC_FEATURES

$(ovpn-rt)/libmacros.so: private ovpn-crate-flags = $(ovpn-macro-flags) \
	@$(ovpn-rt)/rustc_cfg
$(ovpn-rt)/libzerocopy_derive.so: private ovpn-crate-flags = $(ovpn-macro-flags) \
	--cfg=zerocopy_unstable_linux
$(ovpn-rt)/libpin_init_internal.so: private ovpn-crate-flags = $(ovpn-macro-flags) \
	$(ovpn-pin-init-flags)

$(ovpn-rt)/libzerocopy_derive.so: $(ovpn-krust)/zerocopy-derive/lib.rs
$(ovpn-rt)/libpin_init_internal.so: $(ovpn-krust)/pin-init/internal/src/lib.rs
$(ovpn-rt)/libmacros.so $(ovpn-more-macros): $(ovpn-rt)/libsyn.rlib $(ovpn-rt)/rustc_cfg

# --- crates of the module --------------------------------------------------------
# zerocopy wants its own version, which cargo would give it.
$(ovpn-rt)/zerocopy.o: export CARGO_PKG_VERSION = $(shell sed -n \
	's/^ *CARGO_PKG_VERSION=//p' $(ovpn-krust)/Makefile)
$(ovpn-rt)/zerocopy.o: private ovpn-crate-flags = --cfg=no_fp_fmt_parse
$(ovpn-rt)/pin_init.o: private ovpn-crate-flags = $(ovpn-pin-init-flags) \
	--extern pin_init_internal --extern macros

$(ovpn-rt)/zerocopy.o: $(ovpn-krust)/zerocopy/src/lib.rs $(ovpn-rt)/compiler_builtins.o
$(ovpn-rt)/pin_init.o: $(ovpn-krust)/pin-init/src/lib.rs $(ovpn-rt)/compiler_builtins.o \
	$(ovpn-rt)/libpin_init_internal.so $(ovpn-rt)/libmacros.so
$(ovpn-rt)/bindings.o $(ovpn-rt)/uapi.o: $(ovpn-rt)/pin_init.o
$(ovpn-rt)/kernel.o: $(ovpn-rt)/pin_init.o $(ovpn-rt)/zerocopy.o \
	$(ovpn-rt)/libzerocopy_derive.so

# --- assembly that C macros make and Rust includes --------------------------------
ovpn-asm := $(if $(CONFIG_JUMP_LABEL),static_branch) \
	$(if $(CONFIG_UML),,$(if $(CONFIG_BUG),warn reachable))
ovpn-generated := $(patsubst %,$(ovpn-rt)/kernel/generated_arch_%_asm.rs,$(ovpn-asm))

quiet_cmd_ovpn_rs_S = RSCPP   $@
      cmd_ovpn_rs_S = $(CPP) $(c_flags) -xc -C -P $< | sed '1,/^\/\/ Cut here.$$/d' >$@

$(ovpn-generated): $(ovpn-rt)/kernel/%.rs: $(ovpn-krust)/kernel/%.rs.S FORCE
	$(call if_changed_dep,ovpn_rs_S)
$(ovpn-rt)/kernel.o: $(ovpn-generated)
