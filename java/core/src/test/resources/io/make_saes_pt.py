"""Writes SAEs as torch's libraries do, in saes/, and in saes/expected_pt.json what they make of a few rows, in float64.

Each family's encode and decode are written here from its own equations, with nothing folded.

    pip install torch numpy
    python make_saes_pt.py
"""
import json
from pathlib import Path

import numpy as np
import torch
from torch import nn

SAES = Path(__file__).parent / "saes"
torch.manual_seed(20)
RNG = np.random.default_rng(20)
EXPECTED = {}
ROWS = 6
relu = lambda p: np.maximum(p, 0)


def module(linear={}, parameters={}, buffers={}):
    """A module of this state dict. linear: name to (in, out, has a bias)."""
    m = nn.Module()
    for name, (d_in, d_out, bias) in linear.items():
        setattr(m, name, nn.Linear(d_in, d_out, bias=bias))
    for name, value in parameters.items():
        setattr(m, name, nn.Parameter(value))
    for name, value in buffers.items():
        m.register_buffer(name, value)
    for p in m.parameters():
        p.data.copy_(torch.randn(p.shape) * 0.7)
    return m


def save(path, value):
    path = SAES / path
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(value, path)


def config(path, value):
    path = SAES / path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1) + "\n")


def f64(state):
    return {k: v.detach().to(torch.float64).numpy() for k, v in state.items() if isinstance(v, torch.Tensor)}


def expect(case, encode, decode, d_in, path=None, options={}, **info):
    """Rows on which no feature is near an edge, their codes, and the decode of these."""
    rows = []
    while len(rows) < ROWS:
        x = RNG.normal(size=d_in).astype(np.float32).astype(np.float64) * 1.5
        near = [x + 1e-5 * RNG.normal(size=d_in) for _ in range(20)]
        if all(np.array_equal(encode(x) != 0, encode(other) != 0) for other in near):
            rows.append(x)
    codes = [encode(x) for x in rows]
    assert any(np.any(c != 0) for c in codes) and any(np.any(c == 0) for c in codes), case
    if info.get("selection") == "TOP":  # the ReLU after it must matter
        assert any(np.count_nonzero(c) < info["k"] for c in codes), case
    if info.get("selection") == "TOP_SIGNED":  # and here that there is none
        assert any(np.any(c < 0) for c in codes), case
    EXPECTED[case] = dict(
        path=path or case, options=options, x=[x.tolist() for x in rows], codes=[c.tolist() for c in codes],
        x_hat=[np.asarray(decode(c, x)).tolist() for c, x in zip(codes, rows)], **info)


def top(p, k, signed=False):
    kept = np.zeros_like(p)
    order = np.argsort(-p, kind="stable")[:k]
    kept[order] = p[order]
    return kept if signed else relu(kept)


# ---- dictionary_learning

def trainer(dict_class, d, n, **more):
    return dict(trainer=dict(
        trainer_class="ATrainer", dict_class=dict_class, lr=1e-4, steps=1000, activation_dim=d, dict_size=n, device="cpu",
        layer=3, lm_name="a-model", wandb_name=dict_class, submodule_name="resid_post_layer_3", **more),
        buffer=dict(d_submodule=d, io="out", n_ctxs=100))


def dl_info(architecture, **more):
    return dict(dict(format="dictionary-learning", architecture=architecture, dtype="float32", model="a-model",
                     hook="resid_post_layer_3", warnings=[]), **more)


def dl_relu(case, d, n):
    state = module(dict(encoder=(d, n, True), decoder=(n, d, False)), dict(bias=torch.empty(d))).state_dict()
    save(case + "/ae.pt", state)
    w = f64(state)
    encode = lambda x: relu(w["encoder.weight"] @ (x - w["bias"]) + w["encoder.bias"])
    decode = lambda f, x: w["decoder.weight"] @ f + w["bias"]
    return state, encode, decode


