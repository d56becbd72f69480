"""A run: steps, their schedule, means of the weights, checkpoints, and what is measured on the way."""

import contextlib
import hashlib
import json
import math
import os
import time

import numpy
import torch
import torch.distributed as distributed

from . import augment, checkpoint, data, decode
from .compiled import Compiled, failed
from .objective import OBJECTIVES, Loss, hidden_tokens, target_table
from .samples import Order, seeded


class Mean:
    """An exponential mean of parameters; applied() puts it in their place for a while."""

    def __init__(self, parameters):
        self.parameters = list(parameters)
        self.values = [p.detach().clone() for p in self.parameters]

    @torch.no_grad()
    def update(self, decay):
        torch._foreach_mul_(self.values, decay)
        torch._foreach_add_(self.values, [p.detach() for p in self.parameters], alpha=1 - decay)

    def _swap(self):
        for i, p in enumerate(self.parameters):
            p.data, self.values[i] = self.values[i], p.data

    @contextlib.contextmanager
    def applied(self):
        self._swap()
        try:
            yield
        finally:
            self._swap()


class Clock:
    """Seconds since the run began, those of earlier parts of it too, and whether it is to stop.

    Processes that train together must decide alike: they all go by the clock of the first, and stop when one of them
    is to, since a signal may reach all or any. They tell each other every ten steps or oftener.
    """

    def __init__(self, started, spent=0.0, device="cpu"):
        self.began, self.told, self.device = started - spent, (0.0, False), device
        self.shared = distributed.is_initialized() and distributed.get_world_size() > 1

    def own(self):
        return time.monotonic() - self.began

    def read(self, step, stop=False, now=False):
        """(seconds, whether to stop); stop: whether this process is to; now: as they are at this step, whichever it is."""
        if not self.shared:
            return self.own(), stop
        gloo = distributed.get_backend() == "gloo"  # which waits for no GPU
        if now or step % 10 == 0 or gloo:
            seconds = 0.0 if distributed.get_rank() else self.own()
            told = torch.tensor([seconds, stop], dtype=torch.float64, device="cpu" if gloo else self.device)
            distributed.all_reduce(told, distributed.ReduceOp.MAX)
            self.told = float(told[0]), bool(told[1])
        return self.told


