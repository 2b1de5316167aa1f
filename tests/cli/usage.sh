#!/bin/sh
# Options: help, suggestions, refusals. Needs no model.
. "$PRX_SOURCE/tests/cli/lib.sh"

expect 0 "help" "$PRAXINO" --help
expect 0 "version" "$PRAXINO" --version
for c in render compare mask schedule replay inspect bench doctor; do
    expect 0 "help of $c" "$PRAXINO" $c --help
    check "$c says how it is used" grep -q "^usage: praxino $c" "$tmp/out"
    expect 0 "help $c" "$PRAXINO" help $c
    expect 2 "unknown option of $c" "$PRAXINO" $c --no-such-option
done
"$PRAXINO" render --help >"$tmp/help"
for o in model negative prompt-file width height frames fps steps guidance shift scheduler seed output config set \
    attention cache crf device isa dtype threads progress stats dump latents save-state resume; do
    check "--$o is in the help" grep -q -- "--$o " "$tmp/help"
done
check "policies are in the help" grep -q "^attention dense: " "$tmp/help"

expect 2 "no command" "$PRAXINO" nothing
expect 2 "a near miss" "$PRAXINO" rendr x
says "did you mean render" "command"
expect 2 "a near miss" "$PRAXINO" render x --widht 3
says "did you mean --width" "option"
expect 2 "a near miss" "$PRAXINO" render x --stepps=3
says "did you mean --steps" "option with ="
expect 2 "unknown letter" "$PRAXINO" render x -Q
expect 2 "value missing" "$PRAXINO" render x --seed
expect 2 "value missing" "$PRAXINO" render x -W
expect 2 "value of a flag" "$PRAXINO" render x --plan=yes
expect 2 "unknown choice" "$PRAXINO" render x --progress fancy
says "auto|bar|json|none" "choices"
expect 2 "unknown device" "$PRAXINO" doctor --device toaster
expect 2 "threads" "$PRAXINO" doctor --threads -1
expect 2 "threads" "$PRAXINO" doctor --threads many
expect 2 "two prompts" "$PRAXINO" render a red ball
says "in quotes" "two prompts"
expect 2 "set without =" "$PRAXINO" render x --set cache.threshold
expect 2 "set without key" "$PRAXINO" render x --set =3
expect 2 "compare one" "$PRAXINO" compare one.mp4
expect 2 "compare missing" "$PRAXINO" compare "$tmp/none.mp4" "$tmp/none.mp4"
expect 2 "inspect missing" "$PRAXINO" inspect "$tmp/none"
expect 2 "json into no folder" "$PRAXINO" doctor --json "$tmp/no/folder.json"

expect 0 "doctor" "$PRAXINO" doctor
expect 0 "doctor as JSON" "$PRAXINO" doctor --json "$tmp/doctor.json"
check "doctor's JSON" grep -q '^{' "$tmp/doctor.json"
expect 0 "doctor to standard output" "$PRAXINO" doctor --json -
check "JSON there too" grep -q '^{' "$tmp/out"
finish