def make_dictionary_learning():
    d, n = 7, 13
    _, encode, decode = dl_relu("dl-relu", d, n)
    config("dl-relu/config.json", trainer("AutoEncoder", d, n))
    expect("dl-relu", encode, decode, d, folded=1, **dl_info("standard"))

    _, encode, decode = dl_relu("dl-relu-square", d, d)
    config("dl-relu-square/config.json", trainer("AutoEncoder", d, d))
    expect("dl-relu-square", encode, decode, d, folded=1, **dl_info("standard"))

    _, encode, decode = dl_relu("dl-relu-alone", d, n)  # no config.json
    expect("dl-relu-alone", encode, decode, d, folded=1,
           **dl_info("standard", model=None, hook=None, warnings=["taken as AutoEncoder"]))

    state, encode, decode = dl_relu("dl-training", d, n)  # a training's checkpoint, its configuration in the folder above
    (SAES / "dl-training/ae.pt").unlink()
    optimizer = torch.optim.Adam([nn.Parameter(torch.ones(2))])
    optimizer.param_groups[0]["params"][0].grad = torch.ones(2)
    optimizer.step()
    save("dl-training/checkpoints/ae_5.pt", dict(step=5, ae=state, optimizer=optimizer.state_dict()))
    config("dl-training/config.json", trainer("AutoEncoder", d, n))
    expect("dl-training", encode, decode, d, path="dl-training/checkpoints", folded=1,
           **dl_info("standard", warnings=["checkpoint of a training"]))

    state = module(dict(encoder=(d, n, True), decoder=(n, d, True))).state_dict()
    save("dl-new/ae.pt", state)
    config("dl-new/config.json", trainer("AutoEncoderNew", d, n))
    w_new = f64(state)
    expect("dl-new", lambda x: relu(w_new["encoder.weight"] @ x + w_new["encoder.bias"]),
           lambda f, x: w_new["decoder.weight"] @ f + w_new["decoder.bias"], d, folded=0, **dl_info("standard"))

    state = module(dict(encoder=(d, n, False), decoder=(n, d, False)), dict(
        decoder_bias=torch.empty(d), r_mag=torch.empty(n), gate_bias=torch.empty(n), mag_bias=torch.empty(n))).state_dict()
    save("dl-gated/ae.pt", state)
    config("dl-gated/config.json", trainer("GatedAutoEncoder", d, n))
    g = f64(state)

    def encode_gated(x):
        pi = g["encoder.weight"] @ (x - g["decoder_bias"])
        return (pi + g["gate_bias"] > 0) * relu(np.exp(g["r_mag"]) * pi + g["mag_bias"])

    expect("dl-gated", encode_gated, lambda f, x: g["decoder.weight"] @ f + g["decoder_bias"], d, folded=2, **dl_info("gated"))

    j = module(parameters=dict(W_enc=torch.empty(d, n), b_enc=torch.empty(n), W_dec=torch.empty(n, d), b_dec=torch.empty(d),
                               threshold=torch.empty(n)))
    j.threshold.data *= 4  # some are negative
    save("dl-jumprelu/ae.pt", j.state_dict())
    config("dl-jumprelu/config.json", trainer("JumpReluAutoEncoder", d, n))
    wj = f64(j.state_dict())

    def encode_jump(x):
        p = x @ wj["W_enc"] + wj["b_enc"]
        return relu(p * (p > wj["threshold"]))

    expect("dl-jumprelu", encode_jump, lambda f, x: f @ wj["W_dec"] + wj["b_dec"], d, folded=1, **dl_info("jumprelu"))

    make_top_k(d, n)
    make_mixed(d, n)
    make_matryoshka(d, 15)


