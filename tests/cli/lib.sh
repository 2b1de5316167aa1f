# For the tests of the command. $PRAXINO is the command, $PRX_SOURCE the tree; $tmp is a folder that goes away.
# check NAME CMD... counts, prints only failures; finish prints `N passed, N failed` and exits.
# shellcheck shell=sh
set -u
tmp=$(mktemp -d "${TMPDIR:-/tmp}/praxino-test.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM
passed=0 failed=0
PRAXINO_DATA=$PRX_SOURCE
export PRAXINO_DATA
# a random model of half a megabyte: what is tested here is the command
model=$PRX_SOURCE/tests/vectors/golden/wan21_unipc/model
builtin=$PRX_SOURCE/models/tiny
size=32
# shellcheck disable=SC2034
quick="-m $model --steps 2 --frames 5 --width $size --height $size --seed 7 --threads 2 --progress none"

skip() { echo "skipped: $*"; exit 77; }
fail() { echo "FAILED: $*"; failed=$((failed + 1)); }
pass() { passed=$((passed + 1)); }
need_builtin() { [ -f "$builtin/model_index.json" ] || skip "no built-in model"; }

# What the command said is in $tmp/seen.
check() {
    what=$1; shift
    if "$@" >"$tmp/seen.new" 2>&1; then
        pass
    else
        fail "$what: $*"
        head -n 5 "$tmp/seen.new"
    fi
    mv "$tmp/seen.new" "$tmp/seen"
}

# interrupt CMD...: SIGINT for $pid once CMD holds (6 s at most); it must end with 130.
interrupt() {
    for _ in $(seq 300); do
        "$@" && break
        sleep 0.02
    done
    kill -INT "$pid" 2>/dev/null
    code=0
    wait "$pid" || code=$?
    check "interrupted gives 130, not $code" test "$code" = 130
}

# expect CODE NAME CMD...: the exit code (output in $tmp/out, $tmp/err); on 2, 3, 4 exactly one line on stderr that begins
# with `praxino: `.
expect() {
    want=$1 what=$2; shift 2
    code=0
    "$@" >"$tmp/out" 2>"$tmp/err" </dev/null || code=$?
    if [ "$code" != "$want" ]; then
        fail "$what: exit code $code, not $want: $*"
        head -n 5 "$tmp/err"
        return
    fi
    case $want in
    2 | 3 | 4)
        if [ "$(wc -l <"$tmp/err")" != 1 ] || ! grep -q '^praxino: .*: .*' "$tmp/err"; then
            fail "$what: not one line 'praxino: what: why':"
            head -n 5 "$tmp/err"
            return
        fi
        ;;
    esac
    pass
}

# says TEXT NAME: the last message contains a text.
says() {
    if grep -qF -- "$1" "$tmp/err"; then pass; else fail "$2: no '$1' in: $(cat "$tmp/err")"; fi
}

# absent FILE... : nothing stands there, and no temporary file beside it.
absent() {
    for gone in "$@"; do
        left=$(find "$(dirname "$gone")" -maxdepth 1 -name "$(basename "$gone")*" | head -n 3)
        if [ -z "$left" ]; then pass; else fail "left behind: $left"; fi
        [ -z "$left" ] || rm -f "$gone"*
    done
}

finish() {
    echo "$passed passed, $failed failed"
    [ "$failed" = 0 ] && [ "$passed" -gt 0 ]
    exit
}