class Trainer:
    """options are the arguments of train.py. All randomness of a step comes from options.seed and its number."""

    def __init__(self, net, frames, train, held_out, held_out_frames, options, log, curves=None, started=None):
        """frames: samples.Frames; train: the numbers of those that are trained on; held_out: numbers of those of
        held_out_frames that are not."""
        self.net, self.frames, self.options, self.log, self.curves = net, frames, options, log, curves
        self.rank = distributed.get_rank() if distributed.is_initialized() else 0
        self.world = distributed.get_world_size() if distributed.is_initialized() else 1
        self.device = frames.device
        self.joint = options.batch * options.accumulate * self.world
        self.order = Order(train, self.joint, options.seed)
        self.held_out, self.held_out_frames = held_out, held_out_frames
        cameras = frames.dataset.info["cameras"]
        self.area = 1 if options.plain_images else min((c.get("crop_area") or 1 for c in cameras), default=1)
        self.named = [(name, p) for name, p in net.named_parameters() if p.requires_grad]
        self.parameters = [p for _, p in self.named]
        matrices = [p for p in self.parameters if p.dim() > 1]
        others = [p for p in self.parameters if p.dim() <= 1]
        self.optimiser = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": options.decay}, {"params": others, "weight_decay": 0.0}],
            lr=options.rate, betas=(0.9, options.beta2), **({"fused": True} if self.device.type == "cuda" else {"foreach": True}),
        )  # fmt: skip
        self.mean = Mean(self.parameters) if options.mean else None
        self.loss = Loss(net, options.objective)
        if self.world > 1:
            devices = [self.device.index] if self.device.type == "cuda" else None
            self.loss = torch.nn.parallel.DistributedDataParallel(self.loss, device_ids=devices)
        self.compiled = self._compile() if options.compile else None
        self.step, self.started, self.spent, self.ready = 0, time.monotonic() if started is None else started, 0.0, 0.0
        self.stop = False  # set by a signal

    def _compile(self):
        """Compiled, or None where this PyTorch has no compiler."""
        try:
            return Compiled(self.net, self.log)
        except Exception as error:  # of which kind is up to the version
            self.log(failed(error))
            return None

    # A step.

    def share(self, elapsed):
        """How much of the run is done, 0 to 1."""
        done = self.step / self.options.steps if self.options.steps else 0.0
        if self.options.minutes:
            done = max(done, (elapsed - self.ready) / max(60 * self.options.minutes - self.ready, 1e-9))
        return min(done, 1.0)

    def schedule(self, share):
        """Learning rate, and the width of the targets in bins, 0 for the bins themselves."""
        o = self.options
        rate = o.rate * min(1.0, (self.step + 1) / max(o.warmup, 1)) * (o.floor + (1 - o.floor) * 0.5 * (1 + math.cos(math.pi * share)))
        sigma = o.soften * (1 - share / o.harden_at) if o.soften else 0.0
        return rate, sigma if sigma >= 0.3 else 0.0  # narrower is one-hot for all that floats can tell

    def draw(self, step):
        """What a step needs to be random, for the whole batch: (frames, text, ratio, whole, order, pictures)."""
        count, slots = self.joint, self.frames.rows * self.frames.bins.shape[1]
        cameras = self.frames.images.shape[1]
        generator = seeded(self.device, self.options.seed, 3, step)

        def uniform(*shape):
            return torch.rand(shape, generator=generator, device=self.device)

        return (
            self.order.step(step), uniform(count), uniform(count), uniform(count), uniform(count, slots),
            uniform(count, cameras, augment.DRAWS),
        )  # fmt: skip

    def parts(self):
        """This process's part of the batch, in as many parts as are accumulated: slices."""
        size = self.options.batch
        first = self.rank * self.options.accumulate
        return [slice((first + i) * size, (first + i + 1) * size) for i in range(self.options.accumulate)]

    def gradients(self, sigma=0.0):
        """Leaves the gradients of this step; returns the plain loss of this process's part, on the device."""
        frames, text, ratio, whole, order, pictures = self.draw(self.step)
        hidden = hidden_tokens(self.options.objective, ratio, whole, order, self.options.whole)
        counted = hidden.sum()  # in the whole batch: every process knows it
        table = target_table(sigma, self.device) if sigma else None
        parts, following = self.parts(), self.order.step(self.step + 1)
        total = torch.zeros((), device=self.device)
        for i, part in enumerate(parts):
            ahead = frames[parts[i + 1]] if i + 1 < len(parts) else following[parts[0]]
            batch = self.frames.batch(frames[part], text[part], ahead)
            last = i + 1 == len(parts)
            with self.loss.no_sync() if self.world > 1 and not last else contextlib.nullcontext():
                # Processes' gradients are averaged, so their sums are scaled up by their number.
                loss, plain = self.forward(batch, pictures[part], hidden[part], self.world / counted, table)
                loss.backward()
            total += plain
        return total

    def forward(self, *inputs):
        """The loss of a part of a batch, by compiled layers where they are wanted and work."""
        if self.compiled is None:
            return self._forward(augment.augment, *inputs)
        try:
            with self.compiled.train():
                return self._forward(self.compiled.augment, *inputs)
        except Exception as error:  # a compiler's errors are of many kinds; what is no fault of its comes up again
            self.compiled.give_up(error)
            self.compiled = None
            return self._forward(augment.augment, *inputs)

    def _forward(self, augmented, batch, draws, hidden, scale, table):
        if not self.options.plain_images:
            with torch.no_grad():
                batch = batch._replace(images=augmented(batch.images, draws, self.area))
        with self.autocast():
            return self.loss(batch, hidden, scale, table, self.frames.padded, round(self.options.own * len(hidden)))

    def autocast(self):
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.options.bf16)

    def update(self, rate):
        """Takes the step that the gradients ask for; returns their norm, on the device."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.options.clip)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.step += 1
        if self.mean:
            self.mean.update(min(self.options.mean, (1 + self.step) / (10 + self.step)))
        return norm

    # The run.

    def run(self):
        """Trains until the steps or the minutes are over, or stop is set; saves and measures on the way and then."""
        o = self.options
        self.clock = Clock(self.started, self.spent, self.device)
        elapsed, _ = self.clock.read(0)
        if self.step == 0:
            self.ready = elapsed
        self.net.train()
        self._open_window()
        reported = saved = elapsed
        while True:
            elapsed, stop = self.clock.read(self.step, self.stop)
            share = self.share(elapsed)
            if share >= 1 or stop:
                break
            rate, sigma = self.schedule(share)
            self.seen += self.gradients(sigma)
            norm = self.update(rate)
            self.counted += 1
            due = elapsed - saved >= 60 * o.every
            if self.step == 1 or due or elapsed - reported >= o.log_every:
                self._report(norm, rate, share)  # before what it finds wrong would be saved
                reported = elapsed
            if due:
                self.checkpoint()
                self.measure()
                self._open_window()  # the speed is that of training alone
                # Both may take longer than there is between checkpoints.
                reported = saved = self.clock.read(self.step, self.stop, now=True)[0]
        if stop:
            self.stop = True  # another process may have had the signal
        if self.counted:
            self._report(norm, rate, share)
        self.checkpoint()
        self.measure(final=not self.stop)

    def _open_window(self):
        """Begins to count what the next report tells."""
        self.seen, self.counted, self.opened = torch.zeros((), device=self.device), 0, time.monotonic()

    def _report(self, norm, rate, share):
        """Waits for the device; a loss or a gradient that is no number ends the run, whose last checkpoint stays.

        norm is that of the last step: an earlier gradient without one has left weights that give no loss."""
        if self.world > 1:
            distributed.all_reduce(self.seen)
            self.seen /= self.world
        loss, norm = float(self.seen) / self.counted, float(norm)
        speed = self.joint * self.counted / max(time.monotonic() - self.opened, 1e-9)
        self._open_window()
        for what, value in (("loss", loss), ("norm of the gradient", norm)):
            if not math.isfinite(value):
                raise FloatingPointError(f"step {self.step}: the {what} is {value}; go on from the last checkpoint with a smaller --rate")
        if self.rank:
            return
        minutes = self.clock.own() / 60
        left = minutes * (1 - share) / share if share > 0 else math.nan
        self.log(
            f"step {self.step} {100 * share:3.0f} % {minutes:.1f} min, {left:.1f} left: loss {loss:.4f} "
            f"rate {rate:.2e} gradient {norm:.2f} samples/s {speed:.0f}"
        )
        if self.curves:
            samples = self.step * self.joint
            self.curves.add(step=self.step, minutes=minutes, samples=samples, loss=loss, rate=rate, gradient=norm, samples_per_s=speed)

    # What is kept.

    def applied_mean(self):
        return self.mean.applied() if self.mean else contextlib.nullcontext()

    def checkpoint(self):
        """Writes the checkpoint and the state, in the process of rank 0."""
        self.spent = self.clock.own()
        if self.rank:
            return
        with self.applied_mean():
            self.options.save(self.net)
        if self.options.state:
            checkpoint.write_safetensors(self.options.state, self.state())
        if self.curves:
            self.curves.plot()

    def state(self):
        """All that a run needs to go on as if it had not stopped: {name: tensor}."""
        kept = {"run": torch.tensor([self.step, self.spent, self.ready], dtype=torch.float64)}
        kept["identity"] = torch.tensor(list(json.dumps(self._identity()).encode()), dtype=torch.uint8)
        for i, (name, p) in enumerate(self.named):
            kept["parameters/" + name] = p
            if self.mean:
                kept["mean/" + name] = self.mean.values[i]
            for key, tensor in self.optimiser.state[p].items():
                kept[f"optimiser/{key}/{name}"] = torch.as_tensor(tensor)
        return kept

    def _identity(self):
        """What must be the same when a run goes on, by name."""
        o = self.options
        named = {name: getattr(o, name) for name in ("seed", "objective", "chunk", "normalization", "lora", "alpha", "targets", "merge", "plain_images")}
        if o.lora:  # what the adapters belong to is not in the state
            named["init"] = os.path.abspath(o.init)
        statistics = hashlib.sha256(json.dumps(o.statistics, sort_keys=True).encode()).hexdigest()[:12]
        return {"batch": self.joint, **named, "attention": self.net.attention, "statistics": statistics}

    def _check_identity(self, state):
        """Refuses to go on from another run's state."""
        if "identity" in state:
            was = json.loads(bytes(state["identity"].tolist()))
        else:  # of a version that knew no more
            batch, seed, objective = map(int, state["run"][3:])
            was = {"batch": batch, "seed": seed, "objective": OBJECTIVES[objective]}
        have = self._identity()
        differ = [f"{name} {was[name]}, this one {have.get(name)}" for name in was if was[name] != have.get(name)]
        if differ:
            raise ValueError(
                f"the run to resume has {'; '.join(differ)} (batch: of all processes; statistics: their hash); give the options and "
                "data that it began with, or leave out --resume to begin anew, with --init to do so from its checkpoint"
            )

    def restore(self, state):
        self._check_identity(state)
        step, spent, ready = state["run"][:3].tolist()
        prefixes = ("parameters/", "mean/") if self.mean else ("parameters/",)
        want = {prefix + name for prefix in prefixes for name, _ in self.named}
        if want != {name for name in state if name.startswith(("parameters/", "mean/"))}:
            raise ValueError("the run to resume trains other parameters than this one")
        whole, slots = self.optimiser.state_dict(), {}
        numbers = {p: i for i, p in enumerate(p for group in self.optimiser.param_groups for p in group["params"])}
        with torch.no_grad():
            for i, (name, p) in enumerate(self.named):
                p.copy_(state["parameters/" + name])
                if self.mean:
                    self.mean.values[i].copy_(state["mean/" + name])
                own = {key.split("/")[1]: t for key, t in state.items() if key.startswith("optimiser/") and key.endswith("/" + name)}
                if own:
                    slots[numbers[p]] = own
        self.optimiser.load_state_dict({**whole, "state": slots})
        self.step, self.spent, self.ready = int(step), spent, ready

    # What is measured.

    @torch.no_grad()
    def measure(self, final=False):
        """Figures on held-out frames with the mean weights, in the process of rank 0."""
        if self.rank or not len(self.held_out):
            return
        count = self.options.validate
        chosen = self.held_out[numpy.linspace(0, len(self.held_out) - 1, min(count, len(self.held_out))).astype(int)]
        self.net.eval()
        with self.applied_mean():
            loss, rad, metre = self.errors(chosen, decoded=False)
            text = f"held out: loss {loss:.4f}, last row {rad:.4f} rad {metre:.5f} m"
            if final and self.options.objective in ("diffusion", "autoregressive"):
                few = chosen[:: max(1, len(chosen) // self.options.decode)][: self.options.decode]
                _, rad_decoded, metre_decoded = self.errors(few, decoded=True)
                text += f"; decoded, {len(few)} frames: {rad_decoded:.4f} rad {metre_decoded:.5f} m"
        self.net.train()
        self.log(text)
        if self.curves:
            self.curves.add(step=self.step, minutes=self.spent / 60, held_out_loss=loss, held_out_rad=rad, held_out_m=metre)
            self.curves.plot()

    def errors(self, chosen, decoded):
        """Loss of one pass with all tokens hidden (autoregressive: with those before it given), and the error of a
        chunk's last row in rad and m: of that pass, or of a chunk that is decoded as its policy does it."""
        # What fits the memory with a gradient fits without.
        size = min(256 if self.device.type == "cuda" else 16, self.options.batch)
        units = [d.get("unit") for d in self.held_out_frames.dataset.info["action"]]
        statistics, kind = self.options.statistics["action"], self.options.normalization
        losses, wrong = [], []
        for start in range(0, len(chosen), size):
            numbers = torch.as_tensor(chosen[start : start + size])
            b = self.held_out_frames.batch(numbers)
            images = augment.centred(b.images, self.area)
            with self.autocast():
                loss, values = self.guess(b._replace(images=images), self.held_out_frames.padded, decoded)
            losses.append(loss.expand(len(numbers)))
            values = values.float().cpu().numpy().reshape(len(numbers), self.frames.rows, -1)
            wanted = self.held_out_frames.dataset.chunk(numbers.numpy(), self.frames.rows)
            wrong.append(numpy.abs(data.unnormalise(values, statistics, kind) - wanted)[:, -1])
        wrong = numpy.concatenate(wrong)
        rad, metre = (wrong[:, [u == unit for u in units]] for unit in ("rad", "m"))
        return float(torch.cat(losses).mean()), *(float(x.mean()) if x.size else math.nan for x in (rad, metre))

    def guess(self, b, padded, decoded):
        """Mean loss and normalised values of a batch."""
        net, objective = self.net, self.options.objective
        prefix = net.prefix(b.images, b.proprio)
        if objective == "l1":
            values = net.values(prefix, b.prompt_ids, b.prompt_length, padded)
            return (values - b.values).abs().mean(), values

        def logits(tokens):
            return net.denoise(prefix, b.prompt_ids, b.prompt_length, tokens, padded=padded)

        start = torch.full_like(b.bins, -1)
        if decoded and objective == "autoregressive":
            tokens = start
            for i in range(tokens.shape[1]):
                tokens[:, i] = logits(tokens)[:, i].argmax(-1)
            return torch.zeros(1, device=self.device), decode.centres(self.device)[tokens]
        if decoded:
            return torch.zeros(1, device=self.device), decode.denoise(lambda t, tokens: logits(tokens), start)[1]
        scores = logits(b.bins if objective == "autoregressive" else start)
        loss = torch.nn.functional.cross_entropy(scores.flatten(0, 1), b.bins.flatten())
        return loss, decode.mean(scores.softmax(-1), scores.argmax(-1), 2)


def write_beside(files, statistics, tokenizer):
    """The files of a checkpoint that are not the network's, to checkpoint.Files: dataset_statistics.json and
    tokenizer.model."""
    files.json("dataset_statistics.json", statistics)
    with open(tokenizer, "rb") as file:
        files.data("tokenizer.model", file.read())
