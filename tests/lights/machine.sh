# shellcheck shell=bash
# What the virtual machines of run and run-gpio have in common. To be sourced.
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
here=$top/tests/lights
work=$top/build/lights
programs="llm8850-supervisor llm8850-worker llm8850-card-helper axcl-machine axmodel-pack"
# shellcheck source=scripts/debian.sh
. "$top/scripts/debian.sh"

cannot() {
    echo "light tests: cannot run: $1" >&2
    exit 1
}

# needs PACKAGES TOOL…: stops where a tool is missing.
needs() {
    local packages=$1 tool
    shift
    for tool in "$@"; do
        command -v "$tool" > /dev/null || cannot "no $tool (apt-get install $packages)"
    done
}

# built DIRECTORY TARGET: stops where make has not built the programs.
built() {
    local file
    for file in $programs libaxcl_rt.so; do
        [ -e "$1/$file" ] || cannot "no $1/$file: run make $2"
    done
}

# debian_kernel ARCH: Debian's newest, unpacked to $kernel.
debian_kernel() {
    local package
    command -v apt-get > /dev/null || cannot "no apt-get to fetch Debian's kernel with"
    package=$(debian_show "linux-image-$1:$1" Depends | tail -1)
    [ -n "$package" ] || cannot "apt knows no linux-image-$1: run apt-get update (Debian's kernel is needed)"
    debian_unpack "$work/kernel-$1" "${package%% *}:$1"
    kernel=$work/kernel-$1/root
}

# new_root BUSYBOX LAMP: begins the machine's files in $root; the script LAMP brings its lamp up.
new_root() {
    rm -rf "$root"
    mkdir -p "$root"/{bin,lib,proc,sys,dev,tmp,modules}
    cp "$1" "$root/bin/busybox"
    install -m 755 "$here/init" "$root/init"
    install -m 755 "$here/$2" "$root/lamp"
    install -m 755 "$here/udev" "$root/bin/udev"
    # What udev would do.
    sed -n 's,^.*SUBSYSTEM=="leds".*RUN+="/bin/sh -c .\(.*\).",\1,p' "$top/systemd/llm8850.rules" | sed 's,\$\$,$,g' > "$root/leds.rules"
    [ "$(wc -l < "$root/leds.rules")" = 2 ] || cannot "the rules for LEDs in systemd/llm8850.rules are not understood"
}

# add_modules MODULE…: from $kernel.
add_modules() {
    local module file
    for module in "$@"; do
        file=$(find "$kernel" -name "$module.ko*")
        case $file in
            # Not there: the kernel has it built in, or the machine will say what it misses.
            '') ;;
            *.xz) xz -dc "$file" > "$root/modules/$module.ko" ;;
            *) cp "$file" "$root/modules/$module.ko" ;;
        esac
    done
}

# add_programs DIRECTORY PREFIX: ours, by the strip of that prefix.
add_programs() {
    local file
    for file in $programs; do "$2strip" -o "$root/bin/$file" "$1/$file"; done
    "$2strip" -o "$root/lib/libaxcl_rt.so" "$1/libaxcl_rt.so"
}

# pack_root: $root as $initrd.
pack_root() {
    initrd=$root.gz
    (cd "$root" && find . | cpio --quiet -o -H newc | gzip -1) > "$initrd"
}
