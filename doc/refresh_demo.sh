#!/bin/sh
# SPDX-License-Identifier: MIT
# Puts what `earshot demo` prints now into README.md, between the two demo comments. Run it from a desktop with
# PipeWire after ./bootstrap build, whenever the output has changed; arguments go to the demo.
set -eu
cd "$(dirname -- "$0")/.."
output=$(mktemp) readme=$(mktemp)
trap 'rm -f "$output" "$readme"' EXIT

# Not a terminal's: no colours, nothing drawn over. Escapes and carriage returns go all the same.
NO_COLOR=1 build/earshot demo --seconds 8 "$@" 2>&1 </dev/null |
    tr '\r' '\n' | sed 's/'"$(printf '\033')"'\[[0-9;?]*[A-Za-z]//g' | sed '/^$/d' >"$output"
[ -s "$output" ]

awk -v output="$output" '
    /^<!-- demo: end/ { inside = 0 }
    !inside { print }
    /^<!-- demo: begin/ {
        inside = 1
        print "\n    $ earshot demo"
        while ((getline line < output) > 0) print "    " line
        print ""
    }
' README.md >"$readme"
cat "$readme" >README.md
