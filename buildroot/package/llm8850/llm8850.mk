################################################################################
#
# llm8850
#
################################################################################

# The checkout this external tree is part of.
LLM8850_SITE = $(realpath $(BR2_EXTERNAL_LLM8850_PATH)/..)
LLM8850_SITE_METHOD = local
LLM8850_VERSION = $(shell sed -n 's/^version = "\(.*\)"$$/\1/p' $(LLM8850_SITE)/Cargo.toml | head -n 1)
LLM8850_OVERRIDE_SRCDIR_RSYNC_EXCLUSIONS = --exclude /target --exclude /build
LLM8850_LICENSE = Apache-2.0 or MIT
LLM8850_LICENSE_FILES = LICENSE-APACHE LICENSE-MIT

LLM8850_CARGO_BUILD_OPTS = --workspace --bins --lib

# Buildroot vendors what it downloads, and a local site is not downloaded. So crates are fetched here, as
# Cargo.lock says (with their checksums), and the build that follows is offline like any other.
define LLM8850_VENDOR
	mkdir -p $(@D)/.cargo
	cd $(@D) && $(TARGET_MAKE_ENV) $(PKG_CARGO_ENV) \
		cargo vendor --locked vendor > .cargo/config.toml
endef
LLM8850_PRE_BUILD_HOOKS += LLM8850_VENDOR

define LLM8850_INSTALL_TARGET_CMDS
	$(@D)/scripts/install-files --image $(@D)/target/$(RUSTC_TARGET_NAME)/release $(TARGET_DIR)
endef

define LLM8850_USERS
	llm8850 -1 llm8850 -1 * /var/lib/llm8850 - gpio LLM8850 appliance
endef

$(eval $(cargo-package))
