"""Trains a policy from scratch, or fine-tunes one, by masked cross-entropy on demonstrations.

    python3 train/train.py --data DIR --out CHECKPOINT --steps 20000 --seed 1

Each sample gets a mask ratio cos(pi u / 2), u uniform, and at least one masked action token; the loss
is cross-entropy over the 256 action tokens at the masked positions (arXiv 2508.20072). Two things are
ours, for small models and short runs: a share of the samples is masked whole (--whole), since that is
what the first decoding round sees, and targets start as Gaussians over neighbouring bins and harden
(--soften), since bins are ordered. The saved weights are an exponential mean of the trained ones.

The run can be stopped at any time: --out holds a whole checkpoint, --state what --resume needs. One
core is used; run it with OMP_NUM_THREADS=1, and with MALLOC_MMAP_THRESHOLD_, MALLOC_TRIM_THRESHOLD_
and MALLOC_TOP_PAD_ at 1073741824, which spares the allocator a page fault per 4 KiB of activations.
"""

import argparse
import math
import os
import shutil
import sys
import time

import numpy
import torch
from torch.nn import functional as F

from ddvla import checkpoint, data, decode, initialise, model
from ddvla.prompt import Tokenizer

HERE = os.path.dirname(os.path.abspath(__file__))


class Samples:
    """Demonstrations as the tensors that the model takes, in batches of equal prompt length.

    A scene whose other objects' chunks are known gives two samples to a batch, its own instruction
    and another: the pictures are the same, so only the words can tell the chunks apart.
    """

    def __init__(self, demonstrations, statistics, tokenizer, limit=None):
        texts, chunks = demonstrations.variants()
        texts, chunks = texts[:limit], chunks[:limit]
        self.images = demonstrations.images
        self.proprio = torch.from_numpy(data.normalise(demonstrations.proprio, statistics["proprio"]))
        missing = numpy.isnan(chunks[:, :, :1, :1])
        normalised = data.normalise(numpy.where(missing, 0, chunks), statistics["action"])
        self.bins = torch.from_numpy(data.bins(normalised).reshape(*chunks.shape[:2], -1).astype("i2"))
        known = {text: tokenizer.prompt(text) for scene in texts for text in scene if text is not None}
        self.prompts = [[known.get(text) for text in scene] for scene in texts]
        # Alternatives of another length than the demonstration's cannot share its batch.
        self.others = [
            [v for v, p in enumerate(scene) if v > 0 and p is not None and len(p) == len(scene[0])]
            for scene in self.prompts
        ]

    def __len__(self):
        return len(self.prompts)

    def batch(self, scenes, random=None):
        """Arguments of the model and the bins: pictures once a scene, the rest once a sample.

        Without random only the demonstrations themselves. The last result says which scene of the
        batch each sample belongs to.
        """
        pairs = [(scene, 0) for scene in scenes]
        if random is not None:
            pairs += [(scene, random.choice(self.others[scene])) for scene in scenes if self.others[scene]]
        row = {scene: i for i, scene in enumerate(scenes)}
        ids = torch.tensor([self.prompts[scene][variant] for scene, variant in pairs])
        bins = torch.stack([self.bins[scene, variant] for scene, variant in pairs]).long()
        images = torch.from_numpy(self.images[scenes])
        length = torch.full((len(pairs),), ids.shape[1])
        return images, ids, length, self.proprio[scenes], bins, torch.tensor([row[scene] for scene, _ in pairs])

    def epoch(self, size, random):
        """Index arrays of one epoch: every scene once, but for remainders of less than half a batch."""
        lengths, batches = numpy.array([len(p[0]) for p in self.prompts]), []
        for length in numpy.unique(lengths):
            indices = random.permutation(numpy.flatnonzero(lengths == length))
            parts = [indices[i : i + size] for i in range(0, len(indices), size)]
            batches += [part for part in parts if 2 * len(part) >= size]
        return [batches[i] for i in random.permutation(len(batches))]


def draw_mask(batch, slots, whole, generator):
    """[batch, slots] bool, true where a token is hidden."""
    ratio = torch.cos(math.pi / 2 * torch.rand(batch, generator=generator))
    count = (slots * ratio).round().clamp(min=1)
    count[torch.rand(batch, generator=generator) < whole] = slots
    order = torch.rand(batch, slots, generator=generator).argsort(1).argsort(1)
    return order < count.unsqueeze(1)


def target_table(sigma):
    """[256, 256]: row k is the target distribution of bin k, a Gaussian cut at the ends."""
    distance = torch.arange(256.0).unsqueeze(0) - torch.arange(256.0).unsqueeze(1)
    return torch.softmax(-0.5 * (distance / sigma) ** 2, dim=1)


