# SPDX-License-Identifier: MIT
# pkgs.callPackage ./units/nix/package.nix { }
{
  lib,
  stdenv,
  alsa-lib,
  cmake,
  ninja,
  pkg-config,
  scdoc,
  inih,
  json_c,
  libjack2,
  libmnl,
  libpcap,
  libpulseaudio,
  libsamplerate,
  libsndfile,
  pipewire,
  systemd,
}:

stdenv.mkDerivation {
  pname = "earshot";
  version = "0.1.0";
  src = lib.cleanSource ../..;

  nativeBuildInputs = [
    cmake
    ninja
    pkg-config
    scdoc
  ];
  buildInputs = [
    alsa-lib
    inih
    json_c
    libjack2
    libmnl
    libpcap
    libpulseaudio
    libsamplerate
    libsndfile
    pipewire
    systemd
  ];
  cmakeFlags = [ "-DEARSHOT_TESTS=OFF" ];

  meta = {
    description = "Plays a virtual machine's sound on its Linux host";
    license = lib.licenses.mit;
    platforms = lib.platforms.linux;
    mainProgram = "earshot";
  };
}
