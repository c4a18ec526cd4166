#!/usr/bin/env python3
"""PyTorch and scikit-learn on the CPU, on the files of benchmarks/peers/run: dense encode, decode, orthogonal matching pursuit.

cpu.py FOLDER --shape 2304x16384 --n 1,32,2048 --out FILE [--quick]; cpu.py --versions
What each form gives is compared with sae4j's codes and vectors first. Results are in JMH's JSON schema. The equations are those of
SAELens (JumpReLU with b_dec folded), the sparse decode is sparsify's.
"""
import argparse
import itertools
import json
import math
import pathlib
import statistics
import sys
import time
import warnings

try:
    import numpy as np
    import scipy
    import sklearn
    import threadpoolctl
    import torch
    from safetensors.torch import load_file
    from sklearn.linear_model import OrthogonalMatchingPursuit, orthogonal_mp
except ImportError as e:
    sys.exit(f"cpu.py: no module {e.name}: install what benchmarks/peers/requirements.txt lists, and name that Python in PYTHON")

warnings.filterwarnings("ignore", message="Sparse")  # that torch's CSR is in beta

ATOMS = 32
MOST_DENSE_BYTES = 1 << 30  # of dense codes to rotate through


def versions():
    """A line for each library: version, kernels, threads."""
    config = [line.strip(" -") for line in torch.__config__.show().splitlines()]
    kernels = [line for line in config if line.startswith(("Intel(R) oneAPI", "Intel(R) MKL-DNN", "OpenMP"))]
    yield f"torch {torch.__version__}: {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"
    yield from (f"  {line}" for line in kernels)
    parallel = torch.__config__.parallel_info().splitlines()
    yield from (f"  {line.strip()}" for line in parallel if "get_num_threads" in line or "parallel backend" in line)
    yield f"numpy {np.__version__}, scipy {scipy.__version__}, scikit-learn {sklearn.__version__}"
    for pool in threadpoolctl.threadpool_info():
        name = pathlib.Path(pool["filepath"]).name
        yield f"  {name}: {pool['internal_api']} {pool['version']}, {pool.get('architecture', '')}, {pool['num_threads']} threads"


# ---- The peers' forms


class Sae:
    """W_enc [d_in, d_sae] and W_dec [d_sae, d_in] as SAELens holds them, and its equations."""

    def __init__(self, folder):
        tensors = load_file(folder / "sae_weights.safetensors")
        self.w_enc, self.w_dec, self.b_enc, self.b_dec = (tensors[k].float() for k in ("W_enc", "W_dec", "b_enc", "b_dec"))
        self.threshold = tensors["threshold"].float()

    def dense(self, x):
        pre = x @ self.w_enc + self.b_enc
        return torch.relu(pre) * (pre > self.threshold).to(pre.dtype)

    def encode(self, x):
        return self.dense(x).to_sparse_csr()

    def matmul(self, x):
        return x @ self.w_enc

    def decode(self, acts):
        return acts @ self.w_dec + self.b_dec

    def decode_bag(self, codes):
        bag = torch.nn.functional.embedding_bag(
            codes.col_indices(), self.w_dec, codes.crow_indices()[:-1], mode="sum", per_sample_weights=codes.values())
        return bag + self.b_dec

    def bfloat16(self):
        copy = object.__new__(Sae)
        copy.__dict__ = {name: tensor.bfloat16() for name, tensor in self.__dict__.items()}
        return copy


# ---- Comparison with what sae4j gave


def check_codes(name, got, expected, sae):
    """Equal active sets, up to features whose value is at their threshold; values to 1e-4."""
    got, expected = got.to_dense(), expected.to_dense()
    apart = (got != 0) != (expected != 0)
    # Where one has no value it found the score at or below the threshold: the other's must be next to it.
    off = torch.where(apart, (got + expected - sae.threshold).abs(), (got - expected).abs())
    allowed = 1e-4 * torch.where(apart, torch.clamp(sae.threshold, min=1), expected.abs())
    wrong = int((~(off <= allowed)).sum())  # NaN is wrong
    if wrong:
        sys.exit(f"cpu.py: {name} disagrees with sae4j: {wrong} of {int((expected != 0).sum())} codes in {len(expected)} rows")


