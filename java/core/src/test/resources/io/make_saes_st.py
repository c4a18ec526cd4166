"""Writes the SAEs of safetensors families in saes/, and in saes/expected_st.json what they encode and decode.

    pip install torch numpy safetensors ml_dtypes
    python make_saes_st.py

Files have the names, dtypes and configurations of the real thing. Expected numbers are computed in float64 by the equations of each
family as its own library runs them, one step after the other: nothing is folded here. Inputs are drawn so that no feature is near an
edge or a tie: the set of active features is beyond rounding.
"""
import json
from pathlib import Path

import ml_dtypes
import numpy as np
import torch
from safetensors.torch import save_file

HERE = Path(__file__).parent / "saes"
HERE.mkdir(exist_ok=True)
RNG = np.random.default_rng(21)
torch.manual_seed(21)
EXPECTED = {}
MARGIN = 1e-3
F32, BF16, F16, F64 = torch.float32, torch.bfloat16, torch.float16, torch.float64


def normal(*shape, scale=1.0, dtype=F32):
    return (scale * torch.randn(*shape, dtype=F64)).to(dtype)


def save(path, tensors, **config):
    """The weights, and configurations beside them by their names, where _ is a dot and __ the folder above."""
    path = HERE / path
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: t.contiguous() for name, t in tensors.items()}, path, metadata={"format": "pt"})
    for name, value in config.items():
        name = name.replace("__", "../").replace("_json", ".json").replace("_yaml", ".yaml").replace("wandb.", "wandb-config.")
        text = value if isinstance(value, str) else json.dumps(value, indent=1) + "\n"
        (path.parent / name).write_text(text)


# ---- activation functions: (values, distances of each feature from its edge)

def relu(p):
    return torch.relu(p), p.abs()


def jumprelu(theta):
    def act(p):
        return torch.where(p > theta, torch.relu(p), torch.zeros_like(p)), torch.minimum((p - theta).abs(), p.abs())
    return act


def topk(k, key=lambda p: p):
    """The k largest of each row by a key, as they are."""
    def act(p):
        scores, order = key(p).sort(dim=-1, descending=True)
        kept = torch.zeros_like(p).scatter(-1, order[:, :k], 1.0)
        return p * kept, torch.cat([scores[:, :k] - scores[:, k:k + 1], p.abs()], -1)
    return act


def relu_after(act):
    return lambda p: (torch.relu(act(p)[0]), act(p)[1])


def relu_before(act):
    def both(p):
        values, distance = act(torch.relu(p))
        return values, torch.cat([distance, p.abs()], -1)
    return both


def expect(name, d_in, forward, path=None, **info):
    """forward: rows x to (codes, x_hat, distances from edges)."""
    rows = []
    while len(rows) < 3:
        x = torch.from_numpy(np.round(RNG.normal(size=(1, d_in)) * 2 * 64) / 64)
        codes, x_hat, distance = forward(x)
        distance = distance[distance != 0]  # a fill-in of TopK that a ReLU made 0
        if distance.min() > MARGIN and (codes != 0).sum() > 1:
            rows.append((x, codes, x_hat))
    x, codes, x_hat = (torch.cat(parts).tolist() for parts in zip(*rows))
    assert any(v == 0 for row in codes for v in row), name
    EXPECTED[name] = dict(path=path or name, x=x, codes=codes, x_hat=x_hat, **info)


def wide(tensors):
    return {name: t.to(F64) for name, t in tensors.items()}


# ---- SAELens

def cfg6(architecture, d_in, d_sae, **more):
    cfg = dict(
        d_in=d_in, d_sae=d_sae, dtype="float32", device="cpu", apply_b_dec_to_input=False, normalize_activations="none",
        reshape_activations="none",
        metadata=dict(sae_lens_version="6.18.0", sae_lens_training_version="6.18.0", model_name="gpt2-small",
                      hook_name="blocks.4.hook_resid_pre", hook_head_index=None, context_size=128, prepend_bos=True),
        architecture=architecture)
    return cfg | more


