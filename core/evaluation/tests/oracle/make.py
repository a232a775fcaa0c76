"""Reference numbers: scipy's own, and the formulas of the papers written out in numpy, in float64.

usage: make.py STATS FOLDER     (needs numpy, scipy and safetensors; the fixtures were made with scipy 1.17.1)

STATS holds stats.json and stats.safetensors, the reference numbers of scipy and scikit-image (see ../fixtures/README.md),
of which FOLDER/stats.json is cut. FOLDER/oracle.json is computed here.
"""

import json
import sys

import numpy as np
import scipy.stats as st
from safetensors.numpy import load_file
from scipy.special import ndtri

stats_folder, folder = sys.argv[1:]


def plain(v, digits=None):
    """Lists of numbers; float32 arrays with as many digits as they hold."""
    v = np.asarray(v)
    if v.dtype == np.float32:
        return [float(f"{x:.9g}") for x in v.ravel()]
    if v.dtype.kind == "f" and digits:
        return [float(f"{x:.{digits}g}") for x in v.ravel()]
    return v.ravel().tolist()


def write(name, value):
    with open(f"{folder}/{name}", "w") as f:
        json.dump(value, f, separators=(",", ":"))
        f.write("\n")


# What is cut from the reference numbers.
facts = json.load(open(f"{stats_folder}/stats.json"))
arrays = load_file(f"{stats_folder}/stats.safetensors")
insdel = {k: v for k, v in facts["insertion_deletion"].items()}
insdel |= {k.removeprefix("insdel."): plain(v) for k, v in arrays.items() if k.startswith("insdel.")}
pair = facts["image_pairs"][3]
pair = {k: pair[k] for k in ("ssim_gaussian", "psnr", "mse")}
pair |= {"height": 32, "width": 32, "a": plain(arrays["pair3.a"]), "b": plain(arrays["pair3.b"])}
write("stats.json", {
    "versions": facts["versions"],
    "rank_correlation": facts["rank_correlation"],
    "binomial_intervals": facts["binomial_intervals"],
    "auc_cases": facts["auc_cases"],
    "delong": facts["delong"],
    "insertion_deletion": insdel,
    "pairs": [pair],
})

rng = np.random.default_rng(1)
oracle = {}

# Noisy linear imputation (Rong et al. 2022) as a dense system: each missing pixel is the weighted mean of its neighbours
# within the image.
WEIGHTS = [(dy, dx, 1 / 12 if dy and dx else 1 / 6) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx]


def impute(image, known):
    c, h, w = image.shape
    matrix, right = np.eye(h * w), image.reshape(c, -1).T.astype(np.float64).copy()
    for p in np.flatnonzero(~known):
        y, x = divmod(int(p), w)
        near = [(y + dy, x + dx, k) for dy, dx, k in WEIGHTS if 0 <= y + dy < h and 0 <= x + dx < w]
        total = sum(k for *_, k in near)
        right[p] = 0
        for v, u, k in near:
            matrix[p, v * w + u] = -k / total
    return np.linalg.solve(matrix, right).T.reshape(c, h, w)


image = rng.random((3, 9, 7)).astype(np.float32)
cases = []
for share in (0.2, 0.6, 0.95):
    known = rng.random(63) >= share
    known[11] = True
    cases.append({"known": known.astype(int).tolist(), "values": plain(impute(image, known), 12)})
oracle["impute"] = {"image": plain(image), "cases": cases}

score_map = rng.normal(size=63).astype(np.float32)
weights = rng.normal(size=image.size)
order = np.argsort(-score_map)
percentiles = [10.0, 35.0, 50.0, 90.0]
morf, lerf = [], []
for p in percentiles:
    count = int(np.floor(p / 100 * 63 + 0.5))
    for curve, gone in ((morf, order[:count]), (lerf, order[63 - count:])):
        known = np.ones(63, bool)
        known[gone] = False
        curve.append(float(impute(image, known).ravel() @ weights))
combined = float(np.mean((np.array(lerf) - np.array(morf)) / 2))
oracle["road"] = {
    "image": plain(image), "map": plain(score_map), "weights": weights.tolist(), "percentiles": percentiles,
    "morf": morf, "lerf": lerf, "combined": combined,
}

