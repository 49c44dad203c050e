# SPDX-License-Identifier: GPL-2.0-only
# Stand-in: see ../README.md.

PKG_BUILD_DIR ?= $(TOPDIR)/build_dir/$(PKG_NAME)-$(PKG_VERSION)
PKG_INSTALL_DIR ?= $(PKG_BUILD_DIR)/ipkg-install

define Build/Prepare
endef
define Build/Compile
endef

define Download
  $(if $(and $(Download/$(1)),$(findstring FILE:=,$(Download/$(1))),$(findstring HASH:=,$(Download/$(1)))),, \
    $(error Download/$(1) is not defined, or names no file or no hash))
endef

# 1: field, 2: value
show = $(if $(strip $(2)),$(info $(1): $(strip $(2))))
# 1: package, 2: text of it
show-text = $(if $(strip $(value Package/$(1)/$(2))),$(info %$(2))$(info $(Package/$(1)/$(2)))$(info %))

define BuildPackage
  $(eval $(Package/Default))
  $(eval $(Package/$(1)))
  $(foreach field,TITLE SECTION CATEGORY PKG_LICENSE,$(if $($(field)),,$(error $(1) has no $(field))))
  $(if $(value Package/$(1)/install),,$(error $(1) has no install section))
  $(info %package $(1))
  $(call show,Version,$(or $(VERSION),$(PKG_VERSION)-r$(PKG_RELEASE)))
  $(call show,Title,$(TITLE))
  $(call show,Extra-Depends,$(EXTRA_DEPENDS))
  $(call show,Depends,$(DEPENDS))
  $(call show,Provides,$(PROVIDES))
  $(call show,Conflicts,$(CONFLICTS))
  $(call show,License,$(PKG_LICENSE))
  $(call show,Section,$(SECTION))
  $(call show,Architecture,$(PKGARCH))
  $(call show,File-Modes,$(FILE_MODES))
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
