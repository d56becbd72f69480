"""Reads a data set with train/ddvla/dataset.py and prints what is in it, and NumPy's own statistics, as JSON.

python3 read.py TRAIN_DIR DATASET_DIR ROWS
"""

import hashlib
import json
import sys

import numpy

sys.path.insert(0, sys.argv[1])
sys.dont_write_bytecode = True
from ddvla import dataset  # noqa: E402

d, rows = dataset.Dataset(sys.argv[2]), int(sys.argv[3])


def columns(values):
    values = numpy.asarray(values, dtype=numpy.float64)
    return {
        "mean": values.mean(0).tolist(),
        "std": values.std(0).tolist(),
        "max": values.max(0).tolist(),
        "min": values.min(0).tolist(),
        "q01": numpy.quantile(values, 0.01, axis=0).tolist(),
        "q99": numpy.quantile(values, 0.99, axis=0).tolist(),
        "mask": [True] * values.shape[1],
    }


samples = []
for frame in range(d.frames):
    digest, instruction = "", d.episodes[int(d.episode_of(frame))]["instruction"]
    if d.picture_of(frame) >= 0:
        images, proprio, instruction, actions = d.sample(frame, rows)
        digest = hashlib.sha256(numpy.ascontiguousarray(images)).hexdigest()
    else:
        proprio, actions = d.proprio[frame], d.chunk(frame, rows)
        try:
            d.sample(frame, rows)
            raise SystemExit(f"frame {frame} has no pictures and is a sample all the same")
        except IndexError:
            pass
    samples.append(
        {
            "images": digest,
            "proprio": proprio.tolist(),
            "instruction": instruction,
            "actions": actions.ravel().tolist(),
        }
    )
together = d.chunk(numpy.arange(d.frames), rows)
assert together.shape == (d.frames, rows, len(d.info["action"])), together.shape
assert all(s["actions"] == c for s, c in zip(samples, together.reshape(d.frames, -1).tolist()))
statistics = {
    "action": columns(d.action),
    "num_transitions": d.frames,
    "num_trajectories": len(d.episodes),
}
if d.proprio.shape[1]:
    statistics["proprio"] = columns(d.proprio)
    firsts = numpy.asarray(d.proprio[[e["start"] for e in d.episodes]], dtype=numpy.float64)
    statistics["proprio"]["start"] = d.info.get("start") or numpy.quantile(firsts, 0.5, axis=0).tolist()
json.dump(
    {
        "samples": samples,
        "episodes": d.episodes,
        "name": d.info["name"],
        "written": d.statistics()[d.info["name"]],
        "numpy": statistics,
    },
    sys.stdout,
)
