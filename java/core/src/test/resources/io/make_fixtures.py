"""Writes the files beside it, and in expected.json what they must load as, computed here in float64.

    pip install numpy scipy safetensors ml_dtypes
    python make_fixtures.py
"""
import json
import math
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import scipy.sparse
from safetensors.numpy import save_file

HERE = Path(__file__).parent
RNG = np.random.default_rng(20)
F16, F32, F64, BF16 = np.float16, np.float32, np.float64, ml_dtypes.bfloat16
EXPECTED = {}


def bits(array):
    return np.ascontiguousarray(array, dtype=F32).view(np.int32).ravel().tolist()


def weights(d_in, d_sae, dtype, threshold=True):
    tensors = {
        "W_enc": RNG.normal(size=(d_in, d_sae)),
        "W_dec": RNG.normal(size=(d_sae, d_in)),
        "b_enc": RNG.normal(size=d_sae),
        "b_dec": RNG.normal(size=d_in),
    }
    if threshold:
        tensors["threshold"] = np.abs(RNG.normal(size=d_sae))
        tensors["threshold"][1] = np.inf
    return {name: value.astype(dtype) for name, value in tensors.items()}


def expect(name, tensors, subtracts_b_dec, **info):
    """tensors by convention: W_enc [d_in, d_sae], W_dec [d_sae, d_in]."""
    w_enc = tensors["W_enc"].astype(F32)
    b_dec = tensors["b_dec"].astype(F32)
    d_in, d_sae = w_enc.shape
    offset = tensors["b_enc"].astype(F64)
    if subtracts_b_dec:
        delta = [math.fsum(float(b_dec[i]) * float(w_enc[i, j]) for i in range(d_in)) for j in range(d_sae)]
        offset = offset - np.array(delta)
    theta = tensors.get("threshold")
    threshold = np.full(d_sae, -np.inf) if theta is None else theta.astype(F64) - offset
    EXPECTED[name] = dict(
        d_in=d_in,
        d_sae=d_sae,
        w_enc=bits(w_enc.T),
        w_dec=bits(tensors["W_dec"].astype(F32)),
        b_dec=bits(b_dec),
        threshold=bits(threshold),
        offset=bits(offset),
        architecture="standard" if theta is None else "jumprelu",
        **info,
    )


def saelens(name, tensors, cfg):
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    (folder / "cfg.json").write_text(json.dumps(cfg, indent=1) + "\n")
    save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, folder / "sae_weights.safetensors", metadata={"by": "make_fixtures.py"})


def cfg6(tensors, architecture, apply_b_dec):
    d_in, d_sae = tensors["W_enc"].shape
    return dict(
        d_in=d_in, d_sae=d_sae, dtype="float32", device="cpu", apply_b_dec_to_input=apply_b_dec,
        normalize_activations="none", reshape_activations="none", architecture=architecture,
        metadata=dict(sae_lens_version="6.0.0", model_name="a-model", hook_name="blocks.4.hook_resid_post",
                      hook_head_index=None, prepend_bos=True),
    )


def make_saelens():
    for name, dtype in dict(f32=F32, bf16=BF16, f16=F16, f64=F64).items():
        t = weights(5, 13, dtype)
        saelens("jumprelu-" + name, t, cfg6(t, "jumprelu", False))
        label = dict(f32="float32", bf16="bfloat16", f16="float16", f64="float64")[name]
        expect("jumprelu-" + name, t, False, dtype=label, model="a-model", hook="blocks.4.hook_resid_post", folded=1)

    t = weights(70, 33, F32)  # crosses every block of the transpose
    saelens("jumprelu-b-dec", t, cfg6(t, "jumprelu", True))
    expect("jumprelu-b-dec", t, True, dtype="float32", model="a-model", hook="blocks.4.hook_resid_post", folded=2)

    t = weights(6, 6, F32)  # square: only the convention tells
    saelens("jumprelu-square", t, cfg6(t, "jumprelu", True))
    expect("jumprelu-square", t, True, dtype="float32", model="a-model", hook="blocks.4.hook_resid_post", folded=2)

    t = weights(4, 9, F32, threshold=False)
    saelens("turned", {**t, "W_enc": t["W_enc"].T, "W_dec": t["W_dec"].T}, cfg6(t, "standard", False))
    expect("turned", t, False, dtype="float32", model="a-model", hook="blocks.4.hook_resid_post", folded=0)

    # before version 6: flat, no architecture, no version; b_dec is subtracted unless said otherwise
    t = weights(4, 9, F32, threshold=False)
    saelens("old-standard", {**t, "scaling_factor": np.ones(9, F32)}, dict(
        d_in=4, d_sae=9, dtype="torch.float32", model_name="gpt2-small", hook_point="blocks.8.hook_resid_pre",
        hook_point_layer=8, activation_fn_str="relu", activation_fn_kwargs={}, normalize_activations=False, l1_coefficient=8e-5))
    expect("old-standard", t, True, dtype="float32", model="gpt2-small", hook="blocks.8.hook_resid_pre", folded=2)


