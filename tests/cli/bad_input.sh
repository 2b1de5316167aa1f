#!/bin/sh
# Every malformed input: exit code 2, one clear line, no output file.
. "$PRX_SOURCE/tests/cli/lib.sh"
out=$tmp/out.mp4
# shellcheck disable=SC2086
render() { "$PRAXINO" render $quick -o "$out" "$@"; }
bad() { what=$1; shift; expect 2 "$what" render "$@"; absent "$out"; }

# ---- settings ----

: >"$tmp/empty"
printf '  \n\n' >"$tmp/blank"
printf 'a red\0ball' >"$tmp/nul"
printf 'a red \377\376 ball' >"$tmp/latin"
head -c 1048576 /dev/zero | tr '\0' 'a' >"$tmp/megabyte"
bad "no prompt"
bad "empty prompt" ""
bad "blank prompt" "  "
bad "empty prompt file" --prompt-file "$tmp/empty"
bad "blank prompt file" --prompt-file "$tmp/blank"
bad "NUL in a prompt file" --prompt-file "$tmp/nul"
bad "invalid UTF-8" --prompt-file "$tmp/latin"
bad "prompt of 1 MB" --prompt-file "$tmp/megabyte"
bad "prompt file missing" --prompt-file "$tmp/none"
bad "prompt twice" x --prompt-file "$tmp/latin"
for setting in width=17 width=0 width=-16 width=abc width=99999999999 height=17 frames=0 frames=-1 frames=2147483648 \
    frames=99999999999999999999 fps=0 fps=nan steps=0 steps=-3 steps=1e9 guidance=nan guidance=inf guidance=x \
    shift=-1 shift=nan scheduler=ddim attention=sparse cache=magic seed=-1.5 seed=x; do
    bad "$setting" x "--${setting%%=*}=${setting#*=}"
    says "${setting%%=*}" "$setting"
done
bad "unknown key" x --set no.such=1
bad "unknown key of a policy" x --set attention.no_such=1
bad "near miss of a key" x --set widht=128
says "width" "suggestion"
bad "dtype" x --dtype f8

# ---- accelerations that could only run dense ----

bad "radial on 8 tokens" x --attention radial
says "keeps all" "radial on 8 tokens"
bad "radial, all steps dense" x --attention radial --set attention.dense_timesteps=2
bad "svg2 on 8 tokens" x --attention svg2
says "one key cluster" "svg2 on 8 tokens"
bad "svg2, all steps dense" x --attention svg2 --set attention.num_k_centroids=4 --set attention.first_times_fp=1
bad "svg2, more clusters than tokens" x --attention svg2 --set attention.num_k_centroids=9
for setting in top_p_kmeans=0 top_p_kmeans=1.1 top_p_kmeans=nan first_times_fp=1.5 first_layers_fp=-0.1 num_q_centroids=-1 \
    kmeans_iter_step=0 min_kc_ratio=2; do
    bad "svg2 $setting" x --attention svg2 --set "attention.$setting"
done
for setting in decay=0 decay=-1 decay=nan block=32 dense_timesteps=3 dense_layers=99 distance_one=third; do
    bad "radial $setting" x --attention radial --set "attention.$setting"
done

# ---- presets ----

preset() { printf '%s' "$2" >"$tmp/preset.json"; bad "preset: $1" x --config "$tmp/preset.json"; }
preset "unknown key" '{"stepz": 3}'
says "steps" "preset suggestion"
preset "bad value" '{"steps": "many"}'
preset "not an object" '[1, 2]'
preset "cut short" '{"steps": 3'
preset "empty" ''
preset "text behind" '{"steps": 3} x'
preset "depth" "$(head -c 10000 /dev/zero | tr '\0' '[')"
bad "preset missing" x --config "$tmp/none.json"
bad "preset name" x --config no-such-preset

# ---- files of a job ----

bad "latents missing" x --latents "$tmp/none.safetensors"
# tensor file NAME DTYPE SHAPE OFFSETS BYTES
tensor_file() {
    header="{\"$2\":{\"dtype\":\"$3\",\"shape\":$4,\"data_offsets\":$5}}"
    # shellcheck disable=SC2059
    printf "\\$(printf %03o ${#header})\\0\\0\\0\\0\\0\\0\\0%s" "$header" >"$1"
    head -c "$6" /dev/zero >>"$1"
}
tensor_file "$tmp/latents.safetensors" latents F32 '[1,2,2,2]' '[0,32]' 32
bad "latents of another shape" x --latents "$tmp/latents.safetensors"
tensor_file "$tmp/latents.safetensors" other F32 '[1,2,2,2]' '[0,32]' 32
bad "latents under another name" x --latents "$tmp/latents.safetensors"
bad "state missing" x --resume "$tmp/none.state"
bad "state of another kind" x --resume "$tmp/latents.safetensors"

# ---- model folders ----

# A copy of the model in which a file or two will differ.
break_model() {
    rm -rf "$tmp/model"
    cp -r "$model" "$tmp/model"
    chmod -R u+w "$tmp/model"
}
bad_model() { bad "model: $1" x -m "$tmp/model"; }
vae=$tmp/model/vae/diffusion_pytorch_model.safetensors
dit=$tmp/model/transformer/diffusion_pytorch_model.safetensors
text=$tmp/model/text_encoder/model.safetensors