def check_roughly(name, got, expected):
    """bfloat16 moves features over their thresholds: half of them must be the same."""
    got, expected = got != 0, expected.to_dense() != 0
    shared, all_ = int((got & expected).sum()), int((got | expected).sum())
    if shared < 0.5 * all_:
        sys.exit(f"cpu.py: {name} disagrees with sae4j: {shared} of {all_} active features are shared")


def check_close(name, got, expected, tolerance):
    error = float((got.double() - expected.double()).norm() / expected.double().norm())
    if not error <= tolerance:
        sys.exit(f"cpu.py: {name} disagrees with sae4j: relative error {error:.2e}, at most {tolerance:.0e}")


def load_codes(file):
    """scipy's .npz, as torch's CSR."""
    arrays = np.load(file)
    parts = [torch.from_numpy(arrays[k]) for k in ("indptr", "indices", "data")]
    return torch.sparse_csr_tensor(parts[0], parts[1].long(), parts[2], size=tuple(arrays["shape"]))


def check_pursuit(columns, directions, expected):
    """The same atoms but for near ties, and as good a fit."""
    for i, row in enumerate(expected.to_dense().numpy()):
        coefficients = orthogonal_mp(columns, directions[i], n_nonzero_coefs=ATOMS)
        shared = len(set(np.flatnonzero(row)) & set(np.flatnonzero(coefficients)))
        left, ours = (np.linalg.norm(directions[i] - columns @ c) for c in (coefficients, row))
        if shared < ATOMS - 2 or not abs(left - ours) <= 1e-3 * ours:
            sys.exit(f"cpu.py: omp32 disagrees with sae4j: {shared} of {ATOMS} atoms are shared, residuals {left:.6g} and {ours:.6g}")


# ---- Measurement


class Stopwatch:
    def __init__(self, shape, quick):
        self.shape, self.results = shape, []
        self.repeats, self.seconds = (3, 0.05) if quick else (9, 0.5)

    def measure(self, name, n, step, inputs, giga, unit):
        """The median over repeats, each of as many calls as fill its time, over inputs in turn."""
        turn = itertools.cycle(inputs)
        calls, spent = 0, 0.0
        start = time.perf_counter()
        while calls < 2 or spent < self.seconds:  # warm-up
            step(next(turn))
            calls, spent = calls + 1, time.perf_counter() - start
        calls = max(1, round(calls * self.seconds / spent))
        times = [self.repeat(step, turn, calls) for _ in range(self.repeats)]
        self.results.append(self.result(name, n, times, giga, unit))
        print(f"# peers.{name} n={n}: {statistics.median(times) * 1e3:.4g} ms", flush=True)

    @staticmethod
    def repeat(step, turn, calls):
        start = time.perf_counter()
        for _ in range(calls):
            step(next(turn))
        return (time.perf_counter() - start) / calls

    def result(self, name, n, times, giga, unit):
        median = statistics.median(times)
        # As JMH's error: half of the 99.9 % confidence interval.
        error = scipy.stats.t.ppf(0.9995, len(times) - 1) * statistics.stdev(times) / math.sqrt(len(times))
        return {
            "benchmark": f"peers.{name}",
            "mode": "avgt",
            "params": {"shape": self.shape, "n": str(n), "device": "cpu", "memory": "host", "screen": "default"},
            "primaryMetric": {
                "score": median * 1e3, "scoreError": error * 1e3, "scoreUnit": "ms/op", "rawData": [[t * 1e3 for t in times]]},
            "secondaryMetrics": {unit: {"score": giga / median, "scoreError": "NaN", "scoreUnit": unit}},
        }


def products_rate(n, d, m):
    """As sae4j's benchmarks count: few rows are bound by reading the matrix, many by arithmetic."""
    return (4e-9 * d * m, "GB/s") if n == 1 else (2e-9 * n * d * m, "GFLOP/s")


def first_rows(form, x, n, count):
    """Codes of the first rows, in batches of the very size that is timed: other sizes may be other kernels."""
    batches = x[: n * math.ceil(count / n)].split(n)
    return torch.cat([form(batch).to_dense() for batch in batches])[:count]


