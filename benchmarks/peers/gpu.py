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


def planted(n, d, m, l0):
    """x, W_enc [m, d] and thresholds with about l0 active features a row; unit decoder rows."""
    w = torch.nn.functional.normalize(torch.randn(m, d, device="cuda"))
    x = torch.randn(max(n, 256), d, device="cuda")
    sample = x[:256] @ w.T
    return w, torch.full((m,), torch.quantile(sample.flatten()[:: max(1, sample.numel() // 2**23)], 1 - l0 / m).item(), device="cuda")


def encode(x, w, threshold):
    scores = x @ w.T
    return torch.where(scores > threshold, scores, 0).to_sparse_csr()


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


def measure_encode(x, w, threshold, use_compile, report):
    n, d = x[0].shape
    m = w.shape[0]
    flop = 2 * n * d * m
    x16, w16, threshold16 = [a.bfloat16() for a in x], w.bfloat16(), threshold.bfloat16()
    torch.backends.cuda.matmul.allow_tf32 = False
    exact = encode(x[0], w, threshold)
    report("encode float32", n, median_us(lambda a: encode(a, w, threshold), x), flop, f"L0 {exact.values().numel() / n:.1f}")
    report("gemm float32", n, median_us(lambda a: a @ w.T, x), flop)
    torch.backends.cuda.matmul.allow_tf32 = True
    check_codes("TF32", encode(x[0], w, threshold), exact, .05)
    report("encode TF32", n, median_us(lambda a: encode(a, w, threshold), x), flop)
    report("gemm TF32", n, median_us(lambda a: a @ w.T, x), flop)
    check_codes("bf16", encode(x16[0], w16, threshold16), exact, .3)
    report("encode bf16", n, median_us(lambda a: encode(a, w16, threshold16), x16), flop)
    report("gemm bf16", n, median_us(lambda a: a @ w16.T, x16), flop)
    if use_compile:
        dense = torch.compile(lambda a: torch.where(a @ w16.T > threshold16, a @ w16.T, 0))
        check_codes("torch.compile", dense(x16[0]).to_sparse_csr(), exact, .3)
        report("encode bf16 compiled", n, median_us(lambda a: dense(a).to_sparse_csr(), x16), flop)
    torch.backends.cuda.matmul.allow_tf32 = False


def measure_decode(x, w, w_dec, threshold, report):
    codes = [encode(a, w, threshold) for a in x]
    n = x[0].shape[0]
    expected = codes[0].to_dense().double() @ w_dec.double() if n <= 1024 else None
    moved = statistics.mean(c.values().numel() for c in codes) * 4 * w_dec.shape[1]
    for name, decode in (("decode embedding_bag", bag_decode), ("decode cuSPARSE", lambda c, w: c @ w)):
        if expected is not None:
            check_close(name, decode(codes[0], w_dec), expected, 1e-5)
        report(name, n, median_us(lambda c: decode(c, w_dec), codes), bytes=moved)


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

    def report(name, n, us, flop=0, note="", bytes=0):
        results.append({"name": name, "n": n, "us": us, "tflops": flop / us * 1e-6, "gbs": bytes / us * 1e-3, "note": note})

    torch.manual_seed(1)
    big = torch.randn(1 << 28, device="cuda")
    target = torch.empty_like(big)
    report("device copy", "", median_us(target.copy_, [big]), bytes=2 * 4 * big.numel())
    del big, target
    w_dec = torch.nn.functional.normalize(torch.randn(m, d, device="cuda"))
    for n in map(int, options.n.split(",")):
        w, threshold = planted(n, d, m, options.l0)
        x = rotated(lambda: torch.randn(n, d, device="cuda"), 4 * n * d)
        measure_encode(x, w, threshold, options.compile, report)
        measure_decode(x, w, w_dec, threshold, report)
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
