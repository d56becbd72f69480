"""Action values and the bins that stand for them, as openvla-oft has them."""

import numpy

EDGES = numpy.linspace(-1.0, 1.0, 256)
CENTRES = (EDGES[:-1] + EDGES[1:]) / 2


def bounds(part, kind):
    """The lower and upper bound of every dimension, and which dimensions have them."""
    names = {"bounds_q99": ("q01", "q99"), "bounds": ("min", "max")}[kind]
    low, high = (numpy.array(part[name], dtype=numpy.float64) for name in names)
    return low, high, numpy.array(part.get("mask") or [True] * len(low))


def check(part, info, kind):
    """Refuses one data set's statistics that do not fit the columns of dataset.json, or have bins of their own."""
    for key in ("action", "proprio"):
        want = len(info[key])
        have = {len(values) for values in bounds(part[key], kind)} if key in part else {0}
        if want and have != {want}:
            raise ValueError(f"its bounds are of {max(have)} columns of {key}, the data set has {want}")
    if any(part["action"].get("bin_edges") or []):
        raise ValueError("action.bin_edges has edges of bins, and this trainer makes bins of equal width")


def normalise(values, part, kind="bounds_q99"):
    """Robot units to [-1, 1] between bounds, clipped; unmasked dimensions are clipped alone. Without dimensions, as
    a model without proprio has, part may be None."""
    if values.shape[-1] == 0:
        return numpy.zeros(values.shape, numpy.float32)
    low, high, mask = bounds(part, kind)
    return numpy.clip(numpy.where(mask, 2 * (values - low) / (high - low + 1e-8) - 1, values), -1, 1).astype(numpy.float32)


def unnormalise(values, part, kind="bounds_q99"):
    low, high, mask = bounds(part, kind)
    return numpy.where(mask, 0.5 * (values + 1) * (high - low + 1e-8) + low, values)


def bins(values):
    """Normalised values to bins 0..255: token id V - digitize in openvla-oft, bin V - 1 - id here."""
    return numpy.digitize(numpy.clip(values, -1, 1), EDGES) - 1


def centres(bin_indices):
    """The 256 bins have 255 centres: the last bin, reached by exactly 1, shares that of its neighbour."""
    return CENTRES[numpy.minimum(bin_indices, len(CENTRES) - 1)]
