# SPDX-License-Identifier: GPL-2.0-only
# Stand-in for rust-package.mk: see tests/openwrt/README.md.
RUST_ARCH_DEPENDS := @(aarch64||arm||i386||mips||mipsel||x86_64)
CARGO_PKG_CONFIG_VARS = CARGO_HOME=$(DL_DIR)/cargo
CARGO_PKG_ARGS := --locked

define Build/Compile
	+$(CARGO_PKG_CONFIG_VARS) cargo install --profile release --root $(PKG_INSTALL_DIR) \
		--path "$(PKG_BUILD_DIR)/$(MAKE_PATH)" $(CARGO_PKG_ARGS)
endef

# Only a package without an install section gets one.
define RustBinPackage
endef
