# SPDX-License-Identifier: MIT
# imports = [ /path/to/earshot/units/nix/module.nix ];
# services.earshot = {
#   enable = true;
#   guests.win10 = { shm = "/dev/shm/scream-win10"; latency = 30; };
# };
{
  config,
  lib,
  pkgs,
  ...
}:

let
  cfg = config.services.earshot;
  value =
    v:
    if v == true then
      "yes"
    else if v == false then
      "no"
    else if lib.isList v then
      lib.concatStringsSep "," v
    else
      toString v;
  configFile = guest: lib.concatStrings (lib.mapAttrsToList (key: v: "${key} = ${value v}\n") guest);
in
{
  options.services.earshot = {
    enable = lib.mkEnableOption "Earshot, which plays virtual machines' sound, for every user who logs in";

    package = lib.mkOption {
      type = lib.types.package;
      default = pkgs.callPackage ./package.nix { };
      description = "The package to use.";
    };

    guests = lib.mkOption {
      type =
        with lib.types;
        attrsOf (
          attrsOf (oneOf [
            bool
            int
            float
            str
            (listOf str)
          ])
        );
      default = { };
      example = {
        win10 = {
          shm = "/dev/shm/scream-win10";
          latency = 30;
        };
      };
      description = ''
        A configuration file for each guest: its keys are earshot's long options. Users' own files of the same name
        come first. Without any, what comes by multicast is played.
      '';
    };

    openFirewallOn = lib.mkOption {
      type = lib.types.listOf lib.types.str;
      default = [ ];
      example = [ "virbr0" ];
      description = "Interfaces on which guests' packets (UDP port 4010) are let in.";
    };
  };

  config = lib.mkIf cfg.enable {
    environment.systemPackages = [ cfg.package ];
    environment.etc = lib.mapAttrs' (
      name: guest: lib.nameValuePair "xdg/earshot/${name}.conf" { text = configFile guest; }
    ) cfg.guests;

    systemd.packages = [ cfg.package ];
    systemd.user.services.earshot = {
      wantedBy = [ "default.target" ];
      # There is no kill where systemd looks for it.
      serviceConfig.ExecReload = [
        ""
        "${pkgs.coreutils}/bin/kill -HUP $MAINPID"
      ];
    };
    services.udev.packages = [ cfg.package ];

    networking.firewall.interfaces = lib.genAttrs cfg.openFirewallOn (_: { allowedUDPPorts = [ 4010 ]; });
  };
}