def make_top_k(d, n):
    for case, dict_class, k, threshold, old in [
            ("dl-topk", "AutoEncoderTopK", 4, 0.9, False), ("dl-topk-old", "AutoEncoderTopK", 4, None, True),
            ("dl-batchtopk", "BatchTopKSAE", 4, 0.9, False), ("dl-batchtopk-unset", "BatchTopKSAE", 4, -1.0, False)]:
        buffers = {} if old else dict(k=torch.tensor(k, dtype=torch.int), threshold=torch.tensor(threshold))
        m = module(dict(encoder=(d, n, True), decoder=(n, d, False)), dict(b_dec=torch.empty(d)), buffers)
        m.encoder.weight.data = m.decoder.weight.data.T.clone()  # a clone keeps the strides: saved transposed
        m.encoder.bias.data -= 2  # so that fewer than k are positive in some rows
        save(case + "/ae.pt", {name: value.cpu() for name, value in m.state_dict().items()})
        config(case + "/config.json", trainer(dict_class, d, n, k=k))
        w = f64(m.state_dict())
        p = lambda x, w=w: relu(w["encoder.weight"] @ (x - w["b_dec"]) + w["encoder.bias"])
        decode = lambda f, x, w=w: w["decoder.weight"] @ f + w["b_dec"]
        if dict_class == "AutoEncoderTopK":  # its threshold is used only on demand
            expect(case, lambda x, p=p, k=k: top(p(x), k), decode, d, k=k, selection="TOP", folded=1, **dl_info("topk"))
        else:
            expect(case, lambda x, p=p, t=threshold: p(x) * (p(x) > t), decode, d, folded=2,
                   **dl_info("batchtopk", warnings=["never set"] if threshold < 0 else []))


def make_mixed(d, n):
    """Weights in bfloat16, and a threshold that bfloat16 can't hold."""
    m = module(dict(encoder=(d, n, True), decoder=(n, d, False)), dict(b_dec=torch.empty(d))).to(torch.bfloat16)
    state = {**m.state_dict(), "k": torch.tensor(4, dtype=torch.int), "threshold": torch.tensor(0.7001)}
    save("dl-mixed/ae.pt", state)
    config("dl-mixed/config.json", trainer("BatchTopKSAE", d, n, k=4))
    w = f64(state)

    def encode(x):
        p = relu(w["encoder.weight"] @ (x - w["b_dec"]) + w["encoder.bias"])
        return p * (p > w["threshold"])

    expect("dl-mixed", encode, lambda f, x: w["decoder.weight"] @ f + w["b_dec"], d, folded=2, **dl_info("batchtopk", dtype="bfloat16"))


def make_matryoshka(d, n):
    m = module(parameters=dict(W_enc=torch.empty(d, n), b_enc=torch.empty(n), W_dec=torch.empty(n, d), b_dec=torch.empty(d)),
               buffers=dict(k=torch.tensor(4, dtype=torch.int), threshold=torch.tensor(0.6), group_sizes=torch.tensor([4, 5, 6])))
    m.W_enc.data = m.W_dec.data.clone().T
    save("dl-matryoshka/ae.pt", m.state_dict())
    config("dl-matryoshka/config.json", trainer("MatryoshkaBatchTopKSAE", d, n, k=4, group_sizes=[4, 5, 6]))
    w = f64(m.state_dict())

    def encode(x, active):
        p = relu((x - w["b_dec"]) @ w["W_enc"] + w["b_enc"])
        f = p * (p > w["threshold"])
        f[active:] = 0
        return f

    decode = lambda f, x: f @ w["W_dec"] + w["b_dec"]
    expect("dl-matryoshka", lambda x: encode(x, n), decode, d, folded=2, **dl_info("matryoshka_batchtopk"))
    expect("dl-matryoshka-prefix", lambda x: encode(x, 9), decode, d, path="dl-matryoshka", options=dict(prefix=9), folded=3,
           **dl_info("matryoshka_batchtopk"))
    expect("dl-matryoshka-within", lambda x: encode(x, 10), decode, d, path="dl-matryoshka", options=dict(prefix=10), folded=3,
           **dl_info("matryoshka_batchtopk", warnings=["not where a group ends"]))


# ---- OpenAI

