# shellcheck shell=bash
# Debian's packages, from this machine's own apt sources: installed, or only unpacked, which needs no root.
# To be sourced, with $top set to the source tree.

# debian_install WHAT:PACKAGE…: installs the packages of those commands and files that are missing, and any PACKAGE named alone.
debian_install() {
    local pair sudo=() missing=()
    for pair in "$@"; do
        case $pair in
            /*) [ -e "${pair%%:*}" ] || missing+=("${pair#*:}") ;;
            *:*) command -v "${pair%%:*}" > /dev/null || missing+=("${pair#*:}") ;;
            *) missing+=("$pair") ;;
        esac
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    echo "== installing ${missing[*]}"
    [ "$(id -u)" -eq 0 ] || sudo=(sudo)
    if ! command -v apt-get > /dev/null; then
        echo "${0##*/}: this is not Debian: install the equivalents of ${missing[*]} and try again" >&2
        exit 1
    fi
    "${sudo[@]}" apt-get update -q
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
}

debian_options=()

# debian_mirror: where this machine has Debian's packages from.
debian_mirror() {
    # shellcheck disable=SC2016 # apt's own variables
    apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' 'Origin: Debian' |
        awk '$2 !~ /security|updates|backports/ {print $1; exit}'
}

# debian_arm64: from now on arm64's packages are known too, by package lists of our own; on Debian 12 also what has been
# brought back to it from later ones: its own systemd is too old to check the image's units with.
debian_arm64() {
    local own=$top/build/apt release=bookworm-backports key
    mkdir -p "$own/lists/partial" "$own/cache/archives/partial"
    rm -rf "$own/sources"
    mkdir -p "$own/sources"
    cp /etc/apt/sources.list.d/*.{list,sources} "$own/sources/" 2> /dev/null || true
    # shellcheck source=/dev/null
    if [ "$(. /etc/os-release && echo "${VERSION_CODENAME:-}")" = bookworm ] && ! apt-cache policy | grep $release > /dev/null; then
        echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $(debian_mirror) $release main" > "$own/sources/backports.list"
    fi
    debian_options=(
        -o APT::Architectures::="$(dpkg --print-architecture)" -o APT::Architectures::=arm64
        -o Dir::State::lists="$own/lists" -o Dir::Cache="$own/cache" -o Dir::Etc::sourceparts="$own/sources" -o Acquire::Languages=none
    )
    # Lists of yesterday name files that may be gone.
    key=$(cat "$own"/sources/* | sha256sum)
    if [ -z "$(find "$own/.updated" -mmin -1440 2> /dev/null)" ] || [ "$(cat "$own/.updated")" != "$key" ]; then
        echo "== fetching the package lists of arm64"
        apt-get "${debian_options[@]}" -q -q update
        echo "$key" > "$own/.updated"
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
