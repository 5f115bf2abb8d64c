################################################################################
#
# axcl-host
#
################################################################################

# The vendor's package, which the user supplies: axclhost_VERSION_arm64.deb
AXCL_HOST_DEB = $(call qstrip,$(BR2_PACKAGE_AXCL_HOST_DEB_PATH))
# An option left empty must not break what only lists packages: unpack-deb refuses it when it comes to that.
AXCL_HOST_VERSION = $(or $(word 2,$(subst _, ,$(notdir $(AXCL_HOST_DEB)))),none)
AXCL_HOST_SOURCE =
AXCL_HOST_LICENSE = GPL-2.0 (kernel modules as they declare), proprietary
AXCL_HOST_REDISTRIBUTE = NO
AXCL_HOST_EXTRACT_DEPENDENCIES = host-python3

define AXCL_HOST_EXTRACT_CMDS
	$(HOST_DIR)/bin/python3 $(AXCL_HOST_PKGDIR)/unpack-deb \
		--deb "$(AXCL_HOST_DEB)" \
		--sha256 "$(call qstrip,$(BR2_PACKAGE_AXCL_HOST_DEB_SHA256))" \
		--out $(@D)
	cp $(AXCL_HOST_PKGDIR)/Kbuild $(@D)/driver/Kbuild
endef

AXCL_HOST_MODULE_SUBDIRS = driver
AXCL_HOST_MODULE_MAKE_OPTS = INSTALL_MOD_DIR=extra

# Not into /etc/modules-load.d: loading pushes the firmware and takes minutes. The supervisor has it done.
define AXCL_HOST_INSTALL_TARGET_CMDS
	mkdir -p $(TARGET_DIR)/usr/lib $(TARGET_DIR)/usr/bin $(TARGET_DIR)/lib/firmware
	cp -a $(@D)/lib/axcl $(TARGET_DIR)/usr/lib/
	cp -a $(@D)/bin/. $(TARGET_DIR)/usr/bin/
	cp -a $(@D)/firmware/axcl $(TARGET_DIR)/lib/firmware/
	$(INSTALL) -D -m 0644 $(@D)/triple.json $(TARGET_DIR)/usr/lib/axcl/triple.json
endef

$(eval $(kernel-module))
$(eval $(generic-package))
