"""Writes SAEs of no known format in saes/generic/, and in saes/expected_generic.json what their equations give for a few rows.

    pip install torch numpy safetensors
    python make_saes_generic.py

Expected numbers are computed in float64, with nothing folded. No row has a feature near an edge.
"""
import json
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file

SAES = Path(__file__).parent / "saes"
(SAES / "generic").mkdir(parents=True, exist_ok=True)
RNG = np.random.default_rng(23)
EXPECTED = {}
ROWS = 5


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def relu(p):
    return np.maximum(p, 0)


def top(k, key):
    """The k largest by a key, as they are."""
    def act(p):
        kept = np.zeros_like(p)
        order = np.argsort(-key(p), kind="stable")[:k]
        kept[order] = p[order]
        return kept
    return act


def same(p):
    return p


def expect(file, encode, decode, d_in, maps, activation, **options):
    rows = []
    while len(rows) < ROWS:
        x = normal(d_in).astype(np.float64) * 1.5
        near = [x + 1e-4 * RNG.normal(size=d_in) for _ in range(20)]
        if all(np.array_equal(encode(x) != 0, encode(other) != 0) for other in near):
            rows.append(x)
    codes = [encode(x) for x in rows]
    assert any(np.any(c != 0) for c in codes) and any(np.any(c == 0) for c in codes), file
    if activation in ("topk-signed", "topk-abs"):
        assert any(np.any(c < 0) for c in codes), file
    scale = options.pop("norm_scaling_factor", None)
    EXPECTED[file.split(".")[0]] = dict(
        path="generic/" + file, options=dict(format="generic", map=maps, activation=activation, **options),
        x=[x.tolist() for x in rows], codes=[c.tolist() for c in codes],
        x_hat=[decode(c, x).tolist() for c, x in zip(codes, rows)], **({"norm_scaling_factor": scale} if scale else {}))


def f64(**arrays):
    return [a.astype(np.float64) for a in arrays.values()]


def make_pre_bias():
    """A TopK that no ReLU follows, in torch.nn.Linear's orientation."""
    d, n, k = 6, 17, 12
    w = dict(pre_bias=normal(d), encoder_weights=normal(n, d), latent_bias=normal(n) - 1, decoder_weights=normal(d, n))
    torch.save({name: torch.tensor(a) for name, a in w.items()}, SAES / "generic/pre_bias.pt")
    pre, enc, latent, dec = f64(**w)
    expect("pre_bias.pt", lambda x: top(k, same)(enc @ (x - pre) + latent), lambda f, x: dec @ f + pre, d,
           dict(W_enc="encoder_weights.T", W_dec="decoder_weights.T", b_enc="latent_bias", b_dec="pre_bias"),
           "topk-signed", k=k, subtract_b_dec=True)


def make_layer_norm():
    d, n, k = 6, 15, 4
    w = dict(pre_bias=normal(d), enc=normal(n, d), latent_bias=normal(n), dec=normal(n, d))
    torch.save({name: torch.tensor(a) for name, a in w.items()}, SAES / "generic/layer_norm.pt")
    pre, enc, latent, dec = f64(**w)
    moments = lambda x: (x.mean(), x.std(ddof=1))

    def encode(x):
        mean, std = moments(x)
        return relu(top(k, same)(enc @ ((x - mean) / (std + 1e-5) - pre) + latent))

    expect("layer_norm.pt", encode, lambda f, x: (f @ dec + pre) * moments(x)[1] + moments(x)[0], d,
           dict(W_enc="enc.T", W_dec="dec", b_enc="latent_bias", b_dec="pre_bias"), "topk", k=k, subtract_b_dec=True,
           layer_norm=True)


def make_relu():
    """W_enc [n, d] under SAELens' names; b_dec subtracted."""
    d, n = 7, 15
    w = dict(W_enc=normal(n, d), b_enc=normal(n), W_dec=normal(n, d), b_dec=normal(d))
    torch.save({name: torch.tensor(a) for name, a in w.items()}, SAES / "generic/relu.pt")
    enc, b, dec, pre = f64(**w)
    expect("relu.pt", lambda x: relu(enc @ (x - pre) + b), lambda f, x: f @ dec + pre, d,
           dict(W_enc="W_enc.T", W_dec="W_dec", b_enc="b_enc", b_dec="b_dec"), "relu", subtract_b_dec=True)


