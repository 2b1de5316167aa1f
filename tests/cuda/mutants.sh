#!/bin/sh
# Faults planted in the source of kernels: each must turn a case of `cuda_mutants --cases` wrong. Environment: PRX_SOURCE, PRX_BINARY, CXX,
# EMU_OBJECTS (object files of the emulation, separated by spaces), CASES (the program), OPS and QUANT (others, for what they alone
# look at).
set -u
tmp=$(mktemp -d "${TMPDIR:-/tmp}/praxino-mutants.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM
passed=0 failed=0

# Sizes by chance: several heads, clusters of all sizes.
notices() {
    "$CASES" --cases || return 1
    case $1 in queue | act | cache | frame) "$OPS" ;; quant) "$QUANT" ;; norm) "$OPS" && "$QUANT" ;; esac
}

# mutant NAME FROM TO [HEADER]: FROM (a basic regular expression) is in one line or more of NAME.cu, or of that header as NAME.cu has it.
mutant() {
    file=${4:-$1.cu}
    rm -f "$tmp"/*.cu*
    cp "$PRX_SOURCE/engine/cuda/dev/$1.cu" "$tmp"
    sed "s/$2/$3/" "$PRX_SOURCE/engine/cuda/dev/$file" >"$tmp/$file"
    if cmp -s "$tmp/$file" "$PRX_SOURCE/engine/cuda/dev/$file"; then
        echo "FAILED: $file: '$2' is not in the source any more"
        failed=$((failed + 1))
        return
    fi
    others=$(printf '%s\n' $EMU_OBJECTS | grep -v "/$1\.cu\.o\$")
    # shellcheck disable=SC2086
    if ! "$CXX" -std=c++17 -O1 -fPIC -shared -ffp-contract=off "-DPRXI_CUDA_EMU=\"tests/cuda/emu.h\"" -I"$PRX_SOURCE" \
        -I"$PRX_SOURCE/include" -I"$PRX_SOURCE/engine/cuda/dev" -xc++ "$tmp/$1.cu" -xnone $others -o "$tmp/mutant.so" 2>"$tmp/log"; then
        echo "FAILED: $file: '$3' does not compile"
        head -n 5 "$tmp/log"
        failed=$((failed + 1))
    elif (ulimit -t 60; export PRAXINO_CUDA_MODULE="$tmp/mutant.so"; notices "$1") >"$tmp/log" 2>&1; then
        echo "FAILED: $file: '$2' -> '$3' is not noticed"
        failed=$((failed + 1))
    else
        passed=$((passed + 1))
    fi
}

PRAXINO_CUDA_MODULE=$PRX_BINARY/tests/libpraxino_cuda_emu.so "$CASES" --cases || { echo "FAILED: the cases as they are"; failed=1; }
mutant attn 'cp_async_wait<1>' 'cp_async_wait<2>'                       # one group too many is left under way
mutant attn 'look_up(w, t + 2)' 'look_up(w, t + 1)'
mutant attn 'w.tokens\[t % RING \* ROWS + threadIdx.x\]' 'w.tokens[(t + 1) % RING * ROWS + threadIdx.x]'
mutant attn '? v : first' '? k : first'                                    # q where the first keys will be
mutant attn 'if (token < 0)' 'if (token < -1)'                          # padding is not masked
mutant attn 'RING = 3' 'RING = 2'                                       # tokens are overwritten too early
mutant attn 'o\[n\]\[2 \* rr\] \*= alpha' 'o[n][2 * rr] *= 1.0f'        # one half of the output keeps the old maximum
mutant norm 'i < a.dim; i += THREADS' 'i + 1 < a.dim; i += THREADS'     # the last of a ragged row
mutant norm 'float top = 0' 'float top = 0.5f'                          # a scale that no value of the row asks for
mutant norm 'bits_float((uint32_t)round_bf16(\(modulated(a, row, n, i)\)) << 16)' '\1'    # what bf16 would not have held
mutant norm '<< 8 \* j' '<< 8 * (3 - j)'                                 # codes in another order
mutant norm 'r \* blockDim.x' 'r * THREADS'                             # runs that a row of few threads does not reach
mutant norm 'part + blockDim.x \/ 32' 'part'                            # two sums in one place
mutant norm '8 \* (j % 4)' '8 * (3 - j % 4)'
mutant norm 'aligned(a->o) \&\& ' ''                                     # runs where they may not begin
mutant norm 'aligned(a->mul) \&\&' ''
mutant norm 'a->head_dim % RUN == 0' 'true'                             # heads that end within a run
mutant norm 'aligned(a->out, a->ldo) \&\& ' ''
mutant frame 'm = lanes \/ 2' 'm = lanes \/ 4'                          # half of the lanes of a pixel
mutant frame 'lanes \* HELD \* RUN < a->pitch' 'lanes * HELD * RUN < a->dim \/ 2'     # too few of them
mutant frame 'whole_runs(a->x) \&\&' ''
mutant gemm_simple 'k0 + c < a.k' 'k0 + c <= a.k'                       # reads beyond the row
mutant quant '(size >> 20 \& 1u)' '1u' fp8.cuh                            # ties away from even
mutant quant 'c.w\[i \/ 2\] << 16' 'c.w[i \/ 2]'                      # the lower of two values
mutant conv 'cp_async_wait<STAGES - 2>' 'cp_async_wait<STAGES - 1>'
mutant conv 'd.at - d.tap \* (int)a.pitch' 'd.at % (int)a.pitch'        # the channel of the shortcut, and of taps that do not divide
mutant text 'j - query + a.n - 1' 'query - j + a.n - 1'                 # the bias of the other direction
mutant latent 'fmin(v, part\[w\])' 'part[w]'                            # the last warp's index instead of the least
mutant attn '(lane >> 3 \& 1) \* 8' '(lane >> 2 \& 1) * 8' tile.cuh       # fragments of K
mutant nearest_mma 'cp_async_wait<1>' 'cp_async_wait<2>'
mutant nearest_mma 'v > best' 'v >= best'                               # ties: the last of a thread instead of the first
mutant nearest_mma 'where < at' 'where > at'                            # and of several threads
mutant nearest 'far < best' 'far <= best'
mutant nearest 'where < at' 'where > at'
mutant cluster 'ia < ib' 'ia > ib'                                      # which of equal shares is kept
mutant cluster 'first\[a.cq\] + threadIdx.x' 'first[a.cq] + 1 + threadIdx.x'   # a tile beyond the last keeps what was there
mutant cluster 'if (threadIdx.x == 0 \&\& far == 0)' 'if (threadIdx.x == 0 \&\& far != 0)'
mutant cluster 'label\[r\] >= 0 \&\& before == 0' 'label[r] >= 0'       # a place moves on once a token of a round
mutant cluster 'mine\[label\[r\]\] + before' 'mine[label[r]]'           # tokens of a round on top of each other
mutant cluster 'p + j < end' 'p + j <= end'                             # a mean of one too many
mutant cluster 'i < (int)threadIdx.x; i++' 'i <= (int)threadIdx.x; i++' # the next one's place
mutant cluster 'first + row < a.ck' 'first + row + 1 < a.ck'            # the last centroid
mutant cluster 'a.reseed \&\& begin == end' 'begin == end'               # empty clusters move that should stay
mutant seeds 'b->at\[i\] < b->at\[j\]' 'b->at[i] > b->at[j]'            # the last of equally far ones, of several threads
mutant seeds 'value > most ? i' 'value >= most ? i'                     # and of one
mutant seeds 'far\[worst\] = -1.0f' 'far[worst] = far[worst]'           # one point for several clusters
mutant seeds 'gap = d < was ? d : was' 'gap = d'                        # far from the last one only
mutant seeds 'i0 + i < head_dim' 'i0 + i + 1 < head_dim'                # without the last channel
mutant seeds '(uint64_t)(a.n - at)' '(uint64_t)a.n'                     # a shuffle that takes what was taken
mutant queue 'i < (int)threadIdx.x ?' 'i <= (int)threadIdx.x ?'         # pieces of the next length's place
mutant queue '+ places\[e.bin\] + before' '+ places[e.bin]'              # items of a round on top of each other
mutant queue 'places\[e.bin\] += round' 'places[e.bin] += before'       # a place moves on once a cluster of a round
mutant queue 'warp \* each' 'warp * (each - 1)'                         # some clusters twice
mutant queue 'i < a.n_items' 'i < end'                                  # what was there stays behind the last
mutant queue 'i < head0 \* a.cq' 'i < head0'                            # groups on top of each other
mutant act 'aligned(b) \&\& ' ''                                         # runs where they may not begin
mutant act 'runs \* N + first' 'runs * N + 1 + first'                   # the first of what is left
mutant cache 'aligned(a->after) \&\& ' ''
mutant cache 'a->stride == 1 \&\& ' ''                                   # channels that are left out
mutant cache 'a->dim % N == 0 \&\& ' ''                                  # rows that are not whole runs
mutant text 'key0 + lane' 'lane'                                        # keys of the first tile
mutant text 'most) : 0.0f' 'most) : 1.0f'                               # what is after the last
hopper=attn90
mutant $hopper 'barrier_open(&b.c->k_empty\[i\], RELEASES)' 'barrier_open(\&b.c->k_empty[i], RELEASES - 1)'
mutant $hopper 'barrier_open(&b.c->v_full\[i\], 1)' 'barrier_open(\&b.c->v_full[i], 2)'             # never opens
mutant $hopper 'parity = tile \/ STAGES % 2 ^ 1' 'parity = tile \/ STAGES % 2'                      # of the wrong phase
mutant $hopper '^        barrier_publish();' '        ;'
mutant $hopper 'product_wait<1>' 'product_wait<2>'                      # scores are read before they are there
mutant $hopper '^    product_fence();' '    ;'
mutant $hopper 'group_arrive(TURN + (group ^ 1), 2 \* GROUP)' 'group_arrive(TURN + group, 2 * GROUP)' # nobody is given a turn
mutant $hopper 'group_arrive(TURN, 2 \* GROUP);' ';'                    # nobody begins
mutant $hopper 'd % 4 \* 32' 'd % 4 * 16'                               # columns of the scores
mutant $hopper 'k \* 16 \* 128' 'k * 8 * 128'                           # rows of the values
mutant $hopper 'mine.to \* 128' 'mine.to * 64'                          # boxes on top of each other
mutant $hopper 'o\[i\] \*= alpha\[i \/ 2 % 2\]' 'o[i] *= alpha[i % 2]'
mutant $hopper 'if (!(valid >> column & 1))' 'if (0)'                   # what does not count does
mutant $hopper 's\[16 \* w + i\] += bias' 's[16 * w + i] -= bias'
mutant $hopper '(more ? 0 : LAST)' '(more ? LAST : 0)'
mutant $hopper 'else if (first != r->row + r->left)' 'else if (0)'      # runs that do not touch become one
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