def saelens_weights(d_in, d_sae, d_out=None, dtype=F32, **more):
    d_out = d_out or d_in
    return dict(W_enc=normal(d_in, d_sae, dtype=dtype), W_dec=normal(d_sae, d_out, scale=0.5, dtype=dtype), b_enc=normal(d_sae, scale=0.3),
                b_dec=normal(d_out, scale=0.3), **more)


def saelens_forward(t, act, apply_b_dec=False, norm="none", s=1.0, rescale=False):
    """What SAELens runs, the factor s folded into its parameters before."""
    t = wide(t)
    w_enc, w_dec, b_dec = t["W_enc"] * s, t["W_dec"] / s, t["b_dec"] / s

    def forward(x):
        mean, scale, back = 0.0, 1.0, 1.0
        if norm == "layer_norm":
            mean = x.mean(-1, keepdim=True)
            back = (x - mean).std(-1, keepdim=True)  # n - 1
            scale = 1 / (back + 1e-5)
        if norm == "constant_norm_rescale":
            scale = x.shape[-1] ** 0.5 / x.norm(dim=-1, keepdim=True)
            back = 1 / scale
        x_in = (x - mean) * scale - (b_dec if apply_b_dec else 0)
        if "b_gate" in t:
            gate = x_in @ w_enc + t["b_gate"]
            magnitude = x_in @ (w_enc * t["r_mag"].exp()) + t["b_mag"]
            f = (gate > 0) * torch.relu(magnitude)
            distance = torch.minimum(gate.abs(), magnitude.abs())
        else:
            p = x_in @ w_enc + t["b_enc"]
            f, distance = act(p * w_dec.norm(dim=-1) if rescale else p)
        out = (f / w_dec.norm(dim=-1) if rescale else f) @ w_dec + b_dec
        out = out * back + mean
        if "W_skip" in t:
            out = out + x @ t["W_skip"].T
        return f, out, distance
    return forward


def saelens(name, t, cfg, forward, weights="sae_weights.safetensors", **info):
    save(f"{name}/{weights}", t, cfg_json=cfg)
    info = dict(format="saelens", architecture=cfg.get("architecture", "standard"), model="gpt2-small", hook="blocks.4.hook_resid_pre", dtype="float32") | info
    expect(name, cfg["d_in"], forward, **info)


