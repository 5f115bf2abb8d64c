# shellcheck shell=bash
# To be sourced by Buildroot's last steps.

# option NAME: the value of that option in Buildroot's configuration.
option() {
    sed -n "s,^$1=\"\(.*\)\"\$,\1,p" "$BR2_CONFIG" | sed "s,\$(BR2_EXTERNAL_LLM8850_PATH),$BR2_EXTERNAL_LLM8850_PATH,g"
}