def make_gemma_scope():
    t = weights(5, 70, F32)
    for name, save in dict(stored=np.savez, deflated=np.savez_compressed).items():
        folder = HERE / ("gemma-" + name)
        folder.mkdir(exist_ok=True)
        save(folder / "params.npz", **t)
        expect("gemma-" + name, t, False, dtype="float32", model=None, hook=None, folded=1)
    lower = {k.lower(): v.astype(F16) for k, v in t.items()}
    folder = HERE / "gemma-zip64"
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / "params.npz", "w", zipfile.ZIP_DEFLATED) as z:
        for name, value in lower.items():
            with z.open(zipfile.ZipInfo(name + ".npy"), "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, value)
    expect("gemma-zip64", {k: v.astype(F16) for k, v in t.items()}, False, dtype="float16", model=None, hook=None, folded=1)


def make_activations():
    x = RNG.normal(size=(7, 5))
    x[3, 2], x[4, 0], x[5, 1] = 6e-8, -3e-6, 65504  # float16: subnormal, subnormal, largest
    for name, dtype in dict(f2=F16, f4=F32, f8=F64).items():
        np.save(HERE / f"x_{name}.npy", x.astype(dtype))
        EXPECTED[f"x_{name}.npy"] = bits(x.astype(dtype).astype(F32))
    np.save(HERE / "rank3.npy", x[:6].reshape(2, 3, 5).astype(F32))
    EXPECTED["rank3.npy"] = bits(x[:6].astype(F32))
    np.save(HERE / "vector.npy", x[0].astype(F32))
    EXPECTED["vector.npy"] = bits(x[0].astype(F32))
    np.save(HERE / "fortran.npy", np.asfortranarray(x.astype(F32)))
    np.save(HERE / "big_endian.npy", x.astype(">f4"))
    np.save(HERE / "too_large.npy", np.array([[1.0, -1e300]]))
    np.savez_compressed(HERE / "x.npz", acts=x.astype(F32), tokens=np.arange(7))
    np.savez(HERE / "two.npz", a=x.astype(F32), b=(2 * x).astype(F32))
    EXPECTED["two.npz#b"] = bits((2 * x).astype(F32))
    save_file({"acts": x.astype(BF16), "tokens": np.arange(7)}, HERE / "x.safetensors")
    EXPECTED["x.safetensors"] = bits(x.astype(BF16).astype(F32))
    save_file({"a": x.astype(F32), "b": (2 * x).astype(F32)}, HERE / "two.safetensors")


def make_codes():
    codes = scipy.sparse.random_array((9, 40), density=0.2, format="csr", dtype=F32, rng=RNG)
    codes.sort_indices()
    codes = scipy.sparse.csr_matrix(codes)
    codes[4] = 0
    codes.eliminate_zeros()
    scipy.sparse.save_npz(HERE / "codes.npz", codes)
    EXPECTED["codes.npz"] = dict(
        shape=list(codes.shape), indptr=codes.indptr.tolist(), indices=codes.indices.tolist(), data=bits(codes.data))
    parts = dict(format=np.array("csr"), shape=np.array(codes.shape, np.int32), indptr=codes.indptr.astype(np.int64),
                 indices=codes.indices.astype(np.int64), data=codes.data.astype(F64))
    np.savez(HERE / "codes_wide.npz", **parts)
    EXPECTED["codes_wide.npz"] = EXPECTED["codes.npz"]
    scipy.sparse.save_npz(HERE / "codes_csc.npz", codes.tocsc())


make_saelens()
make_gemma_scope()
make_activations()
make_codes()
(HERE / "expected.json").write_text(json.dumps(EXPECTED, separators=(",", ":")) + "\n")
