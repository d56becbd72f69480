"""What float16 or bfloat16 do to a checkpoint's logits on a device: the exporter's damage report, from PyTorch.

    python3 train/bench_rounding.py --checkpoint policies/tiny-reach --device cuda --dtype fp16 --bundle BUNDLE

The report in a bundle's policy.json is computed in float32 on a CPU, with every result rounded to its type.
Here the same network runs in the type itself, on observations of the same kind and number (other draws: tiles of
noise, the same instructions, tokens all masked and half masked), and is compared with float32 on the device.
Prints the report's output_mean, output_largest and tokens_equal, with --bundle beside those of its manifest.
"""

import argparse
import json
import os

import numpy
import torch

from bench import DTYPES
from ddvla import checkpoint, model
from ddvla.prompt import Tokenizer

# Those of weights/observations.go.
INSTRUCTIONS = [
    "pick up the red cube", "open the drawer", "put the bowl on the plate", "close the left gripper",
    "fold the towel", "hand the cup to the right arm", "push the blue block to the left", "reach for the green cube",
]  # fmt: skip


def observations(sizes, tokenizer, random):
    """Arguments of DDVLA.logits, one observation a time: two rows, tokens all masked and half masked."""
    for instruction in INSTRUCTIONS:
        tiles = random.integers(0, 256, (sizes.images, 8, 8, 3))
        index = numpy.arange(sizes.image) * 8 // sizes.image
        pictures = tiles[:, index][:, :, index]
        pictures = numpy.clip(pictures + random.integers(-16, 17, pictures.shape), 0, 255).astype(numpy.uint8)
        tokens = numpy.full((2, sizes.slots), -1)
        known = random.permutation(sizes.slots)[: sizes.slots // 2]
        tokens[1, known] = random.integers(0, model.BINS, len(known))
        ids = tokenizer.prompt(instruction)
        proprio = random.uniform(-1, 1, max(sizes.proprio, 1)).astype(numpy.float32)
        rows = [numpy.stack([x, x]) for x in (pictures, numpy.array(ids), numpy.array(len(ids)), proprio)]
        yield [torch.from_numpy(x) for x in (*rows, tokens)]


def damage(checkpoint_directory, images, slots, device, dtype, seed=1):
    """output_mean, output_largest, tokens_equal of the type against float32, both on the device."""
    results, tokenizer = [], Tokenizer(os.path.join(checkpoint_directory, "tokenizer.model"))
    for kind in (torch.float32, dtype):
        net = model.load(checkpoint_directory, images, slots).to(kind).to(device)
        seen = observations(net.sizes, tokenizer, numpy.random.default_rng(seed))
        results.append([(net.logits(*(x.to(device) for x in given)).cpu(), given[-1] < 0) for given in seen])
    differences = torch.cat([(have - want).abs().flatten() for (want, _), (have, _) in zip(*results)])
    equal = torch.cat([(have.argmax(-1) == want.argmax(-1))[masked] for (want, masked), (have, _) in zip(*results)])
    return {
        "output_mean": float(differences.double().mean()),
        "output_largest": float(differences.max()),
        "tokens_equal": float(equal.double().mean()),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--bundle", help="an export of the checkpoint, whose manifest holds a report")
    parser.add_argument("--images", type=int, default=3)
    parser.add_argument("--slots", type=int, default=112, help="action tokens of a chunk")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", choices=["fp16", "bf16"], default="fp16")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    device = torch.device(arguments.device)
    found = {"here": damage(arguments.checkpoint, arguments.images, arguments.slots, device, DTYPES[arguments.dtype], arguments.seed)}
    if arguments.bundle:
        reported = checkpoint.read_json(os.path.join(arguments.bundle, "policy.json"))["damage"]
        found["report"] = {name: reported[name] for name in found["here"]}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