def make_saelens():
    t = saelens_weights(6, 13)
    saelens("saelens-standard", t, cfg6("standard", 6, 13, apply_b_dec_to_input=True), saelens_forward(t, relu, apply_b_dec=True), l0=3.25)
    frequencies = torch.full((13,), 0.25)
    save_file({"sparsity": torch.log10(frequencies)}, HERE / "saelens-standard/sparsity.safetensors")

    t = saelens_weights(6, 13, threshold=normal(13, scale=0.8))  # some below 0
    saelens("saelens-jumprelu", t, cfg6("jumprelu", 6, 13, dtype="bfloat16", apply_b_dec_to_input=True),
            saelens_forward(t, jumprelu(wide(t)["threshold"]), apply_b_dec=True))

    t = saelens_weights(6, 13)
    saelens("saelens-topk", t, cfg6("topk", 6, 13, k=4, apply_b_dec_to_input=True), saelens_forward(t, relu_after(topk(4)), apply_b_dec=True))
    t = saelens_weights(6, 13)
    t["W_dec"] *= torch.exp(normal(13, 1))  # norms that change which features are the largest
    saelens("saelens-topk-rescaled", t, cfg6("topk", 6, 13, k=4, rescale_acts_by_decoder_norm=True),
            saelens_forward(t, relu_after(topk(4)), rescale=True))

    t = saelens_weights(5, 12, threshold=torch.full((12,), 1.25))
    saelens("saelens-batchtopk", t, cfg6("batchtopk", 5, 12, k=3, apply_b_dec_to_input=True),
            saelens_forward(t, jumprelu(1.25), apply_b_dec=True))
    t = saelens_weights(5, 12, threshold=torch.full((12,), 0.75))
    saelens("saelens-matryoshka", t, cfg6("jumprelu", 5, 12, apply_b_dec_to_input=True), saelens_forward(t, jumprelu(0.75), apply_b_dec=True))

    for name, more, b_dec, s in [("gated", {}, True, 1.0), ("gated-average", dict(normalize_activations="expected_average_only_in"), True, 0.375)]:
        t = saelens_weights(6, 14, b_gate=normal(14, scale=0.3), b_mag=normal(14, scale=0.3), r_mag=normal(14, scale=0.4))
        del t["b_enc"]
        saelens("saelens-" + name, t, cfg6("gated", 6, 14, apply_b_dec_to_input=b_dec, **more), saelens_forward(t, None, apply_b_dec=b_dec, s=s))
    (HERE / "saelens-gated-average/activation_scaler.json").write_text('{"scaling_factor": 0.375}\n')

    for name in ["transcoder", "skip_transcoder", "jumprelu_transcoder", "jumprelu_skip_transcoder"]:
        t = saelens_weights(6, 13, d_out=8)
        act = relu
        if "skip" in name:
            t["W_skip"] = normal(8, 6, scale=0.5)
        if "jump" in name:
            t["threshold"] = normal(13).abs()
            act = jumprelu(wide(t)["threshold"])
        saelens("saelens-" + name.replace("_", "-"), t, cfg6(name, 6, 13, d_out=8), saelens_forward(t, act))

    # the factor of the input is in no tensor, and bends neither b_enc nor threshold
    t = saelens_weights(6, 13, threshold=normal(13).abs())
    saelens("saelens-average", t, cfg6("jumprelu", 6, 13, apply_b_dec_to_input=True, normalize_activations="expected_average_only_in"),
            saelens_forward(t, jumprelu(wide(t)["threshold"]), apply_b_dec=True, s=0.2138))
    (HERE / "saelens-average/activation_scaler.json").write_text('{"scaling_factor": 0.2138}\n')
    for norm in ["layer_norm", "constant_norm_rescale"]:
        t = saelens_weights(7, 13)
        saelens("saelens-" + norm.replace("_", "-"), t, cfg6("topk", 7, 13, k=4, apply_b_dec_to_input=True, normalize_activations=norm),
                saelens_forward(t, relu_after(topk(4)), apply_b_dec=True, norm=norm))

    t = saelens_weights(6, 13)
    cfg = cfg6("standard", 6, 13, reshape_activations="hook_z")
    cfg["metadata"]["hook_name"] = "blocks.4.attn.hook_z"
    saelens("saelens-hook-z", t, cfg, saelens_forward(t, relu), hook="blocks.4.attn.hook_z")

    # before version 6: flat, no architecture
    old = dict(model_name="gpt2-small", hook_point="blocks.4.hook_resid_pre", hook_point_layer=4, hook_point_head_index=None, d_in=6, d_sae=13,
               dtype="torch.float32", device="cuda", l1_coefficient=8e-5, expansion_factor=32)
    t = saelens_weights(6, 13)
    saelens("saelens-old-topk", t, old | dict(activation_fn_str="topk", activation_fn_kwargs=dict(k=3), normalize_activations=False),
            saelens_forward(t, relu_after(topk(3)), apply_b_dec=True), architecture="topk")
    t = saelens_weights(6, 13)
    saelens("saelens-old-average", t, old | dict(activation_fn_str="relu", activation_fn_kwargs={}, normalize_activations=True),
            saelens_forward(t, relu, apply_b_dec=True, s=0.5), architecture="standard")
    (HERE / "saelens-old-average/activation_scaler.json").write_text('{"scaling_factor": 0.5}\n')
    t = saelens_weights(6, 13, scaling_factor=normal(13, scale=0.3) + 1)
    scaled = {**t, "W_dec": wide(t)["W_dec"] * wide(t)["scaling_factor"][:, None]}  # decode alone knows it
    saelens("saelens-old-finetuned", t, old | dict(sae_lens_version="5.3.0", finetuning_scaling_factor=True),
            saelens_forward(scaled, relu, apply_b_dec=True), architecture="standard")
    t = saelens_weights(6, 13, d_out=8)
    saelens("saelens-old-transcoder", t, old | dict(is_transcoder=True, d_out=8), saelens_forward(t, relu), architecture="transcoder")

    # containers and dtypes
    t = saelens_weights(6, 13, threshold=normal(13).abs())
    cfg = cfg6("jumprelu", 6, 13)
    saelens("saelens-model-file", t, cfg, saelens_forward(t, jumprelu(wide(t)["threshold"])), weights="model.safetensors")
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    weight_map = {name: names[name.startswith("b_") or name == "W_dec"] for name in t}
    for name in names:
        save("saelens-sharded/" + name, {key: t[key] for key in t if weight_map[key] == name}, cfg_json=cfg)
    size = sum(tensor.nbytes for tensor in t.values())
    (HERE / "saelens-sharded/model.safetensors.index.json").write_text(
        json.dumps(dict(metadata=dict(total_size=size), weight_map=weight_map), indent=1) + "\n")
    expect("saelens-sharded", 6, saelens_forward(t, jumprelu(wide(t)["threshold"])), format="saelens", architecture="jumprelu",
           model="gpt2-small", hook="blocks.4.hook_resid_pre", dtype="float32")
    t = saelens_weights(6, 13)
    t["W_enc"], t["W_dec"] = t["W_enc"].to(torch.float8_e4m3fn), t["W_dec"].to(torch.float8_e5m2)
    saelens("saelens-float8", t, cfg6("standard", 6, 13), saelens_forward(t, relu), dtype="W_enc float8_e4m3fn, W_dec float8_e5m2")


