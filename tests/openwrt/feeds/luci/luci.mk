# SPDX-License-Identifier: GPL-2.0-only
# Stand-in: see tests/openwrt/README.md. Files are neither minified nor translated.

LUCI_NAME ?= $(notdir $(CURDIR))
PKG_NAME ?= $(LUCI_NAME)

include $(INCLUDE_DIR)/package.mk

define Package/$(PKG_NAME)
  SECTION:=luci
  CATEGORY:=LuCI
  SUBMENU:=3. Applications
  TITLE:=$(LUCI_TITLE)
  DEPENDS:=$(LUCI_DEPENDS)
  PKGARCH:=all
endef

Package/$(PKG_NAME)/description = $(LUCI_DESCRIPTION)

define Package/$(PKG_NAME)/install
	if [ -d htdocs ]; then mkdir -p $(1)/www && $(CP) htdocs/* $(1)/www/; fi
	if [ -d root ]; then $(CP) root/* $(1)/; fi
endef

$(eval $(call BuildPackage,$(PKG_NAME)))
