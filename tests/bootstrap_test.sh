#!/bin/sh
# SPDX-License-Identifier: MIT
# ./bootstrap on distributions that are not here: a PATH of nothing but what every system has, a package manager that
# notes what it is asked for and then provides it, and a cmake that notes how it is called.
set -u

bootstrap=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)/bootstrap
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
failures=0

# What no system is without, as far as bootstrap uses it.
everywhere='sh env printf dirname readlink mkdir mv rm mktemp sed tr awk tail cat ls nproc chmod touch rmdir'

check() { # check WHAT EXPECTED GOT
    if [ "$2" = "$3" ]; then
        printf 'ok   %s\n' "$1"
    else
        printf 'FAIL %s\n  expected: %s\n  got:      %s\n' "$1" "$2" "$3"
        failures=$((failures + 1))
    fi
}

check_has() { # check_has WHAT PART TEXT
    case $3 in
        *"$2"*) printf 'ok   %s\n' "$1" ;;
        *)
            printf 'FAIL %s\n  expected to find: %s\n  in: %s\n' "$1" "$2" "$3"
            failures=$((failures + 1))
            ;;
    esac
}

script() { # script NAME: an executable on the fake PATH, its body from stdin
    {
        echo '#!/bin/sh'
        cat
    } >"$bin/$1"
    chmod +x "$bin/$1"
}

# A machine: a checkout in a path with a space, a PATH, and `noted` for what was called.
machine() { # machine MANAGER UID
    rm -rf "$work/m"
    bin=$work/m/bin noted=$work/m/noted checkout="$work/m/a checkout"
    mkdir -p "$bin" "$checkout" "$work/m/home" "$work/m/elsewhere"
    cp "$bootstrap" "$checkout/bootstrap"
    : >"$noted"
    for tool in $everywhere; do
        ln -s "$(command -v "$tool")" "$bin/$tool"
    done
    echo "echo $2" | script id
    [ -z "$1" ] || script "$1" <<MANAGER
echo "$1 \$*" >>"$noted"
case "\$*" in
    *update*) [ "$1" = apk ] || exit 0 ;;
esac
[ -e "$work/m/provides-nothing" ] || "$bin/provide"
MANAGER
    script provide <<PROVIDE
for tool in gcc ninja scdoc pipewire pw-cli wireplumber jackd pipewire-pulse sndiod dbus-daemon python3 ip unshare gnuplot nft systemd-analyze zsh fish qemu-system-x86_64 busybox cpio ctest; do
    [ -e "$bin/\$tool" ] || { printf '#!/bin/sh\\n'; echo 'exit 0'; } >"$bin/\$tool"
    chmod +x "$bin/\$tool"
done
mkdir -p "$work/m/spa/support"
mkdir -p "$work/m/lib/alsa-lib"
touch "$work/m/spa/support/libspa-support.so" "$work/m/lib/alsa-lib/libasound_module_pcm_pulse.so"
cat >"$bin/pkg-config" <<'PKG'
#!/bin/sh
case "\$*" in *plugindir*) echo "$work/m/spa" ;; *libdir*) echo "$work/m/lib" ;; esac
for module in \$(cat "$work/m/no-module" 2>/dev/null); do
    case "\$*" in *"\$module"*) exit 1 ;; esac
done
PKG
cat >"$bin/cmake" <<'CMAKE'
#!/bin/sh
[ "\$1" = --version ] && echo "cmake version \$(cat "$work/m/cmake-version" 2>/dev/null || echo 3.25.1)" && exit
echo "cmake \$*" >>"$noted"
[ "\$1" = --build ] && printf '#!/bin/sh\\necho "earshot \$*"\\n' >"\$2/earshot" && chmod +x "\$2/earshot"
if [ "\$1" = --install ] && [ ! -e "$work/m/installs-nothing" ]; then
    mkdir -p "\$4/bin" "\$4/share/doc/earshot" "\$4/share/man/man1"
    for file in bin/earshot share/doc/earshot/README.md share/man/man1/earshot.1; do
        echo x >"\$4/\$file"
        echo "\$4/\$file"
    done >"\$2/install_manifest.txt"
fi
exit 0
CMAKE
cat >"$bin/cpack" <<'CPACK'
#!/bin/sh
echo "cpack \$*" >>"$noted"
: >"\$4/earshot_0.1.0.deb" # -G KIND -B DIRECTORY
CPACK
chmod +x "$bin/pkg-config" "$bin/cmake" "$bin/cpack"
PROVIDE
}

run() { # run ARGUMENTS: from another directory, with nothing of this machine's in sight
    output=$(cd "$work/m/elsewhere" &&
        env -i PATH="$bin" HOME="$work/m/home" TMPDIR="$work/m" CI=1 "$bin/sh" "$checkout/bootstrap" "$@" 2>&1 </dev/null)
    status=$?
}

asked() { sed -n "/install\|-S\|add/p" "$noted" | grep -v '^cmake' | head -n 1; }

# --- every package manager, everything missing -------------------------------------------------------------------