# ---- sparsify

def make_sparsify():
    def case(name, cfg, d, n, dtype=F32, architecture="topk", **info):
        t = {"encoder.weight": normal(n, d, dtype=dtype), "encoder.bias": normal(n, scale=0.3, dtype=dtype),
             "W_dec": normal(n, d, scale=0.5, dtype=dtype), "b_dec": normal(d, scale=0.5, dtype=dtype)}
        if cfg.get("skip_connection"):
            t["W_skip"] = normal(d, d, scale=0.5, dtype=dtype)
        save(name + "/sae.safetensors", t, cfg_json=cfg, __config_json=dict(model="EleutherAI/pythia-160m", dataset="a", ctx_len=2048))
        t = wide(t)
        act = topk(cfg["k"], key=torch.abs) if cfg.get("signed") else relu_before(topk(cfg["k"]))

        def forward(x):
            p = (x if cfg.get("transcode") else x - t["b_dec"]) @ t["encoder.weight"].T + t["encoder.bias"]
            f, distance = act(p)
            out = f @ t["W_dec"] + t["b_dec"]
            return f, out + x @ t["W_skip"].T if "W_skip" in t else out, distance
        expect(name.split("/")[0], d, forward, path=name, format="sparsify", architecture=architecture, model="EleutherAI/pythia-160m",
               hook=name.split("/")[1], dtype=str(dtype).split(".")[1], **info)

    new = dict(activation="topk", expansion_factor=2, normalize_decoder=True, num_latents=0, k=4, multi_topk=False, skip_connection=False,
               transcode=False)
    case("sparsify-topk/layers.5.mlp", new | dict(d_in=6), 6, 12)
    case("sparsify-bf16/layers.11", new | dict(num_latents=13, normalize_decoder=False, d_in=6), 6, 13, dtype=BF16)
    case("sparsify-square/gpt_neox.layers.3", new | dict(expansion_factor=1, k=3, d_in=7), 7, 7)
    case("sparsify-few/layers.2", new | dict(k=11, d_in=6), 6, 12)  # fewer than k above 0
    case("sparsify-transcoder/layers.0.mlp", new | dict(transcode=True, d_in=6), 6, 12, architecture="transcoder")
    case("sparsify-skip/layers.1.mlp", new | dict(transcode=True, skip_connection=True, d_in=6), 6, 12, architecture="skip_transcoder")
    old = dict(expansion_factor=2, normalize_decoder=True, num_latents=0, k=4)
    case("sparsify-signed/layer_3", old | dict(signed=True, d_in=6), 6, 12)
    case("sparsify-old/layer_7", old | dict(signed=False, d_in=6), 6, 12)


