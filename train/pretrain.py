"""Gives a fresh policy eyes and words before train.py teaches it to move.

    python3 train/pretrain.py --data DIR --out CHECKPOINT --seed 1

A published vision-language model brings both; a policy of three million parameters that starts from
random weights finds them late, since one colour word among 180 tokens weighs next to nothing at first.
Two stages, each with linear readouts that are thrown away afterwards:

sight: the mean of the projected patches tells, for every colour, whether its cube lies there and which
pose reaches it. Patches are centred and scaled on the way, and the projector's last layer is changed to
do the same at the end, lest RMSNorm drown what differs between them in what they share.

words: action slots tell after the first Llama layer which joint and row they are, which colour the
instruction names and how the arms stand; after the second the poses of all cubes and that of the named
one; after the third their own joint's place and goal; after the last their own action's value, while the
action tokens themselves are trained as train.py does it. The towers are frozen, so that
their patches are made once; a sample has a random choice of the slots, at their own positions. Every
cube of a scene is named, one sample each: the same patches, other words.

Run it with the environment that train.py asks for.
"""

import argparse
import math
import os
import shutil
import sys
import time

import numpy
import torch
from torch import nn
from torch.nn import functional as F

from ddvla import checkpoint, data, initialise, model
from ddvla.prompt import Tokenizer
from train import Samples, loss_of, validate

HERE = os.path.dirname(os.path.abspath(__file__))


def rms(x):
    """What every Llama layer makes of its input first."""
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


class Scenes:
    """Goals in units of their standard deviation over the data; every cube of a scene is a sample."""

    def __init__(self, demonstrations, statistics, tokenizer, scale=None):
        self.images = demonstrations.images
        goals = numpy.array(demonstrations.goals)
        self.there = torch.from_numpy(~numpy.isnan(goals[:, :, 0]))
        if scale is None:
            scale = numpy.nanmean(goals, (0, 1)), numpy.nanstd(goals, (0, 1)) + 1e-6
        self.scale = scale
        self.goals = torch.from_numpy(numpy.nan_to_num((goals - scale[0]) / scale[1])).float()
        proprio = data.normalise(demonstrations.proprio, statistics["proprio"])
        self.proprio = torch.from_numpy(proprio)
        colours = demonstrations.meta["colours"]
        texts, chunks = demonstrations.variants()
        normalised = data.normalise(numpy.where(numpy.isnan(chunks[:, :, :1, :1]), 0, chunks), statistics["action"])
        bins = torch.from_numpy(data.bins(normalised).reshape(*chunks.shape[:2], -1).astype("i2"))
        by_length = {}
        for scene, variants in enumerate(texts):
            order = [demonstrations.colours[scene]] + [c for c in colours if c != demonstrations.colours[scene]]
            for variant, text in enumerate(variants):
                if text is not None:
                    prompt = tokenizer.prompt(text)
                    sample = scene, variant, colours.index(order[variant]), prompt
                    by_length.setdefault(len(prompt), []).append(sample)
        self.bins = bins
        self.groups = [
            (
                torch.tensor([s[0] for s in samples]), torch.tensor([s[1] for s in samples]),
                torch.tensor([s[2] for s in samples]), torch.tensor([s[3] for s in samples]),
            )
            for samples in by_length.values()
        ]  # fmt: skip

    def batches(self, size, random):
        """(scene, colour, prompt, bins) of equal prompt length, in random order."""
        parts = []
        for group, (scene, _, _, _) in enumerate(self.groups):
            order = random.permutation(len(scene))
            parts += [(group, order[i : i + size]) for i in range(0, len(order) - size + 1, size)]
        for i in random.permutation(len(parts)):
            group, index = parts[i]
            scene, variant, colour, prompt = (t[index] for t in self.groups[group])
            yield scene, colour, prompt, self.bins[scene, variant].long()


