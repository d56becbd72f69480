"""Bins and normalisation in NumPy, as openvla-oft's own code computes them: a second opinion.

Reads one JSON object from standard input, writes one to standard output.
"""
import json
import sys

import numpy as np

job = json.load(sys.stdin)
edges = np.linspace(-1, 1, job["bins"])
centres = (edges[:-1] + edges[1:]) / 2
low, high = np.array(job["low"]), np.array(job["high"])
mask = np.array(job["mask"])

raw = np.array(job["raw"])
digits = np.digitize(np.clip(raw, -1, 1), edges)

# Token ids fall as values rise; V is any vocabulary size.
v = 32000
ids = v - np.array(job["decode"]) - 1
indices = np.clip(v - ids - 1, 0, centres.shape[0] - 1)
decoded = centres[indices].reshape(-1, len(low))
actions = np.where(mask, 0.5 * (decoded + 1) * (high - low + 1e-8) + low, decoded)

state = np.array(job["state"]).reshape(-1, len(low))
scaled = np.clip(np.where(mask, 2 * (state - low) / (high - low + 1e-8) - 1, state), -1.0, 1.0)

json.dump({
    "ids": (v - digits).tolist(),
    "actions": actions.ravel().tolist(),
    "scaled": scaled.ravel().tolist(),
    "digits": np.digitize(scaled.ravel(), edges).tolist(),
}, sys.stdout)
