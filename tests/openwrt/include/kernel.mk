# SPDX-License-Identifier: GPL-2.0-only
# Stand-in for include/kernel.mk: see ../README.md.

ifeq ($(DUMP),1)
  # While metadata are collected there is no target yet: versions are marks, and nothing else of the kernel has a value.
  KERNEL ?= <KERNEL>
  BOARD ?= <BOARD>
  LINUX_VERSION ?= <LINUX_VERSION>
  LINUX_VERMAGIC ?= <LINUX_VERMAGIC>
else
  LINUX_DIR ?= $(TOPDIR)/linux
  LINUX_VERSION ?= 6.12.0
  # The digest of the kernel's options.
  LINUX_VERMAGIC ?= unknown
  LINUX_SOURCE := linux-$(LINUX_VERSION).tar.xz
  LINUX_SITE := @KERNEL/linux/kernel/v6.x
  LINUX_KERNEL_HASH := skip
  MODULES_SUBDIR := lib/modules/$(LINUX_VERSION)
endif
# Revision of the kernel's package.
LINUX_RELEASE ?= 1
KERNEL_MAKE_FLAGS = CROSS_COMPILE="$(CROSS_COMPILE)" ARCH="$(ARCH)"
KERNEL_MAKE = $(MAKE) -C $(LINUX_DIR) $(KERNEL_MAKE_FLAGS)
CROSS_COMPILE ?=
ARCH ?= arm

# 1: priority, 2: modules, 3: needed for booting
AutoLoad = $(or $(1),0) $(if $(value 3),1,0) $(2)
AutoProbe = $(call AutoLoad,,$(1),$(2))

# 1: package, 2: root, 3: priority and a hyphen, 4: modules
define ModuleAutoLoad
	$(if $(4),mkdir -p $(2)/etc/modules.d)
	$(if $(4),{ $(foreach mod,$(4),echo "$(strip $(mod) $(MODPARAMS.$(mod)))";) } >$(2)/etc/modules.d/$(3)$(1))
endef

define KernelPackage
  $(eval $(Package/Default))
  $(eval $(KernelPackage/$(1)))
  $(if $(FILES),,$(error $(1) names no module file))

  define Package/kmod-$(1)
    SECTION:=kernel
    CATEGORY:=Kernel modules
    EXTRA_DEPENDS:=kernel (=$(LINUX_VERSION)~$(LINUX_VERMAGIC)-r$(LINUX_RELEASE))
    VERSION:=$(LINUX_VERSION).$(PKG_VERSION)-r$(PKG_RELEASE)
    $(KernelPackage/$(1))
  endef
  # Scripts it does not hand on: they are the package's.
  $(foreach text,conffiles description config,$(if $(value KernelPackage/$(1)/$(text)),$(eval $(call kernel-text,$(1),$(text)))))

  define Package/kmod-$(1)/install
	mkdir -p $$(1)/$(MODULES_SUBDIR)
	$(CP) -L $(FILES) $$(1)/$(MODULES_SUBDIR)/
	$(call ModuleAutoLoad,$(1),$$(1),$(filter-out 0-,$(word 1,$(AUTOLOAD))-),$(wordlist 3,99,$(AUTOLOAD)))
  endef
  $$(eval $$(call BuildPackage,kmod-$(1)))
endef

define kernel-text
define Package/kmod-$(1)/$(2)
$(KernelPackage/$(1)/$(2))
endef
endef
