# SPDX-License-Identifier: GPL-2.0-only
# Stand-in for include/package.mk and what it includes: see ../README.md.

PKG_BUILD_DIR ?= $(TOPDIR)/build_dir/$(PKG_NAME)-$(PKG_VERSION)
PKG_INSTALL_DIR ?= $(PKG_BUILD_DIR)/ipkg-install
install-root := $(PKG_INSTALL_DIR)

define Build/Prepare
endef
define Build/Compile
endef

# Refuses a download without a file or an address, in DUMP mode too, as download.mk does.
download-fields := FILE URL HASH
define Download
  $(foreach field,$(download-fields),$(eval $(field):=))
  $(eval $(Download/$(1)))
  $(foreach field,$(download-fields),$(if $(strip $($(field))),,$(error Download/$(1) is missing the $(field) field)))
endef

# 1: package. All but modules need the C library.
with-libc = $(strip $(if $(filter kmod-%,$(1)),,+libc) $(DEPENDS))

# 1: field, 2: value
show = $(if $(strip $(2)),$(info $(1): $(strip $(2))))
# 1: package, 2: text of it
show-text = $(if $(strip $(value Package/$(1)/$(2))),$(info %$(2))$(info $(Package/$(1)/$(2)))$(info %))

define BuildPackage
  $(eval $(Package/Default))
  $(eval $(Package/$(1)))
  # Each variant is built, and leaves its files, in a directory of its own.
  $(eval override PKG_INSTALL_DIR:=$(install-root)$(addprefix /,$(VARIANT)))
  $(foreach field,TITLE SECTION CATEGORY PKG_LICENSE,$(if $($(field)),,$(error $(1) has no $(field))))
  $(if $(value Package/$(1)/install),,$(error $(1) has no install section))
  # Every package provides itself by a virtual name.
  $(eval PROVIDES:=$(strip @$(1)-any $(PROVIDES)))
  $(if $(DUMP),$(dump-package),$(read-package))
endef

# Fields as package-dumpinfo.mk prints them for scripts/feeds and package-metadata.pl, without the fields that no recipe here has.
define dump-package
  $(info Package: $(1))
  $(info Version: $(VERSION))
  $(info Depends: $(with-libc))
  $(info Conflicts: $(CONFLICTS))
  $(info Provides: $(PROVIDES))
  $(info Section: $(SECTION))
  $(info Category: $(CATEGORY))
  $(info Title: $(TITLE))
  $(info Maintainer: $(MAINTAINER))
  $(info URL: $(URL))
  $(info Description: $(or $(Package/$(1)/description),$(TITLE)))
  $(info @@)
endef

# Further output for the harness, and the goals.
define read-package
  $(info %package $(1))
  $(call show,Version,$(VERSION))
  $(call show,Title,$(TITLE))
  $(call show,Extra-Depends,$(EXTRA_DEPENDS))
  $(call show,Depends,$(with-libc))
  $(call show,Provides,$(PROVIDES))
  $(call show,Conflicts,$(CONFLICTS))
  $(call show,License,$(PKG_LICENSE))
  $(call show,Section,$(SECTION))
  $(call show,Url,$(URL))
  $(call show,Maintainer,$(MAINTAINER))
  $(call show,Architecture,$(PKGARCH))
  $(foreach text,description conffiles preinst postinst prerm postrm,$(call show-text,$(1),$(text)))
  $(info %prepare)$(info $(Build/Prepare))$(info %)
  $(info %compile)$(info $(Build/Compile))$(info %)

  .PHONY: pack-$(1)
  pack: pack-$(1)
  pack-$(1):
	rm -rf $(OUT)/$(1)
	mkdir -p $(OUT)/$(1)
	$(call Package/$(1)/install,$(OUT)/$(1))

  prepare: prepare-$(PKG_NAME)
  compile: compile-$(PKG_NAME)
  ifndef prepared-$(PKG_NAME)
  prepared-$(PKG_NAME) := 1
  prepare-$(PKG_NAME):
	$(Build/Prepare)
  compile-$(PKG_NAME):
	$(Build/Compile)
  endif
endef