rpm='pkgconfig(libpipewire-0.3) pkgconfig(libpulse) pkgconfig(samplerate) pkgconfig(jack) pkgconfig(alsa) pkgconfig(sndfile) pkgconfig(libpcap) pkgconfig(libsystemd) pkgconfig(json-c) pkgconfig(inih) pkgconfig(libmnl)'
for row in \
    "apt-get|-q -y -o DPkg::Lock::Timeout=120 install --no-install-recommends|gcc libc6-dev cmake ninja-build pkg-config libpipewire-0.3-dev libpulse-dev libsamplerate0-dev libjack-jackd2-dev libasound2-dev libsndfile1-dev libpcap-dev libsystemd-dev libjson-c-dev libinih-dev libmnl-dev" \
    "dnf|-y --setopt=install_weak_deps=False install|gcc cmake ninja-build pkgconf-pkg-config $rpm" \
    "pacman|-Sy --needed --noconfirm|gcc cmake ninja pkgconf libpipewire libpulse libsamplerate jack2 alsa-lib libsndfile libpcap systemd-libs json-c libinih libmnl" \
    "zypper|--non-interactive install --no-recommends|gcc cmake ninja pkg-config $rpm" \
    "apk|add --update-cache|gcc musl-dev linux-headers cmake samurai pkgconf pipewire-dev pulseaudio-dev libsamplerate-dev jack-dev alsa-lib-dev libsndfile-dev libpcap-dev elogind-dev json-c-dev inih-dev libmnl-dev"; do
    manager=${row%%|*} rest=${row#*|}
    machine "$manager" 0
    run build
    check "$manager: installs what building needs" "$manager ${rest%%|*} ${rest#*|}" "$(asked)"
    check "$manager: then builds" 0 $status
    check_has "$manager: with the release preset" \
        'cmake --preset release -G Ninja -DEARSHOT_TESTS=OFF' "$(cat "$noted")"
    check_has "$manager: and says where" "a checkout/build/earshot" "$output"
done

machine apt-get 0
run packages test
# nft may be in a directory for administrators, which this test does not hide.
check 'packages test: names all' 'busybox-static cmake cpio dbus fish gcc gnuplot-nox iproute2 jackd2 libasound2-dev libasound2-plugins libc6-dev libcmocka-dev libinih-dev libjack-jackd2-dev libjson-c-dev libmnl-dev libpcap-dev libpipewire-0.3-dev libpulse-dev libsamplerate0-dev libsndfile1-dev libsndio-dev libspa-0.2-modules libsystemd-dev ninja-build pipewire pipewire-bin pipewire-pulse pkg-config python3 qemu-system-x86 scdoc sndiod systemd util-linux wireplumber zsh ' \
    "$(echo "$output" | LC_ALL=C sort | grep -v nftables | tr '\n' ' ')"
check 'packages: installs nothing' '' "$(cat "$noted")"

# --- only what is missing ----------------------------------------------------------------------------------------

machine dnf 0
"$bin/provide"
run build
check 'nothing missing: nothing installed' '' "$(asked)"
check 'nothing missing: builds' 0 $status

machine zypper 0
"$bin/provide"
echo sndfile >"$work/m/no-module"
run packages
check 'one module missing: one package' 'pkgconfig(sndfile)' "$output"

machine dnf 0
"$bin/provide"
echo libsystemd >"$work/m/no-module"
run packages
check 'libelogind does for libsystemd' '' "$output"

machine apt-get 0
"$bin/provide"
rm "$bin/ninja"
ln -s "$bin/gcc" "$bin/make"
run build
check_has 'make does for ninja' 'cmake --preset release -G Unix Makefiles' "$(cat "$noted")"

machine pacman 0
"$bin/provide"
rm "$bin/scdoc"
touch "$work/m/provides-nothing"
run build
check 'an optional package that is not to be had: builds all the same' 0 $status
check_has 'and says so' 'without scdoc' "$output"

# --- who may install ---------------------------------------------------------------------------------------------

machine apt-get 1000
run build
check 'a user without sudo: fails' 1 $status
check_has 'and names the command to run' 'apt-get install --no-install-recommends gcc libc6-dev cmake' "$output"
check 'and has installed nothing' '' "$(cat "$noted")"

machine dnf 1000
run build
check_has 'names that a shell would mangle are quoted' "'pkgconfig(samplerate)'" "$output"

machine apt-get 1000
script sudo <<SUDO
echo "sudo \$*" >>"$noted"
[ "\$1" = -n ] && shift
exec "\$@"
SUDO
run build
check 'a user with sudo: builds' 0 $status
check_has 'sudo is not to ask where nobody can answer' 'sudo -n env DEBIAN_FRONTEND=noninteractive apt-get' "$(cat "$noted")"
check 'cmake is not run as root' '' "$(grep 'sudo.*cmake --' "$noted")"

machine dnf 1000
"$bin/provide"
rm "$bin/scdoc"
echo "echo sudo >>'$noted'" | script sudo
run build
check 'no password for an optional package' '' "$(grep sudo "$noted")"
check 'no password for an optional package: builds' 0 $status

# --- what cannot be helped ---------------------------------------------------------------------------------------

machine '' 0
run build
check 'no package manager: fails' 1 $status
check_has 'and says what is needed' 'samplerate jack alsa sndfile libpcap' "$output"

machine apt-get 0
touch "$work/m/provides-nothing"
run build
check 'a manager that delivers nothing: fails' 1 $status
check_has 'and says what is still missing' 'still missing: compiler cmake' "$output"

machine apt-get 0
"$bin/provide"
echo 3.22.1 >"$work/m/cmake-version"
run build
check 'cmake too old: fails' 1 $status
check_has 'and says which is needed' 'cmake here is 3.22.1, 3.25 or newer is needed' "$output"

machine apt-get 0
echo 'echo "E: no such package" >&2; exit 100' | script apt-get
run build
check 'a manager that fails: fails' 1 $status
check_has 'its last words are shown' 'E: no such package' "$output"

machine apt-get 0
"$bin/provide"
echo 4.0.2 >"$work/m/cmake-version"
run build
check 'cmake 4: new enough' 0 $status

# --- the other commands ------------------------------------------------------------------------------------------

machine apt-get 1000
"$bin/provide"
run install
check_has 'install by a user: to ~/.local' "cmake --install $checkout/build --prefix $work/m/home/.local" "$(cat "$noted")"
check_has 'and says that PATH lacks it' 'not on your PATH' "$output"

check_has 'and how to start it' 'systemctl --user enable --now earshot' "$output"

# What was there before stays, and so does what a list that was tampered with names elsewhere.
touch "$work/m/home/.local/bin/other" "$work/m/precious"
printf '%s\n' "$work/m/precious" "$work/m/home/.local/../../precious" >>"$work/m/home/.local/share/doc/earshot/installed"
script systemctl <<SYSTEMCTL
echo "systemctl \$*" >>"$noted"
SYSTEMCTL
rm -rf "$checkout/build"
run uninstall
check 'uninstall: works without the build directory' 0 $status
check 'uninstall: takes everything, and directories it has emptied' "$work/m/home/.local/bin/other" \
    "$(find "$work/m/home/.local" -type f)"
check 'uninstall: leaves no directory of its own' '' "$(find "$work/m/home/.local" -mindepth 1 -type d -not -name bin)"
check 'uninstall: touches nothing outside' "$work/m/precious" "$(ls "$work/m/precious")"
check_has 'uninstall: ends the service of guests' 'systemctl --user disable --now earshot-guest.service' "$(cat "$noted")"
check_has 'uninstall: ends the service' 'systemctl --user disable --now earshot.service' "$(cat "$noted")"
run uninstall
check 'uninstall twice: fails' 1 $status
check_has 'and says why' 'has no Earshot' "$output"

machine apt-get 1000
"$bin/provide"
output=$(cd "$work/m/elsewhere" && env -i PATH="$bin" HOME="$work/m/home" PREFIX=../here "$bin/sh" "$checkout/bootstrap" install 2>&1)
check_has 'a PREFIX that is no full path: refused' 'PREFIX has to be a full path' "$output"

machine apk 0
"$bin/provide"
rm "$bin/systemd-analyze"
touch "$work/m/provides-nothing"
run deps test
check 'what a distribution has no package for: goes on' 0 $status
check 'and asks for nothing' '' "$(asked)"

machine apt-get 0
"$bin/provide"
touch "$work/m/installs-nothing"
run install
check_has 'install by root: to /usr/local' "--prefix /usr/local" "$(cat "$noted")"

machine apt-get 1000
"$bin/provide"
run package
check 'package on Debian: works' 0 $status
check_has 'with cpack' 'cpack -G DEB' "$(cat "$noted")"
check_has 'and says where it is' 'a checkout/build/earshot_0.1.0.deb' "$output"
check 'where it is' 1 "$(find "$work/m" -name earshot_0.1.0.deb | wc -l)"

machine zypper 1000
"$bin/provide"
run package
check_has 'package on openSUSE: an RPM' 'cpack -G RPM' "$(cat "$noted")"

machine pacman 1000
"$bin/provide"
run package
check_has 'package on Arch: PKGBUILD' 'units/PKGBUILD' "$output"
check 'and no other' '' "$(grep cpack "$noted")"

machine apt-get 0
"$bin/provide"
run demo --seconds 1
check_has 'demo runs the program with its arguments' 'earshot demo --seconds 1' "$output"

machine apt-get 0
"$bin/provide"
echo "echo ctest \$* in \$PWD" | script ctest
ln -s "$(command -v pwd)" "$bin/pwd" 2>/dev/null
run test -R unit
check_has 'test configures with the tests' '-DEARSHOT_TESTS=ON' "$(cat "$noted")"
check_has 'and hands its arguments to ctest' "ctest --preset release -R unit in $checkout" "$output"

machine apt-get 0
run frobnicate
check 'a command that is none: fails' 1 $status

echo "$failures failed"
[ $failures -eq 0 ]
