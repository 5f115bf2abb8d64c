# shellcheck shell=bash
# A Debian in systemd-nspawn, with a real systemd and a network of its own. To be sourced, with $top set to the source tree.

skip() {
    echo "${0#"$top"/}: cannot run: $1" >&2
    [ "${may_skip:-}" = yes ] && exit 0
    exit 1
}

# needs_container: stops where this machine cannot have one.
needs_container() {
    local tool
    [ "$(id -u)" = 0 ] || skip "not root"
    for tool in systemd-nspawn mmdebstrap nsenter python3; do
        command -v "$tool" > /dev/null || skip "no $tool (Debian: systemd-container mmdebstrap util-linux python3)"
    done
}

# boot_container ROOT [OPTION…]: boots it. $leader is its first process, $nspawn its parent; ended and removed when the script ends.
boot_container() {
    container=$1 leader=
    local log=$1.log
    shift
    # Without its filter of system calls, which forbids pidfd_getfd; the image has none.
    SYSTEMD_SECCOMP=0 SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 systemd-nspawn --quiet --boot --register=no --keep-unit \
        --private-network --capability=CAP_SYSLOG --console=pipe --link-journal=no --directory="$container" "$@" > "$log" 2>&1 < /dev/null &
    nspawn=$!
    trap end_container EXIT
    for _ in $(seq 100); do
        leader=$(awk '{print $1}' "/proc/$nspawn/task/$nspawn/children" 2> /dev/null || true)
        [ -n "$leader" ] && [ "$(cat "/proc/$leader/comm" 2> /dev/null)" = systemd ] && return
        kill -0 "$nspawn" 2> /dev/null || { cat "$log" >&2; skip "systemd-nspawn failed"; }
        sleep 0.1
    done
}

end_container() {
    # The container's first process: with it all others end.
    [ -z "$leader" ] || kill -KILL "$leader" 2> /dev/null || true
    kill -KILL "$nspawn" 2> /dev/null || true
    wait "$nspawn" 2> /dev/null || true
    rm -rf "$container"
}