def make_openai():
    d, n, k = 8, 16, 5
    for case, activation, last in [("openai-relu", "ReLU", None), ("openai-topk", "TopK", "ReLU"), ("openai-identity", "TopK", "Identity")]:
        state = module(
            dict(encoder=(d, n, False), decoder=(n, d, False)), dict(pre_bias=torch.empty(d), latent_bias=torch.empty(n)),
            dict(stats_last_nonzero=torch.zeros(n, dtype=torch.long), latents_activation_frequency=torch.ones(n),
                 latents_mean_square=torch.zeros(n))).state_dict()
        state["activation"] = activation
        state["activation_state_dict"] = nn.ReLU().state_dict()
        if last:
            state["latent_bias"] -= 1.5  # so that fewer than k are positive in some rows
            state["activation_state_dict"].update(k=k, postact_fn=last)
        save(case + "/4.pt", state)
        w = f64(state)

        def moments(x):
            return (x.mean(), x.std(ddof=1)) if last else (0, 1)

        def encode(x, w=w):
            mu, std = moments(x)
            z = (x - mu) / (std + 1e-5) if last else x
            p = w["encoder.weight"] @ (z - w["pre_bias"]) + w["latent_bias"]
            return top(p, k, signed=last == "Identity") if last else relu(p)

        def decode(f, x, w=w):
            mu, std = moments(x)
            return (w["decoder.weight"] @ f + w["pre_bias"]) * std + mu

        expect(case, encode, decode, d, path=case + "/4.pt", format="openai", architecture="topk" if last else "standard",
               dtype="float32", model=None, hook=None, warnings=[], folded=2 if last else 1,
               **(dict(k=k, selection="TOP" if last == "ReLU" else "TOP_SIGNED", normalization="LAYER") if last else {}))


# ---- four tensors

def make_linear():
    for case, file, d, n, names in [
            ("goodfire", "Toy-SAE-l19.pth", 6, 12, ("encoder_linear", "decoder_linear")),
            ("deepseek-r1", "DeepSeek-R1-Distill-Toy-SAE-l19.pt", 6, 12, ("encoder", "decoder")),
            ("deepseek-r1-square", "DeepSeek-R1-Distill-Toy-SAE-l19.pt", 8, 8, ("encoder", "decoder"))]:
        encoder, decoder = names
        state = module({encoder: (d, n, True), decoder: (n, d, True)}).to(torch.bfloat16).state_dict()
        save(f"{case}/{file}", state)
        w = f64(state)
        expect(case, lambda x: relu(w[encoder + ".weight"] @ x + w[encoder + ".bias"]),
               lambda f, x: w[decoder + ".weight"] @ f + w[decoder + ".bias"], d, path=f"{case}/{file}",
               format=case.removesuffix("-square"), architecture="standard", dtype="bfloat16", model=None, hook=None, warnings=[], folded=0)


def make_qwen():
    k = 5
    for case, folder, d, n, options, model in [
            ("qwen", "qwen/SAE-Res-Toy3-2B-Base-W1K-L0_5", 6, 12, {}, "Toy3-2B-Base"),
            ("qwen-k", "qwen-k", 6, 12, dict(k=k), None),
            ("qwen-square", "qwen-square/SAE-Res-Toy3-2B-Base-W1K-L0_5", 8, 8, dict(format="qwen-scope"), "Toy3-2B-Base")]:
        state = {name: torch.randn(shape) for name, shape in
                 dict(W_enc=(n, d), W_dec=(d, n), b_enc=(n,), b_dec=(d,)).items()}
        state["b_enc"] -= 1.5  # so that negative ones are kept in some rows
        save(folder + "/layer4.sae.pt", state)
        w = f64(state)
        encode = lambda x, w=w: top(w["W_enc"] @ x + w["b_enc"], k, signed=True)
        expect(case, encode, lambda f, x, w=w: w["W_dec"] @ f + w["b_dec"], d, path=folder + "/layer4.sae.pt", options=options,
               format="qwen-scope", architecture="topk", dtype="float32", model=model, hook="model.layers.4",
               warnings=["b_dec is not subtracted"], folded=0, k=k, selection="TOP_SIGNED")


def make_hook_z():
    d, n = 8, 20  # two heads of 4
    state = module(parameters=dict(W_enc=torch.empty(d, n), W_dec=torch.empty(n, d), b_enc=torch.empty(n), b_dec=torch.empty(d))).state_dict()
    name = "toy_L5_Hcat_z_lr1.20e-03_ds20_v9"
    save(f"hook-z/{name}.pt", state)
    config(f"hook-z/{name}_cfg.json", dict(
        seed=49, l1_coeff=1.0, act_name="blocks.5.attn.hook_z", act_size=d, dict_size=n, model_name="gpt2-small", enc_dtype="fp32"))
    w = f64(state)
    expect("hook-z", lambda x: relu((x - w["b_dec"]) @ w["W_enc"] + w["b_enc"]), lambda f, x: f @ w["W_dec"] + w["b_dec"], d,
           format="hook-z", architecture="standard", dtype="float32", model="gpt2-small", hook="blocks.5.attn.hook_z", warnings=[], folded=2)


