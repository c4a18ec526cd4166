#!/usr/bin/env python3
"""PyTorch on a GPU, on the shapes of benchmarks/run cuda: dense encode to sparse codes, sparse decode, and the device's ceilings.

python3 benchmarks/peers/gpu.py [--shape 2304x65536] [--n 1,1024,8192] [--l0 73] [--compile] [--json FILE]
Times are medians by CUDA events after warm-up, over inputs that rotate through several times the L2; what the forms give is compared
first. Everything stays on the device. Ends with a table.
"""
import argparse
import json
import statistics
import sys

try:
    import torch
except ImportError:
    sys.exit("gpu.py: needs PyTorch with CUDA: no module torch is installed")

REPEATS, WARM_UP, ROTATED_BYTES = 25, 5, 1 << 28


def median_us(step, inputs):
    """The median time of step(input), inputs in turn."""
    for i in range(WARM_UP):
        step(inputs[i % len(inputs)])
    times = []
    for i in range(REPEATS):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        step(inputs[i % len(inputs)])
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) * 1e3)
    return statistics.median(times)


def rotated(make, bytes_each):
    """Enough different inputs that no repeat finds its own in the cache."""
    return [make() for _ in range(max(2, min(64, ROTATED_BYTES // max(1, bytes_each) + 1)))]


def draw(d, m, l0):
    """W_enc [m, d] of unit rows, and thresholds that leave about l0 active features a row of standard normal x."""
    w = torch.nn.functional.normalize(torch.randn(m, d, device="cuda"))
    scores = (torch.randn(256, d, device="cuda") @ w.T).flatten()
    some = scores[:: max(1, scores.numel() // 2**22)]
    return w, torch.full((m,), torch.quantile(some, 1 - l0 / m).item(), device="cuda")


def masked_scores(x, w, threshold):
    scores = x @ w.T
    return torch.where(scores > threshold, scores, 0)


def encode(x, w, threshold):
    return masked_scores(x, w, threshold).to_sparse_csr()


def active(codes):
    """Row by row, as (row, feature) numbers, for comparison."""
    rows = torch.repeat_interleave(torch.arange(codes.shape[0], device="cuda"), codes.crow_indices().diff())
    return rows * codes.shape[1] + codes.col_indices()


def check_codes(name, got, expected, share):
    """The features of two encodings differ in no more than this share: those that rounding moves over their threshold."""
    both = torch.isin(active(got), active(expected)).sum().item()
    differing = got.col_indices().numel() + expected.col_indices().numel() - 2 * both
    total = max(1, expected.col_indices().numel())
    if differing > share * total + 2:
        sys.exit(f"gpu.py: {name} disagrees with float32: {differing} of {total} active features differ")


def check_close(name, got, expected, tolerance):
    error = ((got.double() - expected.double()).norm() / expected.double().norm()).item()
    if not error <= tolerance:  # NaN never passes
        sys.exit(f"gpu.py: {name} disagrees: relative error {error:.2e}, at most {tolerance:.0e}")


def bag_decode(codes, w_dec):
    return torch.nn.functional.embedding_bag(
        codes.col_indices(), w_dec, codes.crow_indices()[:-1], mode="sum", per_sample_weights=codes.values())


def measure_encode(x, w, threshold, use_compile, measure):
    n, d = x[0].shape
    flop = 2 * n * d * w.shape[0]
    x16, w16, threshold16 = [a.bfloat16() for a in x], w.bfloat16(), threshold.bfloat16()
    torch.backends.cuda.matmul.allow_tf32 = False
    exact = encode(x[0], w, threshold)

    def form(name, share, inputs, step, gemm=None):
        check = lambda: check_codes(name, step(inputs[0]), exact, share)
        measure(f"encode {name}", n, step, inputs, check, flop=flop, note=f"L0 {exact.values().numel() / n:.1f}")
        if gemm:
            measure(f"gemm {name}", n, gemm, inputs, flop=flop)

    form("float32", 0, x, lambda a: encode(a, w, threshold), lambda a: a @ w.T)
    torch.backends.cuda.matmul.allow_tf32 = True
    form("TF32", .05, x, lambda a: encode(a, w, threshold), lambda a: a @ w.T)
    torch.backends.cuda.matmul.allow_tf32 = False
    form("bf16", .3, x16, lambda a: encode(a, w16, threshold16), lambda a: a @ w16.T)
    if use_compile:
        dense = torch.compile(masked_scores)
        form("bf16 compiled", .3, x16, lambda a: dense(a, w16, threshold16).to_sparse_csr())


def measure_decode(x, w, w_dec, threshold, measure):
    codes = [encode(a, w, threshold) for a in x]
    n = x[0].shape[0]
    some = codes[0].values().numel() <= 1 << 20  # the exact answer takes [n, d_sae] doubles
    exact = codes[0].to_dense().double() @ w_dec.double() if some and n <= 1024 else None
    moved = statistics.mean(c.values().numel() for c in codes) * 4 * w_dec.shape[1]
    for name, decode in (("embedding_bag", bag_decode), ("cuSPARSE", lambda c, rows: c @ rows)):
        check = (lambda: None) if exact is None else (lambda: check_close(name, decode(codes[0], w_dec), exact, 1e-5))
        measure(f"decode {name}", n, lambda c: decode(c, w_dec), codes, check, moved=moved)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--shape", default="2304x65536")
    arguments.add_argument("--n", default="1,1024,8192")
    arguments.add_argument("--l0", type=int, default=73)
    arguments.add_argument("--compile", action="store_true")
    arguments.add_argument("--json")
    options = arguments.parse_args()
    if not torch.cuda.is_available():
        sys.exit(f"gpu.py: needs a CUDA device: PyTorch {torch.__version__} finds none")
    d, m = map(int, options.shape.split("x"))
    results = []

    def measure(name, n, step, inputs, check=lambda: None, flop=0, moved=0, note=""):
        """Checks, then times; a form that this PyTorch does not offer is no reason to lose the others."""
        try:
            check()
            us = median_us(step, inputs)
        except RuntimeError as e:
            us, note = float("nan"), "failed: " + str(e).splitlines()[0]
        results.append({"name": name, "n": n, "us": us, "tflops": flop / us * 1e-6, "gbs": moved / us * 1e-3, "note": note})

    torch.manual_seed(1)
    big = torch.randn(1 << 28, device="cuda")
    target = torch.empty_like(big)
    measure("device copy", "", target.copy_, [big], moved=2 * 4 * big.numel())
    del big, target
    w_dec = torch.nn.functional.normalize(torch.randn(m, d, device="cuda"))
    w, threshold = draw(d, m, options.l0)
    for n in map(int, options.n.split(",")):
        x = rotated(lambda: torch.randn(n, d, device="cuda"), 4 * n * d)
        measure_encode(x, w, threshold, options.compile, measure)
        measure_decode(x, w, w_dec, threshold, measure)
        torch.cuda.empty_cache()

    device = torch.cuda.get_device_properties(0)
    facts = {"device": device.name, "torch": torch.__version__, "cuda": torch.version.cuda, "shape": options.shape}
    if options.json:
        with open(options.json, "w") as file:
            json.dump({**facts, "results": results}, file, indent=1)
    print(*facts.values(), sep=", ")
    for r in results:
        rate = f"{r['tflops']:.1f} TFLOP/s" if r["tflops"] else f"{r['gbs']:.0f} GB/s"
        print(f"{r['name']:24} {r['n']:>5} {r['us']:12.1f} us {rate:>16}  {r['note']}".rstrip())


if __name__ == "__main__":
    main()
