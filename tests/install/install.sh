#!/bin/sh
# Installs into a temporary prefix and uses what stands there, as another project would: the command, the C example through
# pkg-config and through the CMake package, the Python example.
set -eu
. "$PRX_SOURCE/tests/cli/lib.sh"
need_builtin
size=128
[ "$PRX_SANITIZE" != ON ] || skip "the installed library would need the sanitizer's run-time"

prefix=$tmp/prefix
"$CMAKE" --install "$PRX_BINARY" --prefix "$prefix" >"$tmp/log" 2>&1 || { cat "$tmp/log"; fail "cmake --install"; }
# moved, so that nothing depends on where it was installed to
mv "$prefix" "$tmp/moved"
prefix=$tmp/moved
lib=$(dirname "$(find "$prefix" -name libpraxino.so)")
check "the header" test -f "$prefix/include/praxino/praxino.h"
unset PRAXINO_DATA
LD_LIBRARY_PATH=$lib
export LD_LIBRARY_PATH

small="frames=5 steps=2 seed=1 width=$size height=$size"
check "the command runs" "$prefix/bin/praxino" --version
"$prefix/bin/praxino" doctor >"$tmp/doctor" 2>&1
check "the command finds the built-in model" grep -q "$prefix/.*/models/tiny" "$tmp/doctor"

PKG_CONFIG_PATH=$lib/pkgconfig
export PKG_CONFIG_PATH
# shellcheck disable=SC2046
check "compiles through pkg-config" "$CC" -std=c11 -Wall -Werror "$PRX_SOURCE/examples/embed.c" \
    $(pkg-config --cflags --libs praxino) -lpthread -o "$tmp/embed"
model=$prefix/share/praxino/models/tiny
# shellcheck disable=SC2086
check "runs" "$tmp/embed" "$model" "a red ball" "$tmp/embed.mp4" $small
cp "$tmp/seen" "$tmp/said"
check "reports its frames" grep -q "^5 frames of ${size}x$size" "$tmp/said"
check "is cancelled" grep -q "^second job: cancelled" "$tmp/said"
check "writes its file" test -s "$tmp/embed.mp4"

check "configures through find_package" "$CMAKE" -S "$PRX_SOURCE/examples" -B "$tmp/build" "-DCMAKE_PREFIX_PATH=$prefix" \
    "-DCMAKE_C_COMPILER=$CC"
check "compiles through find_package" "$CMAKE" --build "$tmp/build"
# shellcheck disable=SC2086
check "runs through find_package" "$tmp/build/embed" "$model" "a red ball" "$tmp/cmake.mp4" $small
check "gives the same video" cmp "$tmp/embed.mp4" "$tmp/cmake.mp4"

if command -v python3 >/dev/null 2>&1; then
    PRAXINO_LIB=$lib/libpraxino.so
    export PRAXINO_LIB
    # shellcheck disable=SC2086
    check "runs from Python" python3 "$PRX_SOURCE/examples/embed.py" "$model" "a red ball" $small
    cp "$tmp/seen" "$tmp/said"
    check "Python gets every frame" test "$(grep -c '^frame ' "$tmp/said")" = 5
    check "Python cancels" grep -q "^second job: cancelled" "$tmp/said"
fi
finish
