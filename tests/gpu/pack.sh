#!/bin/sh
# Makes gpu-pack.tar.xz in the root: what tests/gpu/run.sh needs, built here, for a machine with a GPU that has neither our packages nor a
# network. Such a machine needs the driver, libcublasLt.so.13 and libcudnn.so.9 (a toolkit, or NVIDIA's Python packages), a C library no
# older than the one here, and this repository with the file in its root. FFmpeg's libraries, with all that they need, stay behind:
# functions that do nothing stand in, so only y4m, PNG and GIF can be written there.
#   tests/gpu/pack.sh [CHIPS]       chips: 90a (an H100 or H200) when nothing is said, as "80;90a"
set -eu
root=$(cd -- "$(dirname -- "$0")/../.." && pwd -P)
chips=${1:-90a}
build=${PRX_BUILD:-$root/build-pack}
pack=$build/pack
tests="cuda_norm cuda_act cuda_attention cuda_ops cuda_conv cuda_quant cuda_dit cuda_vae cuda_paged"

mkdir -p "$build"
# Paths in the tests are relative: they run in the root, wherever that is.
cmake -S "$root" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DPRX_TESTS=ON -DPRX_CUDA=ON -DPRX_CUDA_ARCHS="$chips" \
    -DPRX_TEST_ROOT=. >"$build/build.log" 2>&1 || { tail -n 20 "$build/build.log" >&2; exit 1; }
# shellcheck disable=SC2086
cmake --build "$build" --target praxino_cli praxino_cuda $tests >"$build/build.log" 2>&1 || { tail -n 20 "$build/build.log" >&2; exit 1; }

rm -rf "$pack"
mkdir -p "$pack/tests" "$pack/lib/compiler"
cp "$build/praxino" "$build/libpraxino_cuda.so" "$pack"
cp "$build/libpraxino.so.0" "$pack/lib"
for t in $tests; do
    cp "$build/tests/$t" "$pack/tests"
done
strip --strip-debug "$pack/praxino" "$pack"/tests/* "$pack"/lib/*.so*

# Stand-ins for FFmpeg's libraries, with the versions of their symbols.
for library in $(readelf -d "$pack/lib/libpraxino.so.0" | sed -n 's/.*NEEDED.*\[\(lib\(av\|sw\)[^]]*\)\].*/\1/p'); do
    node=$(printf '%s' "$library" | sed 's/\.so\./_/' | tr '[:lower:]' '[:upper:]')
    nm -D --undefined-only "$pack/lib/libpraxino.so.0" | sed -n "s/.* U \\([A-Za-z0-9_]*\\)@$node\$/\\1/p" >"$build/symbols"
    sed 's/.*/void *&(void); void *&(void) { return 0; }/' "$build/symbols" >"$build/stand_in.c"
    printf '%s { global: *; };\n' "$node" >"$build/stand_in.map"
    cc -shared -fPIC -Wl,-soname,"$library" -Wl,--version-script="$build/stand_in.map" -o "$pack/lib/$library" "$build/stand_in.c"
done

# What else is needed, but for the C library.
LD_LIBRARY_PATH=$pack/lib ldd "$pack/praxino" "$pack"/tests/* | sed -n 's/.*=> \(\/[^ ]*\) .*/\1/p' | sort -u |
    grep -vE '/(libc|libm|libdl|librt|libpthread)\.so|/pack/lib/' | while read -r file; do
    case $file in
    */libstdc++.so* | */libgcc_s.so* | */libgomp.so*) cp -L "$file" "$pack/lib/compiler/" ;;
    *) cp -L "$file" "$pack/lib/" ;;
    esac
done
cmake -DROOT="$root" -DPRINT=ON -P "$root/cmake/ledger.cmake" 2>"$pack/kernels.txt" >/dev/null
tar -C "$pack" -cJf "$root/gpu-pack.tar.xz" .
ls -l "$root/gpu-pack.tar.xz"
