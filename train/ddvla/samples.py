"""Batches out of a data set, made on the device that trains.

Whatever is drawn for a step depends on the seed and the step alone: a run that goes on after a stop draws what it
would have drawn, and processes that share a batch draw all of it and take their part.
"""

import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy
import torch

from . import data


class Batch(NamedTuple):
    images: torch.Tensor  # [B, N, S, S, 3], uint8
    prompt_ids: torch.Tensor  # [B, P], pads on the right
    prompt_length: torch.Tensor  # [B]
    proprio: torch.Tensor  # [B, Dp], normalised
    bins: torch.Tensor  # [B, L]
    values: torch.Tensor  # [B, L], normalised


def seeded(device, *numbers):
    """A generator on a device whose draws these numbers determine."""
    seed = int(numpy.random.SeedSequence(numbers).generate_state(1, numpy.uint64)[0]) >> 1
    return torch.Generator(device=device).manual_seed(seed)


class Pictures:
    """Tensors of pictures one behind the other, which joining would copy."""

    def __init__(self, parts):
        self.parts = parts
        self.ends = torch.tensor([len(p) for p in parts]).cumsum(0)
        self.shape = (int(self.ends[-1]), *parts[0].shape[1:])

    def numel(self):
        return sum(p.numel() for p in self.parts)

    def take(self, rows, out=None):
        """Rows [B] of all, in out if that is given."""
        if len(self.parts) == 1:
            return torch.index_select(self.parts[0], 0, rows, out=out)
        if out is None:
            out = torch.empty(len(rows), *self.shape[1:], dtype=torch.uint8)
        of = torch.bucketize(rows, self.ends, right=True)
        for i, part in enumerate(self.parts):
            mine = of == i
            out[mine] = part[rows[mine] - (self.ends[i] - len(part))]
        return out


class Frames:
    """A data set's frames. Pictures stay on the device where they take no more than image_memory bytes, else in the
    file, from where a thread brings those of the next batch."""

    def __init__(self, dataset, statistics, tokenizer, rows, device="cpu", kind="bounds_q99", image_memory=0, columns=0):
        """statistics: one data set's entry of dataset_statistics.json. columns: what a sequence has besides the
        prompt; on a GPU all prompts are padded so that it has a multiple of 16, which its kernels like."""
        self.dataset, self.device, self.rows = dataset, torch.device(device), rows
        self.proprio = torch.from_numpy(data.normalise(dataset.proprio, statistics.get("proprio"), kind)).to(device)
        action = data.normalise(dataset.action, statistics["action"], kind)
        self.values = torch.from_numpy(action).to(device)
        self.bins = torch.from_numpy(data.bins(action).astype("i2")).to(device)
        episode = dataset.episode_of(numpy.arange(dataset.frames))
        lengths = numpy.array([e["length"] for e in dataset.episodes])
        starts = numpy.array([e["start"] for e in dataset.episodes])
        self.last = torch.from_numpy((starts + lengths - 1)[episode]).to(device)
        self.episode = torch.from_numpy(episode).to(device)
        self.picture = torch.from_numpy(dataset.picture_of(numpy.arange(dataset.frames)))
        self.picture_on_device = self.picture.to(device)
        self._prompts(tokenizer, columns)
        with warnings.catch_warnings():  # the map is not writable, and nothing writes to it
            warnings.simplefilter("ignore", UserWarning)
            images = Pictures([torch.from_numpy(part) for part in dataset.images])
        self.on_device = self.device.type != "cpu" and images.numel() <= image_memory
        self.images = self._upload(images) if self.on_device else images
        self.thread = ThreadPoolExecutor(1) if self.device.type != "cpu" and not self.on_device else None
        self.next = None

    def _prompts(self, tokenizer, columns):
        known, episodes = {}, []
        for e in self.dataset.episodes:
            texts = dict.fromkeys([e["instruction"], *(e.get("paraphrases") or [])])
            episodes.append([known.setdefault(text, len(known)) for text in texts])
        prompts = [tokenizer.prompt(text) for text in known]
        self.texts, width = list(known), max(map(len, prompts))
        if self.device.type != "cpu":
            width += -(columns + width) % 16
        ids = torch.zeros(len(prompts), width, dtype=torch.long)
        for row, prompt in enumerate(prompts):
            ids[row, : len(prompt)] = torch.tensor(prompt)
        self.prompt_ids = ids.to(self.device)
        self.prompt_length = torch.tensor([len(p) for p in prompts]).to(self.device)
        self.padded = len({len(p) for p in prompts}) > 1 or width > len(prompts[0])
        # Of each episode which texts it may have, padded by its first.
        self.variants = torch.tensor([len(e) for e in episodes]).to(self.device)
        widest = max(map(len, episodes))
        self.prompts = torch.tensor([e + e[:1] * (widest - len(e)) for e in episodes]).to(self.device)

    def _upload(self, images, part=4096):
        """In parts: the file may be larger than the memory that is left here."""
        out = torch.empty(images.shape, dtype=torch.uint8, device=self.device)
        for start in range(0, len(out), part):
            out[start : start + part] = images.take(torch.arange(start, min(start + part, len(out)))).to(self.device)
        return out

    def _gather(self, frames):
        out = torch.empty(len(frames), *self.images.shape[1:], dtype=torch.uint8, pin_memory=True)
        return self.images.take(self.picture[frames], out)

    def _pictures(self, frames, on_device, next_frames):
        if self.on_device:
            return self.images[self.picture_on_device[on_device]]
        if self.thread is None:
            return self.images.take(self.picture[frames])
        ready = self.next
        if ready is None or not torch.equal(ready[0], frames):
            ready = frames, self.thread.submit(self._gather, frames)
        self.next = None if next_frames is None else (next_frames, self.thread.submit(self._gather, next_frames))
        return ready[1].result().to(self.device, non_blocking=True)

    def batch(self, frames, draws=None, next_frames=None):
        """Samples of frames [B] (on the CPU). draws [B] in 0..1 choose among an episode's texts; None takes the
        first. next_frames: those of the batch that will be asked for next."""
        f = frames.to(self.device, non_blocking=True)
        episode = self.episode[f]
        if draws is None:
            text = self.prompts[episode, 0]
        else:
            count = self.variants[episode]  # of which a rounded product must stay below
            text = self.prompts[episode, torch.minimum((draws * count).long(), count - 1)]
        rows = torch.arange(self.rows, device=self.device)
        rows = torch.minimum(f[:, None] + rows, self.last[f][:, None])
        ids, length = self.prompt_ids[text], self.prompt_length[text]
        if self.device.type == "cpu":
            ids = ids[:, : int(length.max())]
        return Batch(
            self._pictures(frames, f, next_frames), ids, length, self.proprio[f],
            self.bins[rows].flatten(1).long(), self.values[rows].flatten(1),
        )  # fmt: skip


