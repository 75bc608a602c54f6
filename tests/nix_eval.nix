# SPDX-License-Identifier: MIT
# Evaluates the package and the module with as much of nixpkgs as they use, made up here. The result is JSON for
# packages_test.sh.
let
  lib = rec {
    inherit (builtins) isList concatStringsSep attrNames listToAttrs;
    cleanSource = path: path;
    licenses.mit = "MIT";
    platforms.linux = [ "x86_64-linux" ];
    concatStrings = concatStringsSep "";
    mapAttrsToList = f: set: map (name: f name set.${name}) (attrNames set);
    nameValuePair = name: value: { inherit name value; };
    mapAttrs' = f: set: listToAttrs (mapAttrsToList f set);
    genAttrs = names: f: listToAttrs (map (name: nameValuePair name (f name)) names);
    mkEnableOption = text: { default = false; };
    mkOption = option: option;
    mkIf = condition: content: if condition then content else { };
    types = {
      package = "package";
      bool = "bool";
      int = "int";
      float = "float";
      str = "str";
      oneOf = of: { inherit of; };
      listOf = of: { inherit of; };
      attrsOf = of: { inherit of; };
    };
  };
  inputs = [
    "cmake"
    "ninja"
    "pkg-config"
    "scdoc"
    "alsa-lib"
    "inih"
    "jack2"
    "json_c"
    "libjack2"
    "libmnl"
    "libpcap"
    "libpulseaudio"
    "libsamplerate"
    "libsndfile"
    "pipewire"
    "sndio"
    "systemd"
  ];
  pkgs = lib.genAttrs inputs (name: name) // {
    inherit lib;
    coreutils = "/coreutils";
    stdenv.mkDerivation = arguments: removeAttrs arguments [ "src" ];
    # callPackage gives a function what it asks for.
    callPackage = file: _: let f = import file; in f (builtins.intersectAttrs (builtins.functionArgs f) pkgs);
  };
  module = services: (import ../units/nix/module.nix) {
    inherit lib pkgs;
    config = { inherit services; };
  };
  evaluated = module {
    earshot = {
      enable = true;
      package = "/earshot";
      guests.win10 = {
        shm = "/dev/shm/scream-win10";
        latency = 30;
        from = [ "10.0.0.1" "10.0.0.2" ];
        no-connect = true;
      };
      openFirewallOn = [ "virbr0" ];
    };
  };
in
{
  package = pkgs.callPackage ../units/nix/package.nix { };
  options = evaluated.options.services.earshot;
  file = evaluated.config.environment.etc."xdg/earshot/win10.conf".text;
  reload = evaluated.config.systemd.user.services.earshot.serviceConfig.ExecReload;
  firewall = evaluated.config.networking.firewall.interfaces;
  packages = evaluated.config.systemd.packages ++ evaluated.config.services.udev.packages;
  off = (module { earshot.enable = false; }).config;
}
