#!/bin/bash
# SPDX-License-Identifier: MIT
# The packages, made, installed and removed: packages_test.sh BUILD_DIRECTORY. As root, on Debian with rpm and nix-bin.
# Nothing is installed into this system: each package gets a root directory of its own.
set -uo pipefail

checkout=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
build=$(CDPATH='' cd -- "$1" && pwd) || exit 1
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
failures=0

check() { # check WHAT EXPECTED GOT
    if [[ $2 == "$3" ]]; then
        printf 'ok   %s\n' "$1"
    else
        printf 'FAIL %s\n  expected: %s\n  got:      %s\n' "$1" "$2" "$3"
        failures=$((failures + 1))
    fi
}

files_in() { (cd "$1" && find . -mindepth 1 \( -type f -o -type l \) -not -path './var/lib/*' | LC_ALL=C sort); }
anything_in() { (cd "$1" && find . -mindepth 1 -not -path './var' -not -path './var/*' | LC_ALL=C sort); }

# What every package must hold. $1: where zsh's completion goes.
expected_files() {
    printf './%s\n' usr/bin/earshot usr/lib/systemd/user/earshot.service \
        usr/lib/systemd/user/earshot-guest.service usr/lib/udev/rules.d/60-earshot-kvmfr.rules \
        usr/share/bash-completion/completions/earshot usr/share/fish/vendor_completions.d/earshot.fish \
        usr/share/man/man1/earshot.1 usr/share/doc/earshot/README.md usr/share/doc/earshot/LICENSE \
        usr/share/doc/earshot/doc/architecture.md "usr/share/zsh/$1/_earshot"
}

# check_contents KIND DIRECTORY ZSH: everything is there, the program runs, and the service names it.
check_contents() {
    local missing
    missing=$(expected_files "$3" | while read -r file; do [[ -f $2/$file ]] || echo "$file"; done)
    check "$1: holds what belongs to it" '' "$missing"
    check "$1: the program runs" "earshot $version" "$("$2/usr/bin/earshot" --version 2>&1)"
    check "$1: the service starts it" 'ExecStart=/usr/bin/earshot' \
        "$(grep '^ExecStart=' "$2/usr/lib/systemd/user/earshot.service")"
    check "$1: nothing in it is writable for others" '' "$(cd "$2" && find usr -perm /022 -not -type l)"
}

version=$(sed -n 's/^project(earshot VERSION \([0-9.]*\) .*/\1/p' "$checkout/CMakeLists.txt")

