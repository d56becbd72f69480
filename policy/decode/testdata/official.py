"""The decoding loop of Discrete Diffusion VLA's released code, written from a
description of it (prismatic/discrete_flow/parallel_decode.py: decode and
mask_by_random_topk), restricted to the action bins and with all noise given.
Nothing here is shared with the Go decoder.

official.py golden          writes official.json: random cases and their traces
official.py < cases.json    writes the traces of the cases it reads

Arrays are float32, little endian, in base64.
"""
import base64
import json
import sys

import numpy as np

f32 = np.float32


def decode(logits, token_noise, choice_noise, remask, start=None):
    """logits, token_noise [T, L, K]; choice_noise [T, L]; start [L], the ids before
    the first round, -1 where masked (all, where it is not given). The state after
    each round; the last is what the robot gets."""
    rounds, length, _ = logits.shape
    ids = np.full(length, -1) if start is None else np.array(start)
    unknown = ids < 0
    masked = int(unknown.sum())  # of this the schedule takes its shares
    states = []
    for s in range(rounds):
        x = logits[s]
        e = np.exp(x - x.max(-1, keepdims=True))
        p = e / e.sum(-1, keepdims=True)
        # A draw from the categorical distribution, by Gumbel's trick.
        drawn = np.argmax(x + token_noise[s], -1)
        sampled = np.where(unknown, drawn, ids)

        ratio = f32(s + 1) / f32(rounds)
        gamma = np.clip(np.cos(f32(np.pi / 2) * ratio), f32(1e-6), f32(1))
        m = int(np.floor(f32(masked) * gamma))
        m = max(1, min(m, masked - 1))

        own = p[np.arange(length), sampled]
        known_score = own * (f32(1) - ratio) if remask else np.full(length, np.inf, f32)
        score = np.where(unknown, own, known_score)
        with np.errstate(divide="ignore"):
            confidence = np.log(score + f32(1e-20)) + (f32(1) - ratio) * choice_noise[s]
        threshold = np.sort(confidence)[m]
        if s == rounds - 1:
            states.append(sampled)  # what the last round masks is never read
            break
        unknown = confidence < threshold
        ids = np.where(unknown, -1, sampled)
        states.append(ids)
    return np.stack(states)


def array(text, *shape):
    return np.frombuffer(base64.b64decode(text), "<f4").reshape(shape).astype(f32)


def text(a):
    return base64.b64encode(a.astype("<f4").tobytes()).decode()


def traces(cases):
    for c in cases:
        t, l, k = c["rounds"], c["positions"], c["bins"]
        c["trace"] = decode(array(c["logits"], t, l, k), array(c["token_noise"], t, l, k),
                            array(c["choice_noise"], t, l), c["remask"], c.get("start")).ravel().tolist()
    return cases


def golden():
    rng = np.random.default_rng(20508)
    sizes = [(12, 14, 8), (12, 21, 4), (8, 7, 16), (5, 2, 5), (4, 35, 3), (1, 6, 7), (2, 9, 9), (12, 12, 6)]
    # These start with tokens in place; the last number is how many are masked.
    starts = [(6, 9, 4, 1), (12, 14, 3, 9), (7, 12, 4, 11), (5, 11, 5, 6), (3, 2, 6, 1)]
    for i, (t, l, k, *masked) in enumerate(sizes + starts):
        case = {
            "rounds": t, "positions": l, "bins": k, "remask": i % 4 == 3,
            "logits": text(2 * rng.standard_normal((t, l, k))),
            "token_noise": text(rng.gumbel(size=(t, l, k))),
            "choice_noise": text(rng.gumbel(size=(t, l))),
        }
        for n in masked:
            start = rng.integers(k, size=l)
            start[rng.permutation(l)[:n]] = -1
            case["start"] = start.tolist()
        yield case


if __name__ == "__main__":
    if sys.argv[1:] == ["golden"]:
        cases = [json.dumps(c) for c in traces(list(golden()))]
        print("[\n" + ",\n".join(cases) + "\n]")
    else:
        json.dump([c["trace"] for c in traces(json.load(sys.stdin))], sys.stdout)