class Order:
    """Which frames a step takes: epochs, each in an order of its own, a rest smaller than a batch left out."""

    def __init__(self, frames, batch, seed):
        self.frames, self.batch, self.seed = torch.as_tensor(frames), batch, seed
        if len(self.frames) < batch:
            raise ValueError(f"a batch of {batch} out of {len(self.frames)} frames; give a smaller one")
        self.orders = {}  # of the last epoch or two

    def step(self, step):
        epoch, number = divmod(step, len(self.frames) // self.batch)
        if epoch not in self.orders:
            self.orders = {e: o for e, o in self.orders.items() if e == epoch - 1}
            self.orders[epoch] = self.frames[torch.randperm(len(self.frames), generator=seeded("cpu", self.seed, 1, epoch))]
        return self.orders[epoch][number * self.batch : (number + 1) * self.batch]


def divide(dataset, share, seed, successes=True):
    """Frames with pictures to train on and those of a share of the episodes to hold out, at least one if share > 0.

    Episodes of one source, such as the recordings of one simulated scene, stay together where there are sources
    enough for that. Episodes that are known to have failed are left out.
    """
    chosen = [i for i, e in enumerate(dataset.episodes) if not (successes and e.get("success") is False) and e["length"] > 0]
    if not chosen:
        raise ValueError(f"{dataset.directory}: no episode succeeded")
    groups = {}
    for i in chosen:
        groups.setdefault(dataset.episodes[i].get("source"), []).append(i)
    groups = list(groups.values())
    if len(groups) * share < 1:
        groups = [[i] for i in chosen]
    count = 0 if share <= 0 else min(max(1, round(share * len(groups))), len(groups) - 1)
    order = [groups[g] for g in numpy.random.default_rng([seed, 2]).permutation(len(groups))]

    def frames(groups):
        episodes = [i for group in groups for i in group]
        parts = [numpy.arange(0, dataset.episodes[i]["length"], dataset.stride) + dataset.episodes[i]["start"] for i in sorted(episodes)]
        return numpy.concatenate(parts) if parts else numpy.zeros(0, dtype=numpy.int64)

    return frames(order[count:]), frames(order[:count])