# ---- Llama Scope and what came after it

def make_llama_scope():
    def weights(d, n, dtype):
        return {"encoder.weight": normal(n, d, dtype=dtype), "encoder.bias": normal(n, scale=0.5, dtype=dtype),
                "decoder.weight": normal(d, n, scale=0.5, dtype=dtype), "decoder.bias": normal(d, scale=0.5, dtype=dtype)}

    def hyper(d, n, **more):
        return dict(
            device="cuda:0", seed=42, dtype="torch.bfloat16", hook_point_in="blocks.13.hook_resid_post",
            hook_point_out="blocks.13.hook_resid_post", use_decoder_bias=True, apply_decoder_bias_to_pre_encoder=False, expansion_factor=2,
            d_model=d, d_sae=n, bias_init_method="all_zero", act_fn="jumprelu", jump_relu_threshold=0.29296875, norm_activation="dataset-wise",
            dataset_average_activation_norm={"in": 8.8125, "out": 8.8125}, decoder_exactly_fixed_norm=False,
            sparsity_include_decoder_norm=True, use_glu_encoder=False, init_decoder_norm=0.5, lp=1, l1_coefficient=8e-05, top_k=50) | more

    def load(t, cfg):
        """lm_saes: standardise, then unit decoder norms."""
        t = wide(t)
        w_enc, b_enc, w_dec, b_dec = t["encoder.weight"], t["encoder.bias"], t["decoder.weight"], t["decoder.bias"]
        if cfg["norm_activation"] == "dataset-wise":
            s_in, s_out = (cfg["d_model"] ** 0.5 / cfg["dataset_average_activation_norm"][side] for side in ("in", "out"))
            b_enc, b_dec, w_dec = b_enc / s_in, b_dec / s_out, w_dec * s_in / s_out
        if cfg["sparsity_include_decoder_norm"]:
            n = w_dec.norm(dim=0)
            w_enc, b_enc, w_dec = w_enc * n[:, None], b_enc * n, w_dec / n
        return w_enc, b_enc, w_dec, b_dec

    def case(name, cfg, act, architecture, dtype=BF16, **info):
        d, n = cfg["d_model"], cfg["d_sae"]
        t = weights(d, n, dtype)
        save(name + "/checkpoints/final.safetensors", t, __hyperparams_json=cfg)
        w_enc, b_enc, w_dec, b_dec = load(t, cfg)

        def forward(x):
            f, distance = act(((x - b_dec) if cfg["apply_decoder_bias_to_pre_encoder"] else x) @ w_enc.T + b_enc)
            return f, f @ w_dec.T + b_dec, distance
        expect(name, d, forward, format="llama-scope", architecture=architecture, model=None, hook=cfg["hook_point_in"],
               dtype=str(dtype).split(".")[1], **info)

    case("llama-scope-lxr", hyper(6, 12), jumprelu(0.29296875), "jumprelu")
    case("llama-scope-subtracts", hyper(6, 12, apply_decoder_bias_to_pre_encoder=True), jumprelu(0.29296875), "jumprelu")
    case("llama-scope-free-norm", hyper(6, 12, sparsity_include_decoder_norm=False), jumprelu(0.29296875), "jumprelu")
    case("llama-scope-ltc", hyper(6, 12, hook_point_in="blocks.13.ln2.hook_normalized", hook_point_out="blocks.13.hook_mlp_out",
                                  dataset_average_activation_norm={"in": 5.5, "out": 1.75}), jumprelu(0.29296875), "jumprelu_transcoder")
    case("llama-scope-topk", hyper(6, 12, act_fn="topk", top_k=4), relu_before(topk(4)), "topk", dtype=F32)
    case("llama-scope-inference", hyper(6, 12, norm_activation="inference", act_fn="relu"), relu, "standard", dtype=F32)

    # newer: trained, and here run, on scaled activations; features and x_hat are brought into raw units after that
    def new(name, cfg, tensors, act, norms, architecture, **info):
        d, n = cfg["d_model"], int(cfg["d_model"] * cfg["expansion_factor"])
        t = weights(d, n, F32)
        w = {key: value.to(F64) for key, value in t.items()}
        s_in, s_out = (d ** 0.5 / norm for norm in norms)
        theta = normal(n, scale=0.5)
        if tensors == "new":
            t = dict(W_E=t["encoder.weight"].T, b_E=t["encoder.bias"], W_D=t["decoder.weight"].T, b_D=t["decoder.bias"])
        if cfg["act_fn"] == "jumprelu":
            t[("activation_function." if tensors == "new" else "") + "log_jumprelu_threshold"] = theta
            act = jumprelu(theta.to(F64).exp())
        if cfg["norm_activation"] == "dataset-wise":
            for side, norm in zip(("in", "out"), norms):
                t["dataset_average_activation_norm." + cfg["hook_point_" + side]] = torch.tensor(norm)
        save(name + "/sae_weights.safetensors", t, config_json=cfg)
        row_norm = w["decoder.weight"].norm(dim=0) if cfg["sparsity_include_decoder_norm"] else torch.ones(n, dtype=F64)

        def forward(x):
            p = (s_in * x) @ w["encoder.weight"].T + w["encoder.bias"]
            gated, distance = act(p * row_norm)
            x_hat = (gated / row_norm @ w["decoder.weight"].T + w["decoder.bias"]) / s_out
            return gated / (s_out if cfg["sparsity_include_decoder_norm"] else s_in), x_hat, distance
        expect(name, d, forward, format="llamascopium", architecture=architecture, model=None, hook=cfg["hook_point_in"], dtype="float32", **info)

    cfg = dict(device="cuda", dtype="torch.float32", sae_type="sae", d_model=6, expansion_factor=2, use_decoder_bias=True, act_fn="jumprelu",
               norm_activation="dataset-wise", sparsity_include_decoder_norm=True, top_k=50, hook_point_in="blocks.15.hook_resid_post",
               hook_point_out="blocks.15.hook_resid_post", use_glu_encoder=False)
    new("llamascopium-r1", cfg, "old", None, (4.5, 4.5), "jumprelu")
    new("llamascopium-sae", cfg | dict(act_fn="topk", top_k=4), "new", relu_before(topk(4)), (4.5, 4.5), "topk")
    new("llamascopium-jumprelu", cfg | dict(sparsity_include_decoder_norm=False), "new", None, (1.25, 1.25), "jumprelu")
    new("llamascopium-transcoder", cfg | dict(hook_point_in="blocks.15.ln2.hook_normalized", hook_point_out="blocks.15.hook_mlp_out"), "new",
        None, (4.5, 1.5), "jumprelu_transcoder")
    new("llamascopium-inference", cfg | dict(norm_activation="inference", act_fn="relu"), "new", relu, (6 ** 0.5, 6 ** 0.5), "standard")