bad "model missing" x -m "$tmp/none"
bad "model is a file" x -m "$tmp/empty"
mkdir "$tmp/void"
bad "model is empty" x -m "$tmp/void"
for f in model_index.json transformer/config.json vae/config.json text_encoder/config.json scheduler/scheduler_config.json; do
    break_model
    rm "$tmp/model/$f"
    bad_model "$f missing"
    printf '{' >"$tmp/model/$f"
    bad_model "$f cut short"
    head -c 10000 /dev/zero | tr '\0' '[' >"$tmp/model/$f"
    bad_model "$f of depth 10,000"
done
break_model
sed 's/"num_layers": [0-9]*/"num_layers": 99/' "$model/transformer/config.json" >"$tmp/model/transformer/config.json"
bad_model "missing tensor"
says "blocks." "missing tensor"
sed 's/"num_layers": [0-9]*/"num_layers": 1/' "$model/transformer/config.json" >"$tmp/model/transformer/config.json"
bad_model "unknown tensor"
says "blocks." "unknown tensor"
sed 's/"ffn_dim": [0-9]*/"ffn_dim": 96/' "$model/transformer/config.json" >"$tmp/model/transformer/config.json"
bad_model "wrong shape"
says "ffn" "wrong shape"
for value in 0 -1 1e300 '"x"' null 4294967296; do
    sed "s/\"num_attention_heads\": [0-9]*/\"num_attention_heads\": $value/" "$model/transformer/config.json" \
        >"$tmp/model/transformer/config.json"
    [ "$value" = null ] || bad_model "heads $value"
done
for f in "$dit" "$vae" "$text"; do
    name=${f#"$tmp/model/"}
    break_model
    head -c 5000 "$model/$name" >"$f"
    bad_model "$name truncated in the header"
    head -c -100 "$model/$name" >"$f"
    bad_model "$name truncated at the end"
    : >"$f"
    bad_model "$name empty"
    printf '\377\377\377\377\377\377\377\177{}' >"$f"
    bad_model "$name header length past the end"
    tensor_file "$f" x F32 '[4]' '[0,16]' 16
    bad_model "$name with one unknown tensor"
    tensor_file "$f" x Q9 '[4]' '[0,16]' 16
    bad_model "$name unknown dtype"
    tensor_file "$f" x F32 '[4]' '[-16,0]' 16
    bad_model "$name negative offset"
    tensor_file "$f" x F32 '[4]' '[8,4]' 16
    bad_model "$name end before begin"
    tensor_file "$f" x F32 '[4]' '[0,64]' 16
    bad_model "$name offset past the end"
    tensor_file "$f" x F32 '[4]' '[0,8]' 16
    bad_model "$name shape against offsets"
    rm "$f"
    bad_model "$name missing"
done
header='{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"b":{"dtype":"F32","shape":[4],"data_offsets":[8,24]}}'
{ printf "\\$(printf %03o ${#header})\\0\\0\\0\\0\\0\\0\\0%s" "$header"; head -c 24 /dev/zero; } >"$vae"
bad_model "overlapping tensors"
break_model
rm "$dit"
printf '{"weight_map": {"proj_out.weight": "diffusion_pytorch_model-00001-of-00001.safetensors"}}' >"$dit.index.json"
bad_model "index names an absent shard"
cp "$model/transformer/diffusion_pytorch_model.safetensors" "$tmp/outside.safetensors"
printf '{"weight_map": {"proj_out.weight": "../../outside.safetensors"}}' >"$dit.index.json"
bad_model "index names a path outside"
printf '{"weight_map": {"proj_out.weight": "%s"}}' "$tmp/outside.safetensors" >"$dit.index.json"
bad_model "index names an absolute path"
# NaN (all bits set, in bf16 and f32 alike) for every weight: not all of them are used
for f in "$dit" "$vae" "$text"; do
    name=${f#"$tmp/model/"}
    break_model
    data=$(($(od -An -t u8 -N 8 "$f") + 8))
    { head -c "$data" "$f"; tail -c "+$((data + 1))" "$f" | tr '\000-\377' '\377'; } >"$tmp/nan"
    mv "$tmp/nan" "$f"
    bad_model "$name with NaN"
    says "NaN" "$name with NaN"
done
break_model
rm "$vae"
mkfifo "$vae"
bad_model "a pipe for weights"
says "not a regular file" "a pipe for weights"
break_model
head -c 1000 "$model/tokenizer/spiece.model" >"$tmp/model/tokenizer/spiece.model"
bad_model "tokenizer cut short"
rm "$tmp/model/tokenizer/spiece.model"
bad_model "tokenizer missing"

# ---- output ----

out=$tmp/no/such/folder/x.mp4
expect 2 "unwritable output" render x
out=$tmp/x.unknown
bad "unknown extension" x
mkdir "$tmp/folder.mp4"
out=$tmp/folder.mp4
expect 2 "output is a folder" render x
out=$tmp/x.mp4
bad "unwritable stats" x --stats "$tmp/no/stats.json"
bad "unwritable dump" x --dump "$tmp/no/dump.safetensors"
bad "unwritable state" x --save-state "$tmp/no/state"
bad "stats and video on one stream" x -o - --stats -
bad "stats into the video" x --stats "$out"
says "output" "stats into the video"
bad "dump into the video" x --dump "$out"
says "output" "dump into the video"
bad "stats into the dump" x --dump "$tmp/both" --stats "$tmp/both"
absent "$tmp/both"
bad "dump to standard output" x --dump -
out=$tmp/$(head -c 240 /dev/zero | tr '\0' a).mp4
expect 2 "a name too long" render x
says "244 bytes" "a name too long"
finish