def make_nested():
    """A training's state, features scaled with the input; d_in is d_sae."""
    d, k, s = 8, 3, 0.37
    w = dict(enc=normal(d, d), bias=normal(1, d), dec=normal(d, d), out=normal(d))
    layer = {name: torch.tensor(a) for name, a in w.items()}
    torch.save({"step": 5, "model": {"layers": [layer]}}, SAES / "generic/nested.pt")
    enc, b, dec, out = f64(**w)
    at = "model.layers[0]."
    expect("nested.pt", lambda x: relu(top(k, same)((s * x) @ enc + b[0])), lambda f, x: (f @ dec + out) / s, d,
           dict(W_enc=at + "enc", W_dec=at + "dec", b_enc=at + "bias", b_dec=at + "out"), "topk", k=k, norm_scaling_factor=s)


def make_jumprelu():
    """Logarithms of thresholds, biases of two dimensions, and what no one uses."""
    d, n = 5, 14
    w = {"sae enc": normal(d, n), "sae dec": normal(n, d), "b": normal(n, 1), "c": normal(1, d), "log thr": normal(n) * 0.3}
    save_file(dict(w, count=np.zeros(n, np.float32)), SAES / "generic/jumprelu.safetensors")
    enc, dec, b, c, log = (a.astype(np.float64) for a in w.values())

    def encode(x):
        p = x @ enc + b[:, 0]
        return relu(p) * (p > np.exp(log))

    expect("jumprelu.safetensors", encode, lambda f, x: f @ dec + c[0], d,
           dict(W_enc="sae enc", W_dec="sae dec", b_enc="b", b_dec="c", log_threshold="log thr"), "jumprelu")


def make_batchtopk():
    """One threshold for all features."""
    d, n = 6, 13
    w = dict(E=normal(d, n), D=normal(n, d), theta=np.float32(0.8))
    np.savez(SAES / "generic/batchtopk.npz", **w)
    enc, dec, theta = (np.asarray(a, np.float64) for a in w.values())
    expect("batchtopk.npz", lambda x: (x @ enc) * (x @ enc > theta), lambda f, x: f @ dec, d,
           dict(W_enc="E", W_dec="D", threshold="theta"), "jumprelu")


def make_tied():
    d, n, k = 6, 16, 5
    w = dict(dictionary=normal(n, d))
    np.savez_compressed(SAES / "generic/tied.npz", **w)
    dictionary, = f64(**w)
    expect("tied.npz", lambda x: top(k, np.abs)(dictionary @ x), lambda f, x: f @ dictionary, d,
           dict(W_enc="dictionary.T", W_dec="dictionary"), "topk-abs", k=k)


def make_gated():
    d, n = 6, 14
    w = {"encoder.weight": normal(n, d), "decoder.weight": normal(d, n), "gate_bias": normal(n), "mag_bias": normal(n),
         "r_mag": normal(n) * 0.3, "decoder_bias": normal(d)}
    save_file(w, SAES / "generic/gated.safetensors")
    enc, dec, gate, mag, r, c = (a.astype(np.float64) for a in w.values())

    def encode(x):
        p = enc @ (x - c)
        return (p + gate > 0) * relu(np.exp(r) * p + mag)

    expect("gated.safetensors", encode, lambda f, x: dec @ f + c, d,
           dict(W_enc="encoder.weight.T", W_dec="decoder.weight.T", b_gate="gate_bias", b_mag="mag_bias", r_mag="r_mag",
                b_dec="decoder_bias"), "gated", subtract_b_dec=True)


def make_skip():
    d, d_out, n = 6, 9, 14
    w = dict(up=normal(n, d), down=normal(n, d_out), bias=normal(n), out=normal(d_out), around=normal(d, d_out))
    save_file(w, SAES / "generic/skip.safetensors")
    up, down, b, out, around = f64(**w)
    expect("skip.safetensors", lambda x: relu(up @ x + b), lambda f, x: f @ down + out + x @ around, d,
           dict(W_enc="up.T", W_dec="down", b_enc="bias", b_dec="out", W_skip="around.T"), "relu")


make_pre_bias()
make_relu()
make_nested()
make_jumprelu()
make_batchtopk()
make_tied()
make_gated()
make_skip()
make_layer_norm()
SAES.joinpath("expected_generic.json").write_text(json.dumps(EXPECTED, separators=(",", ":")) + "\n")