def trunk(net, prefix, prompt, tokens, slots):
    """Hidden states after every layer at the rows of some slots, and their action logits.

    tokens [B, S] are the bins of the slots [B, S] (-1: masked). A slot keeps its own position, the others
    are left out of the sequence. The row of a slot is read for the token after it.
    """
    sizes, llama = net.sizes, net.language_model.model
    ids = torch.where(tokens < 0, torch.full_like(tokens, sizes.mask_id), net.bin_id(tokens))
    embedded = llama.embed_tokens(torch.cat([prompt, ids], dim=1))
    x = torch.cat([embedded[:, :1], prefix, embedded[:, 1:]], dim=1)
    first = prefix.shape[1] + prompt.shape[1]
    positions = torch.cat([torch.arange(first).expand(len(prompt), -1), first + slots], dim=1)
    cos, sin = model.rope_tables(positions, sizes.hidden // sizes.heads, sizes.rope_theta)
    states = []
    for layer in llama.layers:
        x = layer(x, cos, sin)
        states.append(rms(x[:, first - 1 :]))
    head = net.language_model.lm_head.weight[sizes.vocab - model.BINS : sizes.vocab].flip(0)
    return states, F.linear(llama.norm(x[:, first - 1 :]), head)


class Readouts(nn.Module):
    def __init__(self, hidden, colours, dims, rows):
        super().__init__()
        self.colours, self.dims = colours, dims
        self.sight = nn.Linear(hidden, colours * (dims + 1))
        # Of the trunk, by layer.
        self.word = nn.Linear(hidden, colours)
        self.pose = nn.Linear(hidden, dims)
        self.dim = nn.Linear(hidden, dims)
        self.row = nn.Linear(hidden, rows)
        self.all = nn.Linear(hidden, colours * (dims + 1))
        self.named = nn.ModuleList(nn.Linear(hidden, dims) for _ in range(2))
        self.own = nn.ModuleList(nn.Linear(hidden, 2) for _ in range(2))
        self.value = nn.Linear(hidden, 1)

    def poses_loss(self, out, goals, there):
        """Squared error of the poses of cubes that are there, in deviations, and of presence."""
        out = out.unflatten(-1, (self.colours, self.dims + 1))
        error = (out[..., 1:] - goals).pow(2).mean(-1)
        there = there.float().expand(error.shape)
        error = (error * there).sum() / there.sum()
        return error, F.binary_cross_entropy_with_logits(out[..., 0], there)


class Clock:
    def __init__(self, minutes):
        self.start, self.minutes, self.step = time.monotonic(), minutes, 0

    def done(self):
        return (time.monotonic() - self.start) / 60 / self.minutes

    def rate(self, peak, warmup=100):
        self.step += 1
        fall = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, self.done())))
        return peak * min(1.0, self.step / warmup) * fall


def optimise(optimiser, parameters, loss, rate):
    for group in optimiser.param_groups:
        group["lr"] = rate * group.get("times", 1.0)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimiser.step()


def see(net, images):
    """Projected patches [B, N, hidden] of images [B, cameras, size, size, 3], without the proprio token."""
    return net.prefix(torch.from_numpy(numpy.array(images)), None, mutate="no_proprio")


def centred(patches):
    """Patches without what all share, at unit width: what folding the two into fc3 will make of them."""
    patches = patches - patches.mean((0, 1))
    return patches * torch.rsqrt(patches.pow(2).mean() + 1e-6)


def sight(net, readouts, scenes, held_out, arguments, random, log):
    parameters = [*net.vision_backbone.parameters(), *net.projector.parameters(), *readouts.sight.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=1e-3, betas=(0.9, 0.98), weight_decay=0.02)
    clock, running, count = Clock(arguments.sight), [], len(scenes.images)
    order = numpy.array([], dtype=int)
    while clock.done() < 1:
        if len(order) < arguments.sight_batch:
            order = random.permutation(count)
        index, order = order[: arguments.sight_batch], order[arguments.sight_batch :]
        seen = readouts.sight(rms(centred(see(net, scenes.images[index]))).mean(1))
        error, presence = readouts.poses_loss(seen, scenes.goals[index], scenes.there[index])
        optimise(optimiser, parameters, error + presence, clock.rate(arguments.sight_rate))
        running.append((float(error), float(presence)))
        if clock.step % 50 == 0:
            error, presence = numpy.mean(running, 0)
            minutes = clock.done() * arguments.sight
            log(f"sight step {clock.step} minutes {minutes:.1f} error {error**0.5:.3f} presence {presence:.4f}")
            running = []
    with torch.no_grad():
        looked = min(512, len(held_out.images))
        patches = torch.cat([see(net, held_out.images[i : min(i + 64, looked)]) for i in range(0, looked, 64)])
        seen = readouts.sight(rms(centred(patches)).mean(1))
        error, presence = readouts.poses_loss(seen, held_out.goals[:looked], held_out.there[:looked])
        log(f"sight held out: error {float(error) ** 0.5:.3f} deviations, presence {float(presence):.4f}")
        # Fold what all patches share into the bias, and their width into the weight.
        last, common = net.projector.fc3, patches.mean((0, 1))
        width = (patches - common).pow(2).mean().sqrt()
        log(f"sight: common part {float(common.norm()):.2f}, width {float(width):.3f}")
        last.bias.sub_(common)
        last.weight.mul_(arguments.width / width)
        last.bias.mul_(arguments.width / width)


