# SPDX-License-Identifier: GPL-2.0-only
# Stand-in: see README.md.

.DEFAULT_GOAL := dump
.PHONY: dump prepare compile pack
dump prepare compile pack:
	@true

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
INSTALL_DIR := install -d -m0755
INSTALL_BIN := install -m0755
INSTALL_DATA := install -m0644
INSTALL_CONF := install -m0600

# As package-defaults has them; a package's definition overwrites them.
fields := SECTION CATEGORY SUBMENU TITLE DEPENDS EXTRA_DEPENDS PROVIDES CONFLICTS PKGARCH URL FILE_MODES VERSION \
	FILES AUTOLOAD
define Package/Default
$(foreach field,$(fields),$(eval $(field):=))
endef

# Asked for whether or not a recipe sets them.
MAKE_PATH := .
PKG_JOBS :=
PKG_MAINTAINER :=
PKG_CONFIG_DEPENDS :=
PKG_BUILD_DEPENDS :=
CONFIG_KMOD_OVPN_PARAMS ?= ""
