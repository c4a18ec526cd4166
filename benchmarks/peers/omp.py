#!/usr/bin/env python3
"""scikit-learn's OrthogonalMatchingPursuit on the shape of benchmarks/run Pursue: 32 atoms of a 2304 x 16384 dictionary.

pip install numpy scikit-learn; then: python3 benchmarks/peers/omp.py [repeats]
Prints the median seconds of one direction: of the estimator, and of the bare orthogonal_mp behind it. float32, all cores.
"""
import statistics
import sys
import time

import numpy as np
from sklearn.linear_model import OrthogonalMatchingPursuit, orthogonal_mp

D, D_SAE, ATOMS = 2304, 16384, 32
repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 5

random = np.random.default_rng(1)
dictionary = random.standard_normal((D_SAE, D), dtype=np.float32)
dictionary /= np.linalg.norm(dictionary, axis=1, keepdims=True)
columns = np.asfortranarray(dictionary.T)  # [D, D_SAE], the layout that it works in


def median_seconds(solve):
    times = []
    for _ in range(repeats):
        v = random.standard_normal(D, dtype=np.float32)
        start = time.perf_counter()
        solve(v)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


estimator = OrthogonalMatchingPursuit(n_nonzero_coefs=ATOMS, fit_intercept=False)
print(f"OrthogonalMatchingPursuit.fit  {median_seconds(lambda v: estimator.fit(columns, v)):.4f} s")
print(f"orthogonal_mp                  {median_seconds(lambda v: orthogonal_mp(columns, v, n_nonzero_coefs=ATOMS)):.4f} s")