def cache(net, scenes):
    with torch.no_grad():
        return torch.cat([
            see(net, scenes.images[i : i + 64]).half() for i in range(0, len(scenes.images), 64)
        ])  # fmt: skip


def choose(batch, slots, count, generator):
    """[batch, count] sorted distinct slots."""
    return torch.rand(batch, slots, generator=generator).argsort(1)[:, :count].sort(1)[0]


def words(net, readouts, scenes, held_out, arguments, random, generator, check, save, log):
    patches, patches_held_out = cache(net, scenes), cache(net, held_out)
    log(f"words: patches of {len(patches)} scenes made")
    head = net.language_model.lm_head
    parameters = [
        *net.language_model.model.parameters(), *net.proprio_projector.parameters(), *readouts.parameters(),
    ]  # fmt: skip
    optimiser = torch.optim.AdamW(
        [{"params": parameters}, {"params": head.parameters(), "times": arguments.head_rate}],
        lr=1e-3, betas=(0.9, 0.98), weight_decay=0.02,
    )  # fmt: skip
    parameters = [*parameters, *head.parameters()]
    slots = net.sizes.slots

    def pass_(scenes, patches, scene, colour, prompt, bins, generator, whole, sigma):
        prefix = torch.cat([patches[scene].float(), net.proprio_projector(scenes.proprio[scene]).unsqueeze(1)], dim=1)
        chosen = choose(len(scene), slots - 1, arguments.slots, generator)
        hidden = torch.rand(chosen.shape, generator=generator) < torch.rand(len(scene), 1, generator=generator)
        hidden[torch.rand(len(scene), generator=generator) < whole] = True
        states, logits = trunk(net, prefix, prompt, bins.gather(1, chosen).masked_fill(hidden, -1), chosen)
        # Row 0 is the last prompt token, which tells slot 0; the row of slot i tells slot i + 1.
        target = torch.cat([bins[:, :1], bins.gather(1, chosen + 1)], dim=1)
        told = torch.cat([torch.zeros_like(chosen[:, :1]), chosen + 1], dim=1)
        row, dim = told // readouts.dims, told % readouts.dims
        pose, goal = scenes.proprio[scene], scenes.goals[scene, colour]
        own = torch.stack([pose.gather(1, dim), goal.gather(1, dim)], dim=-1)
        value = (2 * target + 1) / model.BINS - 1
        losses = {
            "word": F.cross_entropy(readouts.word(states[0]).flatten(0, 1), colour.repeat_interleave(told.shape[1])),
            "pose": (readouts.pose(states[0]) - pose.unsqueeze(1)).pow(2).mean(),
            "dim": F.cross_entropy(readouts.dim(states[0]).flatten(0, 1), dim.flatten()),
            "row": F.cross_entropy(readouts.row(states[0]).flatten(0, 1), row.flatten()),
        }
        losses["places"], losses["there"] = readouts.poses_loss(
            readouts.all(states[1]), scenes.goals[scene].unsqueeze(1), scenes.there[scene].unsqueeze(1)
        )
        for i, read in enumerate(readouts.named):
            losses[f"named{i}"] = (read(states[1 + i]) - goal.unsqueeze(1)).pow(2).mean()
        for i, read in enumerate(readouts.own):
            losses[f"own{i}"] = (read(states[2 + i]) - own).pow(2).mean()
        losses["value"] = (readouts.value(states[3]).squeeze(-1) - value).pow(2).mean()
        losses["action"] = loss_of(logits, target, torch.ones_like(target, dtype=torch.bool), sigma)
        losses["hard"] = F.cross_entropy(logits.detach().flatten(0, 1), target.flatten())
        return losses

    clock, running = Clock(arguments.words), []
    weights = {"action": 0.0, "hard": 0.0, "there": 0.2, "dim": 0.5, "row": 0.5}
    checked = 0.0
    batches = iter(())
    while clock.done() < 1:
        batch = next(batches, None)
        if batch is None:
            batches = scenes.batches(arguments.batch, random)
            continue
        sigma = arguments.soften * (1 - clock.done() / 0.8)
        losses = pass_(scenes, patches, *batch, generator, 0.5, sigma)
        guide = max(0.1, 1 - clock.done() / 0.7)  # from the readouts to the action tokens
        total = losses["action"] + guide * sum(weights.get(name, 1.0) * loss for name, loss in losses.items())
        optimise(optimiser, parameters, total, clock.rate(arguments.words_rate))
        running.append([float(loss) for loss in losses.values()])
        if clock.step % 50 == 0:
            values = " ".join(f"{n} {v:.3f}" for n, v in zip(losses, numpy.mean(running, 0)))
            minutes = clock.done() * arguments.words
            log(f"words step {clock.step} minutes {minutes:.1f} sigma {max(sigma, 0):.2f} {values}")
            running = []
        if (clock.done() - checked) * arguments.words > arguments.every or clock.done() >= 1:
            checked = clock.done()
            with torch.no_grad():
                found = [
                    [float(loss) for loss in pass_(held_out, patches_held_out, *b, generator, 1.0, 0.0).values()]
                    for b, _ in zip(held_out.batches(64, numpy.random.default_rng(0)), range(8))
                ]
            log("words held out: " + " ".join(f"{n} {v:.3f}" for n, v in zip(losses, numpy.mean(found, 0))))
            check()
            save()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--held-out", required=True)
    parser.add_argument("--out", required=True, help="checkpoint directory")
    parser.add_argument("--init", help="checkpoint whose sight is learned already")
    parser.add_argument("--key", default="cobot_magic_reach", help="name of the data in dataset_statistics.json")
    parser.add_argument("--tokenizer", default=os.path.join(HERE, "..", "policies", "tiny-reach", "tokenizer.model"))
    parser.add_argument("--log")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sight", type=float, default=6, help="minutes")
    parser.add_argument("--sight-batch", type=int, default=32)
    parser.add_argument("--sight-rate", type=float, default=1e-3)
    parser.add_argument("--width", type=float, default=0.5, help="of a patch, the mean token being 0.5 too")
    parser.add_argument("--words", type=float, default=20, help="minutes")
    parser.add_argument("--words-rate", type=float, default=1.5e-3)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--head-rate", type=float, default=4.0, help="of lm_head, relative")
    parser.add_argument("--soften", type=float, default=6.0, help="first width of the action targets, in bins")
    parser.add_argument("--every", type=float, default=4, help="minutes between checks of the second stage")
    parser.add_argument("--slots", type=int, default=28, help="action slots of a sample in the second stage")
    arguments = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    torch.manual_seed(arguments.seed)
    log_file = open(arguments.log, "a", encoding="utf-8") if arguments.log else None

    def log(line):
        print(line, flush=True)
        if log_file:
            print(line, file=log_file, flush=True)

    log("# pretrain.py " + " ".join(sys.argv[1:]))
    demonstrations, held_out = data.Demonstrations(arguments.data), data.Demonstrations(arguments.held_out)
    statistics = demonstrations.statistics(arguments.key)
    tokenizer = Tokenizer(arguments.tokenizer)
    part = statistics[arguments.key]
    scenes = Scenes(demonstrations, part, tokenizer)
    scenes_held_out = Scenes(held_out, part, tokenizer, scenes.scale)
    cameras, slots = demonstrations.images.shape[1], demonstrations.chunk * demonstrations.dims
    if arguments.init:
        net = model.load(arguments.init, cameras, slots).train()
    else:
        side = demonstrations.images.shape[2]
        sizes = model.Sizes(image=side, images=cameras, proprio=demonstrations.dims, slots=slots)
        net = model.DDVLA(sizes, model.IMAGE_MEAN, model.IMAGE_STD)
        initialise.for_training(net, arguments.seed)
    colours = len(demonstrations.meta["colours"])
    readouts = Readouts(net.sizes.hidden, colours, demonstrations.dims, demonstrations.chunk)
    random = numpy.random.default_rng(arguments.seed)
    generator = torch.Generator().manual_seed(arguments.seed)

    def save():
        net.save(arguments.out, torch.float32)
        checkpoint.write_json(os.path.join(arguments.out, "dataset_statistics.json"), statistics)
        shutil.copyfile(arguments.tokenizer, os.path.join(arguments.out, "tokenizer.model"))

    if not arguments.init:
        sight(net, readouts, scenes, scenes_held_out, arguments, random, log)
        save()
    samples_held_out = Samples(held_out, part, tokenizer)

    def check():
        loss, error, named = validate(net, samples_held_out, held_out, part["action"], 256)
        log(f"held out: loss {loss:.4f} last row error {error:.4f} rad named {named:.3f}")

    words(net, readouts, scenes, scenes_held_out, arguments, random, generator, check, save, log)


if __name__ == "__main__":
    main()