# ---- Gemma Scope: no torch, but only the path tells these

def make_gemma_scope():
    for case, folder, d, d_out, n, names, warnings in [
            ("gemma-transcoder", "gemma-scope-2b-pt-transcoders/layer_3/width_16k/average_l0_13", 6, 9, 14, str.lower,
             ["the path says width_16k, which is 16384", "the path says gemma-scope-2b-pt-transcoders, which is 2304"]),
            ("gemma-transcoder-same", "transcoders/layer_3/average_l0_13", 6, 6, 14, str.title, []),
            ("gemma-embedding", "embedding/width_1m/average_l0_13", 9, 9, 14, str, ["the path says width_1m, which is 1048576"])]:
        w = {name: RNG.normal(size=shape).astype(np.float32) for name, shape in
             dict(W_enc=(d, n), W_dec=(n, d_out), b_enc=n, b_dec=d_out, threshold=n).items()}
        path = f"{case}/{folder}/params.npz"
        (SAES / path).parent.mkdir(parents=True, exist_ok=True)
        np.savez(SAES / path, **{names(name): value for name, value in w.items()})
        w = {name: value.astype(np.float64) for name, value in w.items()}
        if "embedding" in case:
            w["W_enc"] /= np.sqrt(d)
            w["W_dec"] *= np.sqrt(d)

        def encode(x, w=w):
            p = x @ w["W_enc"] + w["b_enc"]
            return relu(p) * (p > w["threshold"])

        expect(case, encode, lambda f, x, w=w: f @ w["W_dec"] + w["b_dec"], d, path=path, format="gemma-scope",
               architecture="jumprelu_transcoder" if "transcoder" in case else "jumprelu", dtype="float32", model=None, hook=None,
               l0=13, warnings=warnings, folded=2 if "embedding" in case else 1)


# ---- state dicts as a training saves them

def make_state_dicts():
    d, n, k = 6, 12, 4
    for case, prefix, subtracts, config, state_of in [
            ("state-dict-topk", "", True, dict(input_dim=d, top_k=k, subtract_b_dec=True, lr=float("nan")),
             lambda state, config: dict(state_dict=state, config=config, step=3)),
            ("state-dict-relu", "_orig_mod.module.", False, dict(activation="nn.ReLU", apply_b_dec_to_input=False),
             lambda state, config: dict(model=state, hyper_parameters=config, optimizer=dict(state={0: dict(exp_avg=torch.ones(n))}))),
            ("state-dict-k", "sae.", False, dict(k=float(k)), lambda state, config: dict(state, **config))]:
        m = module(dict(encoder=(d, n, True), decoder=(n, d, True)))
        if case == "state-dict-k":
            m.decoder.bias.data.zero_()  # nothing to subtract
        m.encoder.bias.data -= 1.5
        state = m.state_dict()
        save(case + "/sae.pt", state_of({prefix + name: value for name, value in state.items()}, config))
        w = f64(state)

        def encode(x, w=w):
            p = relu(w["encoder.weight"] @ (x - w["decoder.bias"] if subtracts else x) + w["encoder.bias"])
            return p if "relu" in case else top(p, k)

        expect(case, encode, lambda f, x, w=w: w["decoder.weight"] @ f + w["decoder.bias"], d, format="state-dict", dtype="float32",
               model=None, hook=None, warnings=[], folded=int(subtracts),
               **(dict(architecture="standard") if "relu" in case else dict(architecture="topk", k=k, selection="TOP")))


make_dictionary_learning()
make_openai()
make_linear()
make_qwen()
make_hook_z()
make_gemma_scope()
make_state_dicts()
SAES.joinpath("expected_pt.json").write_text(json.dumps(EXPECTED, separators=(",", ":")) + "\n")