# Distributions: the arguments, then the value.
oracle["special"] = {
    "norm.cdf": [[z, st.norm.cdf(z)] for z in (-8.0, -3.5, -1.0, 0.3, 2.0)],
    "norm.ppf": [[p, st.norm.ppf(p)] for p in (1e-9, 0.005, 0.31, 0.9, 0.975, 0.99999)],
    "two_sided": [[z, 2 * st.norm.sf(z)] for z in (0.1, 1.0, 1.96, 4.0, 9.0)],
    "chi2.sf": [[x, k, st.chi2.sf(x, k)] for x, k in ((0.3, 1.0), (2.0, 2.0), (11.0, 4.0), (40.0, 7.0), (90.0, 9.0))],
    "beta.ppf": [[a, b, p, st.beta.ppf(p, a, b)] for a, b, p in (
        (1.0, 10.0, 0.025), (7.0, 4.0, 0.975), (51.0, 950.0, 0.025), (1.0, 5000.0, 0.5), (2500.0, 2501.0, 0.995))],
    "studentized_range.ppf": [[k, p, st.studentized_range.ppf(p, k, np.inf)] for k, p in (
        (2, 0.95), (3, 0.95), (3, 0.9), (7, 0.99), (12, 0.95))],
}

# Bootstrap limits: scipy.stats.bootstrap on 25 skewed values, its own resamples given.
oracle["bootstrap"] = []
sample = np.round(rng.lognormal(size=25), 3)
for statistic in (np.mean, np.var):
    kept = dict(n_resamples=199, confidence_level=0.9, vectorized=True, axis=-1)
    found = st.bootstrap((sample,), statistic, method="BCa", rng=np.random.default_rng(5), **kept)
    values = found.bootstrap_distribution
    oracle["bootstrap"].append({
        "value": float(statistic(sample)),
        "jackknife": [float(statistic(np.delete(sample, i))) for i in range(25)],
        "resampled": values.tolist(),
        "percentile": np.percentile(values, [5, 95]).tolist(),
        "bca": list(map(float, found.confidence_interval)),
    })

# scipy.stats.permutation_test(permutation_type="samples") of the mean, all patterns.
oracle["sign_flip"] = []
for n in (5, 9, 12):
    d = np.round(rng.normal(0.4, 1.0, n), 1)
    found = st.permutation_test((d,), np.mean, permutation_type="samples", n_resamples=9999, vectorized=False)
    oracle["sign_flip"].append({"differences": d.tolist(), "p": float(found.pvalue)})

# scipy.stats.wilcoxon(d, zero_method="wilcox"): exact, or method="asymptotic", correction=True.
oracle["wilcoxon"] = []
for n, digits, centre in ((6, 6, 1.0), (20, 6, 0.5), (50, 6, 0.1), (51, 6, 0.4), (14, 1, 0.5), (30, 1, 0.2), (200, 1, 0.3)):
    d = np.round(rng.normal(centre, 1.0, n), digits)
    if n == 30:
        d[:3] = 0
    exact = n <= 50 and len(np.unique(np.abs(d))) == n and 0 not in d
    method = "exact" if exact else "asymptotic"
    found = st.wilcoxon(d, zero_method="wilcox", correction=True, method=method)
    oracle["wilcoxon"].append({
        "differences": d.tolist(), "exact": exact, "statistic": float(found.statistic), "p": float(found.pvalue)})

# scipy.stats.friedmanchisquare, without and with ties.
oracle["friedman"] = []
for n, k, digits in ((12, 4, 6), (30, 5, 0)):
    blocks = np.round(rng.normal(size=(n, k)) + np.linspace(0, 0.8, k), digits) + 0.0
    found = st.friedmanchisquare(*blocks.T)
    oracle["friedman"].append({
        "blocks": blocks.tolist(), "statistic": float(found.statistic), "p": float(found.pvalue),
        "mean_ranks": st.rankdata(blocks, axis=1).mean(0).tolist()})

write("oracle.json", json.loads(json.dumps(oracle, default=float)))
