"""Measures a policy on held-out scenes, decoded greedily in 12 rounds.

    python3 train/evaluate.py --checkpoint policies/tiny-reach --data HELD_OUT --n 512

Prints one JSON object: the error of the chunk's last row, absolute and against the mean motion of the
expert over a chunk, and the share of scenes in which the chunk ends nearer to the named object's chunk
than to any other object's. The same share is measured with every instruction replaced by one for
another object of the scene (how often the chunk follows the words it was given, and how often it still
goes to the first object), with an instruction that names nothing, and with the pictures of another
scene: without words or without sight it must fall to chance.
"""

import argparse
import json
import os

import numpy
import torch

from ddvla import checkpoint, data, decode, model
from ddvla.prompt import Tokenizer


def nearest(last_rows, demonstrations, scenes):
    """Which variant's chunk each row [n, dims] is nearest to, 0 being the named object; and chance."""
    ends = numpy.concatenate(
        [demonstrations.actions[scenes][:, None, -1], demonstrations.alternatives[scenes][:, :, -1]], axis=1
    )
    distance = ((last_rows[:, None] - ends) ** 2).sum(-1)
    return numpy.nanargmin(distance, axis=1), numpy.mean(1 / (~numpy.isnan(distance)).sum(1))


def decode_all(net, prompts, demonstrations, statistics, scenes, image_scenes, rounds, remask):
    """Chunks [n, chunk, dims] in robot units, in the order of scenes."""
    out = numpy.empty((len(scenes), demonstrations.chunk, demonstrations.dims))
    lengths = numpy.array([len(p) for p in prompts])
    for length in numpy.unique(lengths):
        rows = numpy.flatnonzero(lengths == length)
        for start in range(0, len(rows), 32):
            part = rows[start : start + 32]
            proprio = data.normalise(demonstrations.proprio[scenes[part]], statistics["proprio"])
            _, values = decode.greedy(
                net,
                torch.from_numpy(demonstrations.images[image_scenes[part]]),
                torch.tensor([prompts[i] for i in part]),
                torch.full((len(part),), int(length)),
                torch.from_numpy(proprio),
                rounds,
                remask,
            )
            values = values.numpy().reshape(len(part), demonstrations.chunk, demonstrations.dims)
            out[part] = data.unnormalise(values, statistics["action"])
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--n", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--remask", type=int, default=1, help="0: without secondary re-masking")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    demonstrations = data.Demonstrations(arguments.data)
    n = min(arguments.n, demonstrations.n)
    scenes = numpy.arange(n)
    net = model.load(arguments.checkpoint, demonstrations.images.shape[1], demonstrations.chunk * demonstrations.dims)
    statistics = checkpoint.read_json(os.path.join(arguments.checkpoint, "dataset_statistics.json"))
    ((key, part),) = statistics.items()
    tokenizer = Tokenizer(os.path.join(arguments.checkpoint, "tokenizer.model"))
    texts, _ = demonstrations.variants()
    texts = texts[:n]

    def run(instructions, image_scenes=scenes):
        prompts = [tokenizer.prompt(text) for text in instructions]
        chunks = decode_all(
            net, prompts, demonstrations, part, scenes, image_scenes, arguments.rounds, bool(arguments.remask)
        )
        return chunks, *nearest(chunks[:, -1], demonstrations, scenes)

    chunks, choice, chance = run([scene[0] for scene in texts])
    joints = [i for i, name in enumerate(demonstrations.meta["names"]) if "gripper" not in name]
    expert, start = demonstrations.actions[:n], demonstrations.proprio[:n]
    error = numpy.abs(chunks - expert)[..., joints]
    motion = numpy.abs(expert[:, -1] - start)[:, joints]
    result = {
        "checkpoint": arguments.checkpoint,
        "statistics": key,
        "scenes": n,
        "rounds": arguments.rounds,
        "remask": bool(arguments.remask),
        "last_row_error_rad": float(error[:, -1].mean()),
        "chunk_error_rad": float(error.mean()),
        "mean_motion_rad": float(motion.mean()),
        "last_row_error_of_motion": float(error[:, -1].mean() / motion.mean()),
        "last_row_error_rad_p95": float(numpy.quantile(error[:, -1], 0.95)),
        "named": float((choice == 0).mean()),
        "chance": float(chance),
    }
    # Another object of the same scene, named in the same words.
    other = [next(v for v in range(1, len(scene)) if scene[v] is not None) for scene in texts]
    _, choice, _ = run([scene[v] for scene, v in zip(texts, other)])
    result["other_instruction_follows"] = float((choice == numpy.array(other)).mean())
    result["other_instruction_named"] = float((choice == 0).mean())
    _, choice, _ = run(["move"] * n)
    result["no_instruction_named"] = float((choice == 0).mean())
    _, choice, _ = run([scene[0] for scene in texts], numpy.roll(scenes, 1))
    result["other_pictures_named"] = float((choice == 0).mean())
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