# ---- Gemma Scope 2, and transcoders of circuit-tracer

def make_others():
    for name, n, skip in [("sae", 13, False), ("transcoder", 13, True), ("square", 6, False)]:
        kind = "transcoder" if skip else "sae"
        t = dict(w_enc=normal(6, n), w_dec=normal(n, 6, scale=0.5), b_enc=normal(n, scale=0.3), b_dec=normal(6, scale=0.3),
                 threshold=normal(n).abs())
        if skip:
            t["affine_skip_connection"] = normal(6, 6, scale=0.5)
        hook_in = "model.layers.12.pre_feedforward_layernorm.output" if skip else "model.layers.12.output"
        hook_out = "model.layers.12.post_feedforward_layernorm.output" if skip else hook_in
        folder = f"gemma-scope-2-{name}/layer_12_width_16k_l0_medium"
        save(folder + "/params.safetensors", t, config_json=dict(
            hf_hook_point_in=hook_in, hf_hook_point_out=hook_out, width=n, model_name="google/gemma-3-1b-pt", architecture="jump_relu",
            l0=60, affine_connection=skip, type=kind))
        w = wide(t)

        def forward(x):
            f, distance = jumprelu(w["threshold"])(x @ w["w_enc"] + w["b_enc"])
            out = f @ w["w_dec"] + w["b_dec"]
            return f, out + x @ w["affine_skip_connection"] if skip else out, distance
        expect("gemma-scope-2-" + name, 6, forward, path=folder, format="gemma-scope-2", model="google/gemma-3-1b-pt", hook=hook_in,
               architecture="jumprelu_skip_transcoder" if skip else "jumprelu", dtype="float32", l0=60)

    t = dict(W_enc=normal(13, 6, dtype=BF16), W_dec=normal(13, 6, dtype=BF16), b_enc=normal(13, dtype=BF16), b_dec=normal(6, dtype=BF16))
    save("mwhanna/layer_0.safetensors", t, config_yaml="model_name: Qwen/Qwen3-4B\nmodel_kind: transcoder_set\nscan: null\n")
    w = wide(t)

    def forward(x):
        f, distance = relu(x @ w["W_enc"].T + w["b_enc"])
        return f, f @ w["W_dec"] + w["b_dec"], distance
    expect("mwhanna", 6, forward, format="mwhanna", architecture="transcoder", model="Qwen/Qwen3-4B", hook=None, dtype="bfloat16")