def measure_encode(sae, x, n, known, watch):
    """Up to CSR, as sae4j; and, to the peers' favour, up to dense codes and the bare product alone."""
    batches = x[: len(x) // n * n].split(n)
    rate = products_rate(n, *sae.w_enc.shape)
    compiled = torch.compile(sae.dense, dynamic=False)  # for each n its own code
    forms = {
        "encode": sae.encode,
        "encodeDense": sae.dense,
        "encodeCompiled": lambda a: compiled(a).to_sparse_csr(),
        "encodeDenseCompiled": compiled,
    }
    for name, form in forms.items():
        check_codes(name, first_rows(form, x, n, len(known)), known, sae)
        watch.measure("torch." + name, n, form, batches, *rate)
    watch.measure("torch.matmul", n, sae.matmul, batches, *rate)
    half = sae.bfloat16()
    check_roughly("encodeDenseBf16", first_rows(half.dense, x.bfloat16(), n, len(known)), known)
    # One row reads the matrix, of which bfloat16 has half the bytes.
    rate = (rate[0] / 2, rate[1]) if n == 1 else rate
    watch.measure("torch.encodeDenseBf16", n, half.dense, [b.bfloat16() for b in batches], *rate)


def measure_decode(sae, x, n, known, x_hat, watch):
    check_close("decode", sae.decode(known.to_dense()), x_hat, 1e-5)
    check_close("decodeBag", sae.decode_bag(known), x_hat, 1e-5)
    d, m = sae.w_enc.shape
    most = max(2, MOST_DENSE_BYTES // (4 * n * m))
    codes = [sae.encode(batch) for batch in x[: len(x) // n * n].split(n)]
    rows_read = 4e-9 * d * statistics.mean(c.values().numel() for c in codes)
    watch.measure("torch.decode", n, sae.decode, [c.to_dense() for c in codes[:most]], rows_read, "GB/s")
    watch.measure("torch.decodeBag", n, sae.decode_bag, codes, rows_read, "GB/s")


def measure_pursuit(sae, folder, watch):
    """orthogonal_mp is what the estimator runs, less its copies and checks."""
    columns = np.asfortranarray(sae.w_dec.numpy().T)  # [d_in, d_sae], the layout that it works in
    directions = np.load(folder / "directions.npy")
    check_pursuit(columns, directions, load_codes(folder / "omp.npz"))
    estimator = OrthogonalMatchingPursuit(n_nonzero_coefs=ATOMS, fit_intercept=False)
    solve = lambda v: orthogonal_mp(columns, v, n_nonzero_coefs=ATOMS)
    giga = 4e-9 * ATOMS * columns.size
    watch.measure("sklearn.omp32", 1, solve, directions, giga, "GB/s")
    watch.measure("sklearn.omp32Estimator", 1, lambda v: estimator.fit(columns, v), directions, giga, "GB/s")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", nargs="?", type=pathlib.Path)
    arguments.add_argument("--shape")
    arguments.add_argument("--n")
    arguments.add_argument("--out")
    arguments.add_argument("--quick", action="store_true")
    arguments.add_argument("--versions", action="store_true")
    options = arguments.parse_args()
    if options.versions:
        return
    folder = options.folder
    threads = int((folder / "threads.txt").read_text())  # as many as the JVM's
    torch.set_num_threads(threads)
    threadpoolctl.threadpool_limits(threads)
    print(*versions(), sep="\n", flush=True)
    watch = Stopwatch(options.shape, options.quick)
    sae = Sae(folder / "sae")
    x, x_hat = (torch.from_numpy(np.load(folder / name)) for name in ("x.npy", "x_hat.npy"))
    known = load_codes(folder / "codes.npz")
    with torch.inference_mode():
        for n in map(int, options.n.split(",")):
            measure_encode(sae, x, n, known, watch)
            measure_decode(sae, x, n, known, x_hat, watch)
    measure_pursuit(sae, folder, watch)
    pathlib.Path(options.out).write_text(json.dumps(watch.results, indent=1))


if __name__ == "__main__":
    main()
