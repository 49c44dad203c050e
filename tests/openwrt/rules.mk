# SPDX-License-Identifier: GPL-2.0-only
# Stand-in for rules.mk: see README.md.

# With DUMP=1 and no goal, as scripts/feeds runs it, package.mk prints the metadata while the recipe is read.
.DEFAULT_GOAL := dump
.PHONY: dump prepare compile pack
dump prepare compile pack:
	@true

DUMP ?=

comma := ,
empty :=
space := $(empty) $(empty)
qstrip = $(strip $(subst ",,$(1)))

INCLUDE_DIR := $(TOPDIR)/include
# Where goal pack puts files.
OUT ?= $(TOPDIR)/out
DL_DIR := $(TOPDIR)/dl
STAGING_DIR := $(TOPDIR)/staging_dir
HOST_TAR := tar
CP := cp -fpR
LN := ln -sf
SED := sed -i -e
INSTALL_DIR := install -d -m0755
INSTALL_BIN := install -m0755
INSTALL_DATA := install -m0644
INSTALL_CONF := install -m0600

# As package-defaults.mk has them; a package's definition overwrites them.
fields := SECTION CATEGORY SUBMENU TITLE DEPENDS EXTRA_DEPENDS PROVIDES CONFLICTS PKGARCH FILES AUTOLOAD HIDDEN DEFAULT VARIANT DEFAULT_VARIANT
define Package/Default
$(foreach field,$(fields),$(eval $(field):=))
$(eval VERSION:=$(PKG_VERSION)-r$(PKG_RELEASE))
$(eval MAINTAINER:=$(PKG_MAINTAINER))
$(eval URL:=$(PKG_URL))
endef

# Asked for whether or not a recipe sets them.
MAKE_PATH := .
# OpenWrt builds a recipe once for each of its packages' VARIANTs.
BUILD_VARIANT ?=
PKG_JOBS :=
PKG_MAINTAINER :=
PKG_URL :=
PKG_CONFIG_DEPENDS :=
PKG_BUILD_DEPENDS :=
CONFIG_KMOD_OVPN_PARAMS ?= ""
