"""Writes a random checkpoint in the published layout, for tests of everything that reads one.

    python3 train/make_random.py --out DIR --seed 7 [--hidden 40 --layers 3 ...]

Every tensor matters (LayerScale is not 1, biases are not 0, the registers are large) and the logits
of a random observation have a standard deviation of --logit-std. The sizes default to small odd
ones; --tiny-reach takes those of policies/tiny-reach. Prints one JSON line with what no file of a
checkpoint says: the number of images and of action tokens.
"""

import argparse
import json
import os
import shutil

import torch

from ddvla import checkpoint, initialise, model

DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
TINY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "policies", "tiny-reach")


def observation(sizes, seed, batch=2, prompt=7):
    """A random observation: arguments of DDVLA.logits, with padded prompts and some tokens known."""
    generator = torch.Generator().manual_seed(seed)

    def integers(low, high, *shape):
        return torch.randint(low, high, shape, generator=generator)

    ids = integers(3, sizes.vocab - model.BINS, batch, prompt)
    ids[:, 0] = 1
    lengths = prompt - torch.arange(batch) % min(3, prompt - 1)
    ids[torch.arange(prompt).expand(batch, -1) >= lengths[:, None]] = sizes.pad_id
    known = integers(0, 2, batch, sizes.slots).bool()
    tokens = torch.where(known, integers(0, model.BINS, batch, sizes.slots), torch.tensor(-1))
    images = integers(0, 256, batch, sizes.images, sizes.image, sizes.image, 3).to(torch.uint8)
    proprio = torch.rand(batch, max(sizes.proprio, 1), generator=generator) * 2 - 1
    return images, ids, lengths, proprio, tokens


def statistics(action_dims, proprio_dims, seed):
    generator = torch.Generator().manual_seed(seed)

    def part(dims):
        low = -torch.rand(dims, generator=generator) - 0.1
        high = torch.rand(dims, generator=generator) + 0.1
        middle = (low + high) / 2
        values = {"mean": middle, "std": (high - low) / 4, "max": high * 1.1, "min": low * 1.1, "q01": low, "q99": high}
        return {name: value.tolist() for name, value in values.items()}

    action, proprio = part(action_dims), part(max(proprio_dims, 1))
    action["mask"] = [True] * action_dims
    return {"random": {"action": action, "proprio": proprio, "num_transitions": 100, "num_trajectories": 10}}


def sizes_of(arguments):
    if arguments.tiny_reach:
        return model.Sizes(proprio=arguments.proprio if arguments.proprio is not None else 14)
    return model.Sizes(
        vocab=arguments.vocab,
        pad_id=arguments.vocab,
        mask_id=arguments.vocab + 1,
        image=arguments.image,
        patch=arguments.patch,
        images=arguments.images,
        hidden=arguments.hidden,
        layers=arguments.layers,
        heads=arguments.heads,
        intermediate=arguments.intermediate,
        eps=arguments.eps,
        proprio=arguments.proprio if arguments.proprio is not None else 5,
        slots=arguments.slots,
        dino=model.ViTSizes(
            arguments.dino_dim, arguments.dino_depth, arguments.dino_heads, arguments.dino_mlp,
            registers=arguments.registers, cls=True, layer_scale=True,
        ),
        siglip=model.ViTSizes(
            arguments.siglip_dim, arguments.siglip_depth, arguments.siglip_heads, arguments.siglip_mlp, attn_pool=True
        ),
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--dtype", choices=sorted(DTYPES), default="bf16")
    parser.add_argument("--shards", type=int, default=1)
    parser.add_argument("--logit-std", type=float, default=2.0)
    parser.add_argument("--tiny-reach", action="store_true", help="the sizes of policies/tiny-reach")
    parser.add_argument("--proprio", type=int, default=None, help="dimensions, 0 for a model without; default 5")
    for name, default in {
        "vocab": 1024, "image": 28, "patch": 7, "images": 2, "slots": 21, "dims": 7,
        "hidden": 40, "layers": 3, "heads": 2, "intermediate": 56,
        "dino-dim": 24, "dino-depth": 3, "dino-heads": 3, "dino-mlp": 40, "registers": 3,
        "siglip-dim": 36, "siglip-depth": 4, "siglip-heads": 2, "siglip-mlp": 44,
    }.items():  # fmt: skip
        parser.add_argument("--" + name, type=int, default=default)
    parser.add_argument("--eps", type=float, default=1e-6)
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    sizes = sizes_of(arguments)
    net = model.DDVLA(sizes, model.IMAGE_MEAN, model.IMAGE_STD).eval()
    initialise.for_comparison(net, arguments.seed, arguments.logit_std, observation(sizes, arguments.seed))
    net.save(arguments.out, DTYPES[arguments.dtype], arguments.shards)
    dims = 14 if arguments.tiny_reach else arguments.dims
    checkpoint.write_json(
        os.path.join(arguments.out, "dataset_statistics.json"), statistics(dims, sizes.proprio, arguments.seed)
    )
    shutil.copyfile(os.path.join(TINY, "tokenizer.model"), os.path.join(arguments.out, "tokenizer.model"))
    print(json.dumps({"images": sizes.images, "slots": sizes.slots, "dims": dims, "proprio": sizes.proprio, "image": sizes.image}))


if __name__ == "__main__":
    main()