test_deb() {
    local package dir=$work/deb depends dependency
    (cd "$build" && rm -f ./*.deb && cpack -G DEB) >"$work/log" 2>&1 || cat "$work/log"
    package=$(echo "$build"/earshot_*.deb)
    depends=$(dpkg-deb --field "$package" Depends)
    check 'deb: needs no development package' '' "$(grep -o '[a-z0-9.-]*-dev' <<<"$depends")"
    for dependency in libc6 libpipewire-0.3-0 libsystemd0 libsamplerate0; do
        check "deb: needs $dependency" "$dependency" "$(grep -o "$dependency\b" <<<"$depends" | head -n 1)"
    done
    # With this system's list of packages, so that what it needs is looked for among them.
    mkdir -p "$dir/var/lib/dpkg/info" "$dir/var/lib/dpkg/updates" "$dir/var/lib/dpkg/triggers"
    cp /var/lib/dpkg/status "$dir/var/lib/dpkg/status"
    dpkg --root="$dir" --force-script-chrootless --install "$package" >"$work/log" 2>&1 || cat "$work/log"
    check 'deb: installed' 'install ok installed' "$(dpkg-query --admindir="$dir/var/lib/dpkg" -W -f='${Status}' earshot)"
    check_contents deb "$dir" vendor-completions
    dpkg --root="$dir" --force-script-chrootless --purge earshot >"$work/log" 2>&1 || cat "$work/log"
    check 'deb: nothing is left' '' "$(anything_in "$dir")"
}

test_rpm() {
    local package dir=$work/rpm
    (cd "$build" && cpack -G RPM -B "$work/rpms") >"$work/log" 2>&1 || cat "$work/log"
    package=$(echo "$work"/rpms/earshot-*.rpm)
    check 'rpm: needs the library of PipeWire' 'libpipewire-0.3.so.0' \
        "$(rpm -qp --requires "$package" | grep -o 'libpipewire-0.3.so.0' | head -n 1)"
    check 'rpm: takes no directory of others' '' \
        "$(rpm -qpl "$package" | grep -xE '/usr(/(bin|lib|share))?|.*/(user|systemd|man1|completions|rules.d|udev|fish|zsh)')"
    mkdir -p "$dir"
    # This system has no RPMs that could provide anything.
    rpm --root "$dir" --dbpath /var/lib/rpm --nodeps --install "$package" >"$work/log" 2>&1 || cat "$work/log"
    check_contents rpm "$dir" vendor-completions
    rpm --root "$dir" --dbpath /var/lib/rpm --erase earshot >"$work/log" 2>&1 || cat "$work/log"
    check 'rpm: nothing of it is left' '' "$(files_in "$dir")"
}

# What ./bootstrap installs for building, by its names on Arch.
needs() { sed -n "s/^build_needs='\(.*\)'/\1/p" "$checkout/bootstrap"; }
# What it installs as jack2, PipeWire provides as well, under the name that both go by.
arch_package() { sed -n '/^# need/,/^TABLE/p' "$checkout/bootstrap" | awk -v need="$1" '$1 == need { sub("^jack2$", "jack", $4); print $4 }'; }

test_pkgbuild() {
    # shellcheck disable=SC2034 # PKGBUILD's
    local need missing='' srcdir=$work/src pkgdir=$work/pkg startdir=$checkout/units
    # shellcheck disable=SC2034 # PKGBUILD's
    local pkgname pkgver pkgrel pkgdesc arch license depends makedepends optdepends source
    mkdir -p "$srcdir" "$pkgdir"
    # shellcheck source=/dev/null
    source "$checkout/units/PKGBUILD"
    check 'PKGBUILD: its version' "$version" "$pkgver"
    for need in $(needs); do
        [[ $need == compiler || " ${depends[*]} ${makedepends[*]} " == *" $(arch_package "$need") "* ]] ||
            missing+=" $need"
    done
    check 'PKGBUILD: names what building needs' '' "$missing"
    (set -e && build && package) >"$work/log" 2>&1 || tail -n 30 "$work/log"
    check_contents PKGBUILD "$pkgdir" vendor-completions
    check 'PKGBUILD: brings its license' 1 "$(find "$pkgdir/usr/share/licenses/earshot" -name LICENSE | wc -l)"
}

test_nix() {
    local file result
    export NIX_STATE_DIR=$work/nix/state NIX_STORE_DIR=$work/nix/store
    for file in "$checkout"/units/nix/*.nix; do
        nix-instantiate --parse "$file" >/dev/null 2>"$work/log" || cat "$work/log"
        check "nix: ${file##*/} parses" 1 "$(nix-instantiate --parse "$file" 2>/dev/null | wc -l)"
    done
    result=$(nix-instantiate --eval --strict --json --readonly-mode "$checkout/tests/nix_eval.nix" 2>"$work/log") ||
        cat "$work/log"
    value() { python3 -c 'import json, sys; print(eval("json.load(sys.stdin)" + sys.argv[1]))' "$1" <<<"$result"; }
    check 'nix: the version' "$version" "$(value '["package"]["version"]')"
    check 'nix: as many libraries as building needs' \
        "$(needs | tr ' ' '\n' | grep -cvxE 'compiler|cmake|ninja|pkg-config')" "$(value '["package"]["buildInputs"].__len__()')"
    check 'nix: a configuration file of a guest' \
        'from = 10.0.0.1,10.0.0.2|latency = 30|no-connect = yes|shm = /dev/shm/scream-win10|' \
        "$(value '["file"].replace("\n", "|")')"
    # shellcheck disable=SC2016 # systemd expands it
    check 'nix: the service reloads' '/coreutils/bin/kill -HUP $MAINPID' "$(value '["reload"][1]')"
    check 'nix: the firewall' '[4010]' "$(value '["firewall"]["virbr0"]["allowedUDPPorts"]')"
    check 'nix: off is off' '{}' "$(value '["off"]')"
}

for tool in cpack dpkg-deb dpkg-shlibdeps rpm rpmbuild nix-instantiate python3; do
    command -v "$tool" >/dev/null || { echo "FAIL $tool is not installed" && exit 1; }
done
test_deb
test_rpm
test_pkgbuild
test_nix
echo "$failures failed"
[[ $failures -eq 0 ]]
