"""Demonstrations as arrays on disk, and the action tokens made of them.

A data directory holds meta.json {n, cameras, size, chunk, dims, action_rate, names, seed},
instructions.json (n strings) and raw little-endian arrays: images.u8 [n, cameras, size, size, 3],
proprio.f32 [n, dims], actions.f32 [n, chunk, dims] (absolute joint targets, in robot units) and
optionally, where instructions name one of meta's `colours`, colours.json (the n colours named) and
alternatives.f32 [n, M, chunk, dims]: the chunks for the other colours, in the order of `colours`
without the named one, and goals.f32 [n, M + 1, dims]: the poses that all those chunks head for, in the
order of `colours`; both NaN where the scene has no such object.
"""

import os

import numpy

from . import checkpoint

EDGES = numpy.linspace(-1.0, 1.0, 256)
CENTRES = (EDGES[:-1] + EDGES[1:]) / 2


class Demonstrations:
    def __init__(self, directory):
        self.directory = directory
        self.meta = meta = checkpoint.read_json(os.path.join(directory, "meta.json"))
        self.instructions = checkpoint.read_json(os.path.join(directory, "instructions.json"))
        self.n, cameras, size = meta["n"], meta["cameras"], meta["size"]
        cameras = cameras if isinstance(cameras, int) else len(cameras)
        self.chunk, self.dims = meta["chunk"], meta["dims"]
        if len(self.instructions) != self.n:
            raise ValueError(f"{directory}: {len(self.instructions)} instructions for {self.n} samples")
        self.images = self._map("images.u8", "u1", (self.n, cameras, size, size, 3))
        self.proprio = self._map("proprio.f32", "<f4", (self.n, self.dims))
        self.actions = self._map("actions.f32", "<f4", (self.n, self.chunk, self.dims))
        self.alternatives = None
        if os.path.exists(os.path.join(directory, "alternatives.f32")):
            self.alternatives = self._map("alternatives.f32", "<f4", (self.n, -1, self.chunk, self.dims))
            self.goals = self._map("goals.f32", "<f4", (self.n, -1, self.dims))
            self.colours = checkpoint.read_json(os.path.join(directory, "colours.json"))

    def _map(self, name, dtype, shape):
        return numpy.memmap(os.path.join(self.directory, name), dtype=dtype, mode="r").reshape(shape)

    def variants(self):
        """Every instruction that each scene can answer: texts [n][V] and chunks [n, V, chunk, dims].

        The first is the demonstration itself. The others name another colour in the same words; where
        the scene lacks it the text is None.
        """
        if self.alternatives is None:
            return [[text] for text in self.instructions], self.actions[:, None]
        texts, present = [], ~numpy.isnan(self.alternatives[:, :, 0, 0])
        for text, named, there in zip(self.instructions, self.colours, present):
            others = [colour for colour in self.meta["colours"] if colour != named]
            texts.append([text] + [text.replace(named, c) if ok else None for c, ok in zip(others, there)])
        return texts, numpy.concatenate([self.actions[:, None], self.alternatives], axis=1)

    def statistics(self, key):
        """dataset_statistics.json as openvla-oft writes it."""

        def part(values):
            values = numpy.asarray(values, dtype=numpy.float64).reshape(-1, self.dims)
            return {
                "mean": values.mean(0).tolist(),
                "std": values.std(0).tolist(),
                "max": values.max(0).tolist(),
                "min": values.min(0).tolist(),
                "q01": numpy.quantile(values, 0.01, axis=0).tolist(),
                "q99": numpy.quantile(values, 0.99, axis=0).tolist(),
            }

        action, proprio = part(self.actions), part(self.proprio)
        action["mask"] = [True] * self.dims
        return {
            key: {
                "action": action,
                "proprio": proprio,
                "num_transitions": self.n,
                "num_trajectories": self.meta.get("trajectories", self.n),
            }
        }


def normalise(values, part):
    """Robot units to [-1, 1] between the quantiles q01 and q99, clipped (bounds_q99)."""
    low, high = numpy.array(part["q01"]), numpy.array(part["q99"])
    return numpy.clip(2 * (values - low) / (high - low + 1e-8) - 1, -1, 1).astype(numpy.float32)


def unnormalise(values, part):
    low, high = numpy.array(part["q01"]), numpy.array(part["q99"])
    return 0.5 * (values + 1) * (high - low + 1e-8) + low


def bins(values):
    """Normalised values to bins 0..255: token id V - digitize in openvla-oft, bin V - 1 - id here."""
    return numpy.digitize(numpy.clip(values, -1, 1), EDGES) - 1


def centres(bin_indices):
    """The 256 bins have 255 centres: the last bin, reached by exactly 1, shares that of its neighbour."""
    return CENTRES[numpy.minimum(bin_indices, len(CENTRES) - 1)]