def schedule(step, arguments):
    """Learning rate and width of the targets, in bins, at a step."""
    done = step / arguments.steps
    warm = min(1.0, (step + 1) / arguments.warmup)
    rate = arguments.rate * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))
    sigma = arguments.soften * (1 - done / arguments.harden_at) if arguments.soften else 0
    return rate, sigma


def loss_of(logits, bins, masked, sigma):
    logits, bins = logits[masked], bins[masked]
    if sigma < 0.3:  # narrower Gaussians are one-hot for all that floats can tell
        return F.cross_entropy(logits, bins)
    return -(target_table(sigma)[bins] * F.log_softmax(logits, -1)).sum(-1).mean()


def validate(net, samples, demonstrations, action_statistics, count):
    """One-pass figures on held-out samples: cross-entropy, error of the last row, named-object share."""
    loss, error, named = [], [], []
    for indices in samples.epoch(64, numpy.random.default_rng(0)):
        if len(loss) * 64 >= count:
            break
        images, ids, length, proprio, bins, _ = samples.batch(indices)
        with torch.no_grad():
            logits = net(images, ids, length, proprio, torch.full_like(bins, -1))
        loss.append(float(F.cross_entropy(logits.flatten(0, 1), bins.flatten())))
        shape = (len(indices), demonstrations.chunk, demonstrations.dims)
        values = decode.mean(logits.softmax(-1), logits.argmax(-1), 4).numpy().reshape(shape)
        values = data.unnormalise(values, action_statistics)[:, -1]
        error.append(numpy.abs(values - demonstrations.actions[indices][:, -1]).mean())
        if demonstrations.alternatives is not None:
            named.append(named_share(values, demonstrations, indices))
    return numpy.mean(loss), numpy.mean(error), numpy.mean(named) if named else float("nan")


