# shellcheck shell=bash
# Debian's packages, from this machine's own apt sources, unpacked instead of installed. Needs no root.
# To be sourced, with $top set to the source tree.

debian_options=()

# debian_arm64: from now on arm64's packages are known too, by package lists of our own.
debian_arm64() {
    local own=$top/build/apt
    mkdir -p "$own/lists/partial" "$own/cache/archives/partial"
    debian_options=(
        -o APT::Architectures::="$(dpkg --print-architecture)" -o APT::Architectures::=arm64
        -o Dir::State::lists="$own/lists" -o Dir::Cache="$own/cache" -o Acquire::Languages=none
    )
    # Lists of yesterday name files that may be gone.
    if [ -z "$(find "$own/.updated" -mmin -1440 2> /dev/null)" ]; then
        echo "== fetching the package lists of arm64"
        apt-get "${debian_options[@]}" -q -q update
        touch "$own/.updated"
    fi
}

# debian_show PACKAGE FIELD: that field of each version apt knows, the oldest version first.
debian_show() {
    # A package apt does not know is no failure.
    { apt-cache "${debian_options[@]}" show "$1" 2> /dev/null || true; } |
        awk -v field="$2:" '$1 == "Version:" {v = $2} $1 == field {sub(/^[^ ]* /, ""); f = $0} !NF && v {print v "\t" f; v = ""}
            END {if (v) print v "\t" f}' | sort -V | cut -f 2-
}

# debian_unpack DIRECTORY PACKAGE…: a package is named as `apt-get download` takes it. What was complete is left as it is.
debian_unpack() {
    local directory=$1
    shift
    [ "$(cat "$directory/.complete" 2> /dev/null)" != "$*" ] || return 0
    echo "== fetching $*"
    rm -rf "$directory"
    mkdir -p "$directory/root"
    (
        cd "$directory"
        apt-get "${debian_options[@]}" -q download "$@" > fetch.log 2>&1 || {
            cat fetch.log >&2
            echo "$* could not be fetched: run apt-get update" >&2
            exit 1
        }
        for package in ./*.deb; do dpkg-deb -x "$package" root; done
        rm ./*.deb
    )
    echo "$*" > "$directory/.complete"
}
