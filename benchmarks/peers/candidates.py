#!/usr/bin/env python3
"""How many features the int8 screen names for each active one: the screen once more, in numpy and float64 (native/src/int8.hpp).

python3 benchmarks/peers/candidates.py SAE_FOLDER ACTIVATIONS.npy [--rows 1024] [--massive]
SAE_FOLDER: SAELens, ReLU or JumpReLU. --massive adds a constant of 30, 40 and 60 standard deviations to three dimensions, and to the
SAE what leaves its features as they are. Ends with an error if an active feature is missed.
"""
import argparse
import json
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

MOST, APART, MASSIVE, SAMPLE = 32639, 8, 36, 64


def digits(y):
    """One and two digits of each row of y, as float64 values."""
    unit = (np.abs(y).max(1, keepdims=True).astype(np.float32) / np.float32(MOST)).astype(np.float64)
    both = np.clip(np.rint(np.divide(y, unit, where=unit > 0, out=np.zeros_like(y))), -MOST, MOST)
    return np.floor((both + 128) / 256) * 256 * unit, both * unit


def screen(x, w, centre, threshold, centred):
    """Names per active feature by one and two digits, and the largest error in bounds."""
    y, apart = x.copy(), []
    if centred:
        if np.any(centre):
            y -= np.outer(x @ centre / (centre @ centre), centre)
        rows = y[np.arange(SAMPLE) * len(y) // SAMPLE]
        energy = np.square(rows).sum(0)
        apart = [i for i in np.argsort(-energy)[:APART] if energy[i] > MASSIVE * np.median(energy)]
        y[:, apart] = 0
    w_digits, _ = digits(w)
    w_norm, w_loss = np.linalg.norm(w, axis=1), np.linalg.norm(w - w_digits, axis=1)
    p, exact = x @ w.T, (x - y) @ w.T
    active = p > threshold
    result = {"L0": active.sum() / len(x), "apart": len(apart)}
    for name, q in zip(("named", "refined"), digits(y)):
        score = q @ w_digits.T + exact
        bound = np.linalg.norm(y - q, axis=1, keepdims=True) * w_norm + np.linalg.norm(q, axis=1, keepdims=True) * w_loss
        named = score + bound >= threshold
        if np.any(active & ~named):
            sys.exit(f"candidates.py: {name}: an active feature is missed")
        result[name] = named.sum() / active.sum()
        result[name + " error/bound"] = (np.abs(score - p) / bound).max()
    return result


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("sae", type=Path)
    arguments.add_argument("activations", type=Path)
    arguments.add_argument("--rows", type=int, default=1024)
    arguments.add_argument("--massive", action="store_true")
    given = arguments.parse_args()
    tensors = {k: v.astype(np.float64) for k, v in load_file(given.sae / "sae_weights.safetensors").items()}
    x = np.load(given.activations, mmap_mode="r")[: given.rows].astype(np.float64)
    w, centre = np.ascontiguousarray(tensors["W_enc"].T), tensors["b_dec"]
    threshold = tensors.get("threshold", 0) - tensors["b_enc"]
    if json.loads((given.sae / "cfg.json").read_text()).get("apply_b_dec_to_input"):
        threshold = threshold + w @ centre
    if given.massive:
        offset = np.zeros(x.shape[1])
        offset[[x.shape[1] // 20, x.shape[1] // 3, x.shape[1] * 4 // 5]] = np.array([60, -40, 30]) * x.std()
        x, centre, threshold = x + offset, centre + offset, threshold + w @ offset
    for centred in (False, True):
        r = screen(x, w, centre, threshold, centred)
        print(f"{'centred on b_dec, %d apart' % r['apart'] if centred else 'plain':26s} L0 {r['L0']:.1f}; named per active feature "
              f"{r['named']:.2f}, with a second digit {r['refined']:.2f}; largest error in bounds "
              f"{r['named error/bound']:.2f}, {r['refined error/bound']:.2f}")


main()