def make_circuit_tracer():
    wandb = "wandb_version: 1\n_wandb:\n  desc: null\n  value:\n    cli: 0.1\nactivation:\n  desc: null\n  value: topk\nk:\n  desc: null\n  value: 4\n"
    flat = """# of a set
model_name: "a/model"   # of this
model_kind: transcoder_set
feature_input_hook: mlp.hook_in
feature_output_hook: 'mlp.hook_out'
activation: jump_relu
transcoders:
- id: a-0
  layer: 0
  filepath: "hf://a/layer_0.safetensors"
- id: a-1
  layer: 1
notes: |
  k: 3, says a text
"""
    for case, act, threshold, config, info in [
            ("jumprelu-skip", jumprelu, "activation_function.threshold", flat,
             dict(architecture="jumprelu_skip_transcoder", model="a/model", hook="blocks.7.mlp.hook_in")),
            ("topk-skip", None, None, wandb, dict(architecture="skip_transcoder", model=None, hook=None))]:
        t = dict(W_enc=normal(13, 6), W_dec=normal(13, 6), b_enc=normal(13), b_dec=normal(6), W_skip=normal(6, 6, scale=0.5))
        if threshold:
            t[threshold] = normal(13).abs()
        else:
            t["b_enc"] -= 3  # so that negative ones are kept in some rows
        name = {"wandb_yaml" if config is wandb else "config_yaml": config}
        save(f"mwhanna-{case}/layer_7.safetensors", t, **name)
        w = wide(t)
        activation = act(w[threshold]) if act else topk(4)

        def forward(x):
            f, distance = activation(x @ w["W_enc"].T + w["b_enc"])
            return f, f @ w["W_dec"] + w["b_dec"] + x @ w["W_skip"].T, distance
        expect(f"mwhanna-{case}", 6, forward, format="mwhanna", dtype="float32", **info)


def make_float8():
    """Each byte as float8; NaN as null."""
    codes = np.arange(256, dtype=np.uint8)
    for name, dtype, own in [("e4m3", torch.float8_e4m3fn, ml_dtypes.float8_e4m3fn), ("e5m2", torch.float8_e5m2, ml_dtypes.float8_e5m2)]:
        t = torch.from_numpy(codes.copy()).view(dtype)
        save_file({"x": t}, HERE / f"float8_{name}.safetensors")
        torch.save({"x": t, "view": t.view(16, 16).T[1:3]}, HERE / f"float8_{name}.pt")
        values = t.to(F32).numpy()
        assert np.array_equal(values, codes.view(own).astype(np.float32), equal_nan=True)
        EXPECTED["float8_" + name] = [None if np.isnan(v) else int(v.view(np.int32)) for v in values]


make_saelens()
make_sparsify()
make_llama_scope()
make_others()
make_float8()
make_circuit_tracer()
(HERE / "expected_st.json").write_text(json.dumps(EXPECTED, separators=(",", ":")) + "\n")
