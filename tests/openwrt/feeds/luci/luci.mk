# SPDX-License-Identifier: GPL-2.0-only
# Stand-in for luci.mk: see tests/openwrt/README.md. Files are neither minified nor translated.

LUCI_NAME ?= $(notdir $(CURDIR))
LUCI_TYPE ?= $(word 2,$(subst -, ,$(LUCI_NAME)))
LUCI_BASENAME ?= $(patsubst luci-$(LUCI_TYPE)-%,%,$(LUCI_NAME))
LUCI_LANGUAGES := $(sort $(filter-out templates,$(notdir $(wildcard $(CURDIR)/po/*))))
PKG_NAME ?= $(LUCI_NAME)
# The version of translations is the time of the last commit in po, which a link would hide: "0" stands for none.
PKG_PO_VERSION ?= $(if $(DUMP),x,$(or $(shell git log -1 --format=%ct -- po),0))

include $(INCLUDE_DIR)/package.mk

define Package/$(PKG_NAME)
  SECTION:=luci
  CATEGORY:=LuCI
  SUBMENU:=3. Applications
  TITLE:=$(LUCI_TITLE)
  DEPENDS:=$(LUCI_DEPENDS)
  PKGARCH:=all
  URL:=$(or $(LUCI_URL),https://luci.example)
  MAINTAINER:=$(or $(LUCI_MAINTAINER),OpenWrt LuCI community)
endef

Package/$(PKG_NAME)/description = $(LUCI_DESCRIPTION)

define Package/$(PKG_NAME)/install
	if [ -d htdocs ]; then mkdir -p $(1)/www && $(CP) htdocs/* $(1)/www/; fi
	if [ -d root ]; then $(CP) root/* $(1)/; fi
endef

# Has LuCI's caches made anew.
define Package/$(PKG_NAME)/postinst
[ -n "$${IPKG_INSTROOT}" ] || {
	rm -rf /tmp/luci-indexcache.* /tmp/luci-modulecache/
	/etc/init.d/rpcd reload 2>/dev/null
	exit 0
}
endef

# 1: language. Only the metadata: there is no po2lmo.
define LuciTranslation
  define Package/luci-i18n-$(LUCI_BASENAME)-$(1)
    SECTION:=luci
    CATEGORY:=LuCI
    TITLE:=$(PKG_NAME) - $(1) translation
    HIDDEN:=1
    DEPENDS:=$(PKG_NAME)
    VERSION:=$(PKG_PO_VERSION)
    PKGARCH:=all
  endef

  define Package/luci-i18n-$(LUCI_BASENAME)-$(1)/install
	@true
  endef
endef

LUCI_BUILD_PACKAGES := $(PKG_NAME)
ifneq ($(DUMP),)
  $(foreach lang,$(LUCI_LANGUAGES),$(eval $(call LuciTranslation,$(lang))))
  LUCI_BUILD_PACKAGES += $(foreach lang,$(LUCI_LANGUAGES),luci-i18n-$(LUCI_BASENAME)-$(lang))
endif
$(foreach pkg,$(LUCI_BUILD_PACKAGES),$(eval $(call BuildPackage,$(pkg))))