def named_share(last_rows, demonstrations, indices):
    """Share of chunks that end nearer to the named object's chunk than to any other object's."""
    own = ((last_rows - demonstrations.actions[indices][:, -1]) ** 2).sum(-1)
    others = ((last_rows[:, None] - demonstrations.alternatives[indices][:, :, -1]) ** 2).sum(-1)
    return numpy.mean(own < numpy.nanmin(others, axis=1))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--held-out", help="a data directory with another seed, looked at but not learned from")
    parser.add_argument("--out", required=True, help="checkpoint directory")
    parser.add_argument("--state", help="file for --resume; default: none is written")
    parser.add_argument("--resume", action="store_true", help="go on from --state")
    parser.add_argument("--init", help="checkpoint directory to fine-tune; default: random weights")
    parser.add_argument("--key", default="cobot_magic_reach", help="name of the data in dataset_statistics.json")
    parser.add_argument("--tokenizer", default=os.path.join(HERE, "..", "policies", "tiny-reach", "tokenizer.model"))
    parser.add_argument("--log")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--limit", type=int, help="use only the first samples: for a trial")
    parser.add_argument("--steps", type=int, default=20000)
    parser.add_argument("--minutes", type=float, help="end after this time, with the schedule fitted to the speed")
    parser.add_argument("--batch", type=int, default=16, help="scenes; each gives up to two samples")
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--warmup", type=int, default=300)
    parser.add_argument("--decay", type=float, default=0.05, help="weight decay of matrices")
    parser.add_argument("--whole", type=float, default=0.3)
    parser.add_argument("--soften", type=float, default=6.0, help="first width of the targets, in bins; 0: hard")
    parser.add_argument("--harden-at", type=float, default=0.6, help="share of the run after which targets are hard")
    parser.add_argument("--mean", type=float, default=0.998, help="decay of the weights' exponential mean")
    parser.add_argument("--every", type=float, default=3, help="minutes between checkpoints and validations")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(arguments.seed)

    demonstrations = data.Demonstrations(arguments.data)
    statistics = demonstrations.statistics(arguments.key)
    if arguments.init:
        statistics = checkpoint.read_json(os.path.join(arguments.init, "dataset_statistics.json"))
    part = statistics[arguments.key]
    tokenizer = Tokenizer(arguments.tokenizer)
    samples = Samples(demonstrations, part, tokenizer, arguments.limit)
    held_out = data.Demonstrations(arguments.held_out) if arguments.held_out else None
    held_out_samples = Samples(held_out, part, tokenizer) if held_out else None

    slots = demonstrations.chunk * demonstrations.dims
    cameras = demonstrations.images.shape[1]
    if arguments.init:
        net = model.load(arguments.init, cameras, slots)
    else:
        sizes = model.Sizes(
            image=demonstrations.images.shape[2], images=cameras, proprio=demonstrations.dims, slots=slots
        )
        net = model.DDVLA(sizes, model.IMAGE_MEAN, model.IMAGE_STD)
        initialise.for_training(net, arguments.seed)
    averaged = model.DDVLA(net.sizes, net.mean.tolist(), net.std.tolist())
    averaged.load_state_dict(net.state_dict())

    matrices = [p for p in net.parameters() if p.dim() > 1]
    others = [p for p in net.parameters() if p.dim() <= 1]
    optimiser = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": arguments.decay}, {"params": others, "weight_decay": 0.0}],
        lr=arguments.rate, betas=(0.9, 0.98),
    )  # fmt: skip
    random = numpy.random.default_rng(arguments.seed)
    generator = torch.Generator().manual_seed(arguments.seed)
    step, spent = 0, 0.0
    if arguments.resume:
        state = torch.load(arguments.state)
        net.load_state_dict(state["net"])
        averaged.load_state_dict(state["averaged"])
        optimiser.load_state_dict(state["optimiser"])
        generator.set_state(state["generator"])
        step, spent, arguments.steps = state["step"], state["spent"], state["steps"]
        random = numpy.random.default_rng([arguments.seed, step])

    log_file = open(arguments.log, "a", encoding="utf-8") if arguments.log else None

    def log(line):
        print(line, flush=True)
        if log_file:
            print(line, file=log_file, flush=True)

    def save():
        averaged.save(arguments.out)
        checkpoint.write_json(os.path.join(arguments.out, "dataset_statistics.json"), statistics)
        target = os.path.join(arguments.out, "tokenizer.model")
        if os.path.abspath(arguments.tokenizer) != os.path.abspath(target):
            shutil.copyfile(arguments.tokenizer, target)
        if arguments.state:
            torch.save(
                {
                    "net": net.state_dict(), "averaged": averaged.state_dict(), "optimiser": optimiser.state_dict(),
                    "generator": generator.get_state(), "step": step, "spent": spent, "steps": arguments.steps,
                },
                arguments.state + ".part",
            )  # fmt: skip
            os.replace(arguments.state + ".part", arguments.state)

    log("# train.py " + " ".join(sys.argv[1:]))
    log(f"# torch {torch.__version__}, {sum(p.numel() for p in net.parameters())} parameters, {len(samples)} samples")
    started, saved, seen, running, epoch = time.monotonic() - spent, time.monotonic(), 0, [], []
    window = time.monotonic()
    while step < arguments.steps:
        if not epoch:
            epoch = samples.epoch(arguments.batch, random)
        images, ids, length, proprio, bins, scene = samples.batch(epoch.pop(), random)
        rate, sigma = schedule(step, arguments)
        for group in optimiser.param_groups:
            group["lr"] = rate
        masked = draw_mask(len(bins), bins.shape[1], arguments.whole, generator)
        logits = net.denoise(net.prefix(images, proprio)[scene], ids, length, bins.masked_fill(masked, -1))
        loss = loss_of(logits, bins, masked, sigma)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        step, seen = step + 1, seen + len(bins)
        decay = min(arguments.mean, (1 + step) / (10 + step))
        with torch.no_grad():
            for slow, fast in zip(averaged.parameters(), net.parameters()):
                slow.lerp_(fast, 1 - decay)
        # Measured with the hard targets, so that the column means the same throughout.
        running.append(float(F.cross_entropy(logits.detach()[masked], bins[masked])))
        spent = time.monotonic() - started
        if step % 50 == 0:
            speed = seen / (time.monotonic() - window)
            log(
                f"step {step}/{arguments.steps} minutes {spent / 60:.1f} loss {numpy.mean(running):.4f} "
                f"rate {rate:.2e} sigma {max(sigma, 0):.2f} samples/s {speed:.1f}"
            )
            running, seen, window = [], 0, time.monotonic()
            if arguments.minutes and step >= 100:
                # A shared core has no fixed speed: the schedule is stretched to end with the time.
                arguments.steps = max(step + 1, int(step * arguments.minutes * 60 / spent))
        if time.monotonic() - saved > arguments.every * 60 or step >= arguments.steps:
            save()
            if held_out:
                loss_held_out, error, named = validate(averaged, held_out_samples, held_out, part["action"], 512)
                log(f"held out: loss {loss_held_out:.4f} last row error {error:.4f} rad named {named:.3f}")
            saved = time.monotonic()
            window, seen = time.monotonic(), 0


if __name__ == "__main__":
    main()
