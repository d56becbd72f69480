"""The trainer, at sizes that take seconds: python3 train/test_train.py"""

import colorsys
import contextlib
import errno
import faulthandler
import glob
import io
import itertools
import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import tempfile
import time
import unittest
import weakref
import xml.etree.ElementTree as xml
from unittest import mock

import numpy
import torch

import toy
import train
from ddvla import augment, checkpoint, columns, compiled, curves, data, initialise, lora, model, objective, samples, trainer
from ddvla.dataset import Dataset
from ddvla.head import ActionHead
from ddvla.prompt import Tokenizer

HERE = os.path.dirname(os.path.abspath(__file__))
SIZES = {
    "patch": 8, "hidden": 24, "layers": 2, "heads": 2, "intermediate": 40,
    "dino": {"dim": 16, "depth": 2, "heads": 2, "mlp": 24, "registers": 2, "cls": True, "layer_scale": True},
    "siglip": {"dim": 16, "depth": 2, "heads": 2, "mlp": 24, "attn_pool": True},
}  # fmt: skip


class Case(unittest.TestCase):
    """Has a toy data set and a network's sizes, made once."""

    @classmethod
    def setUpClass(cls):
        torch.set_num_threads(1)
        cls.scratch = tempfile.TemporaryDirectory()
        cls.data = os.path.join(cls.scratch.name, "data")
        toy.write(cls.data, 24, 1, failed=2)
        cls.config = os.path.join(cls.scratch.name, "sizes.json")
        checkpoint.write_json(cls.config, SIZES)
        cls.numbers = itertools.count()

    @classmethod
    def tearDownClass(cls):
        cls.scratch.cleanup()

    def out(self):
        return os.path.join(self.scratch.name, f"out{next(self.numbers)}")

    def arguments(self, out, text=""):
        a = ["--data", self.data, "--out", out, "--config", self.config, "--chunk", "4", "--batch", "8", "--warmup", "2"]
        return a + ["--validate", "8", "--decode", "2", "--hold-out", "0.1", *text.split()]

    def train(self, text="", out=None, stop_at=None):
        """Runs train.py in this process; stops as a signal would after stop_at steps. Returns (trainer, out)."""
        out, update = out or self.out(), trainer.Trainer.update

        def stopping(self, rate):
            norm = update(self, rate)
            self.stop = self.stop or self.step == stop_at
            return norm

        said = io.StringIO()
        with mock.patch.object(trainer.Trainer, "update", stopping), contextlib.redirect_stdout(said):
            run = train.main(self.arguments(out, text))
        self.said = said.getvalue()
        return run, out

    def ready(self, text=""):
        """A trainer before its first step."""
        with mock.patch.object(trainer.Trainer, "run", lambda self: None):
            return self.train(text)[0]

    def gradients(self, run):
        run.gradients()
        return {name: p.grad.clone() for name, p in run.net.named_parameters() if p.grad is not None}

    def files(self, directory):
        """Contents of a checkpoint's files; the log and the curves tell the time."""
        found = {}
        for path in sorted(glob.glob(os.path.join(directory, "*"))):
            if not path.endswith(("train.log", ".csv", ".html")):
                with open(path, "rb") as file:
                    found[os.path.basename(path)] = file.read().replace(directory.encode(), b"OUT")  # which export.args names
        return found


class AugmentTest(unittest.TestCase):
    def setUp(self):
        self.images = torch.randint(0, 256, (3, 9, 9, 3), generator=torch.Generator().manual_seed(1)).to(torch.uint8)

    def crop(self, image, top, left, side):
        """tf.image.crop_and_resize, pixel by pixel, of [S, S, 3] in 0..1."""
        size = len(image)
        out = numpy.zeros_like(image)
        for i, j in itertools.product(range(size), repeat=2):
            y, x = (start * (size - 1) + k * side * (size - 1) / (size - 1) for start, k in ((top, i), (left, j)))
            y0, x0 = int(math.floor(y)), int(math.floor(x))
            y1, x1 = min(y0 + 1, size - 1), min(x0 + 1, size - 1)
            over, under = ((1 - x + x0) * image[r, x0] + (x - x0) * image[r, x1] for r in (y0, y1))
            out[i, j] = (1 - y + y0) * over + (y - y0) * under
        return out

    def test_crops_are_those_of_tensorflow(self):
        side = 0.9**0.5
        for image, top, left in zip(self.images, (0.0, 1 - side, 0.02), (1 - side, 0.03, 0.0)):
            want = self.crop(image.numpy().astype("f8") / 255, top, left, side)
            have = augment.crop(image[None].permute(0, 3, 1, 2).float() / 255, torch.tensor([top]), torch.tensor([left]), side)
            numpy.testing.assert_allclose(have[0].permute(1, 2, 0), want, atol=2e-6)

    def test_the_centre_is_that_of_the_policy(self):
        # policy/vision truncates x * 255.5: a value within rounding of a step may fall on either side.
        side = 0.9**0.5
        have = augment.centred(self.images, 0.9).numpy()
        for image, cropped in zip(self.images, have):
            want = self.crop(image.numpy().astype("f8") / 255, (1 - side) / 2, (1 - side) / 2, side) * 255.5
            self.assertLessEqual(float(numpy.abs(cropped + 0.5 - want).max()), 0.5 + 1e-3)
        self.assertIs(augment.centred(self.images, 1), self.images)

    def test_colours_change_as_in_hsv(self):
        draws = torch.rand(3, augment.DRAWS, generator=torch.Generator().manual_seed(2))
        have = augment.augment(self.images, draws, 1).numpy()
        for image, (_, _, b, c, s, h), changed in zip(self.images.numpy(), draws.tolist(), have):
            x = (image / 255 + (2 * b - 1) * 0.2).clip(0, 1)
            mean = x.mean((0, 1))
            x = ((x - mean) * (0.8 + 0.4 * c) + mean).clip(0, 1)
            for i, j in itertools.product(range(9), repeat=2):
                hue, saturation, value = colorsys.rgb_to_hsv(*x[i, j])
                saturation = min(1, saturation * (0.8 + 0.4 * s))
                want = numpy.array(colorsys.hsv_to_rgb((hue + (2 * h - 1) * 0.05) % 1, saturation, value)) * 255
                self.assertLess(float(numpy.abs(changed[i, j] + 0.5 - want).max()), 0.5 + 1e-3)

    def test_grey_and_black_stay_finite_and_draws_differ(self):
        images = torch.stack([torch.zeros(8, 8, 3), torch.full((8, 8, 3), 127.0), torch.full((8, 8, 3), 255.0)])
        draws = torch.rand(3, augment.DRAWS, generator=torch.Generator().manual_seed(3))
        self.assertTrue(bool(torch.isfinite(augment.augment(images, draws, 0.9)).all()))
        same = self.images[:1].expand(3, -1, -1, -1)
        one, two, three = augment.augment(same, draws, 0.9)
        self.assertFalse(torch.equal(one, two) or torch.equal(two, three))


class SamplesTest(Case):
    def frames(self, **options):
        dataset = Dataset(self.data)
        tokenizer = Tokenizer(os.path.join(HERE, "tokenizer.model"))
        return dataset, tokenizer, samples.Frames(dataset, dataset.statistics()["toy"], tokenizer, 4, **options)

    def test_a_batch_is_what_the_data_set_says(self):
        dataset, tokenizer, frames = self.frames()
        statistics = dataset.statistics()["toy"]
        end = dataset.episodes[0]["length"] - 1
        chosen = [0, end, end + 1, dataset.frames - 1]
        for draw, which in ((None, 0), (0.0, 0), (0.4999, 0), (0.5001, 1), (1.0 - 2**-24, 1)):
            draws = None if draw is None else torch.full((4,), draw)
            b = frames.batch(torch.tensor(chosen), draws)
            for row, frame in enumerate(chosen):
                images, proprio, instruction, actions = dataset.sample(frame, 4)
                self.assertTrue(numpy.array_equal(b.images[row], images))
                numpy.testing.assert_array_equal(b.proprio[row], data.normalise(proprio, statistics["proprio"]))
                wanted = data.normalise(actions, statistics["action"])
                numpy.testing.assert_array_equal(b.values[row].view(4, 3), wanted)
                numpy.testing.assert_array_equal(b.bins[row].view(4, 3), data.bins(wanted))
                episode = dataset.episodes[int(dataset.episode_of(frame))]
                text = [instruction, *episode["paraphrases"]][which]
                self.assertEqual(b.prompt_ids[row, : b.prompt_length[row]].tolist(), tokenizer.prompt(text))

    def strided(self, stride):
        """The toy data set with pictures of every stride-th frame of an episode, and its frames that have them."""
        out = self.out()
        shutil.copytree(self.data, out)
        whole = Dataset(self.data)
        kept = [e["start"] + t for e in whole.episodes for t in range(e["length"]) if t % stride == 0]
        whole.images[0][kept].tofile(os.path.join(out, "images.u8"))
        self.change(out, stride)
        return out, kept

    def change(self, directory, stride):
        path = os.path.join(directory, "dataset.json")
        with open(path, encoding="utf-8") as file:
            info = json.load(file)
        with open(path, "w", encoding="utf-8") as file:
            json.dump({**info, "picture_stride": stride}, file)

    def test_frames_between_pictures_are_rows_of_chunks_and_no_samples(self):
        whole = Dataset(self.data)
        directory, kept = self.strided(4)
        dataset = Dataset(directory)
        self.assertEqual(dataset.images[0].shape, (len(kept), *whole.images[0].shape[1:]))
        for frame in range(dataset.frames):
            numpy.testing.assert_array_equal(dataset.chunk(frame, 6), whole.chunk(frame, 6))
            if frame in kept:
                for got, wanted in zip(dataset.sample(frame, 6), whole.sample(frame, 6)):
                    numpy.testing.assert_array_equal(got, wanted)
            else:
                self.assertEqual(dataset.picture_of(frame), -1)
                with self.assertRaisesRegex(IndexError, f"frame {frame} has no pictures"):
                    dataset.sample(frame, 6)
        training, held_out = samples.divide(dataset, 0.1, 1, successes=False)
        self.assertEqual(sorted([*training.tolist(), *held_out.tolist()]), kept)
        tokenizer = Tokenizer(os.path.join(HERE, "tokenizer.model"))
        of = [samples.Frames(d, whole.statistics()["toy"], tokenizer, 6).batch(torch.tensor(kept)) for d in (dataset, whole)]
        for name, one, two in zip(samples.Batch._fields, *of):
            self.assertTrue(torch.equal(one, two), name)

    def test_joined_data_sets_are_one_behind_the_other(self):
        whole, three = Dataset(self.data), Dataset.joined([self.data] * 3)
        self.assertEqual((three.frames, len(three.episodes)), (3 * whole.frames, 3 * len(whole.episodes)))
        frames = numpy.arange(three.frames)
        numpy.testing.assert_array_equal(three.chunk(frames, 6), whole.chunk(frames % whole.frames, 6))
        for frame in (0, whole.frames - 1, whole.frames, 2 * whole.frames + 3, three.frames - 1):
            for got, wanted in zip(three.sample(frame, 6), whole.sample(frame % whole.frames, 6)):
                numpy.testing.assert_array_equal(got, wanted)
        tokenizer = Tokenizer(os.path.join(HERE, "tokenizer.model"))
        of = [samples.Frames(d, whole.statistics()["toy"], tokenizer, 6) for d in (three, whole)]
        chosen = torch.tensor([three.frames - 1, 0, whole.frames, 5, whole.frames - 1])
        for name, one, two in zip(samples.Batch._fields, of[0].batch(chosen), of[1].batch(chosen % whole.frames)):
            self.assertTrue(torch.equal(one, two), name)
        uploaded = of[0]._upload(of[0].images, 7)
        numpy.testing.assert_array_equal(uploaded, numpy.concatenate([whole.images[0]] * 3))
        with self.assertRaisesRegex(ValueError, "cannot be joined to .*: picture_stride"):
            Dataset.joined([self.data, self.strided(4)[0]])

    def test_statistics_that_do_not_fit_are_refused(self):
        info, part = Dataset(self.data).info, Dataset(self.data).statistics()["toy"]
        data.check(part, info, "bounds")
        narrow = {name: values[:2] for name, values in part["action"].items()}
        for changed, error in (
            ({"action": narrow}, "2 columns of action, the data set has 3"),
            ({"proprio": narrow}, "2 columns of proprio"),
            ({"action": {**part["action"], "bin_edges": [[], [-1, 0, 1], []]}}, "bin_edges"),
        ):
            with self.assertRaisesRegex(ValueError, error):
                data.check({**part, **changed}, info, "bounds")
        with self.assertRaisesRegex(ValueError, "0 columns of proprio"):
            data.check({"action": part["action"]}, info, "bounds")
        data.check({"action": {**part["action"], "bin_edges": [[], [], []]}}, {**info, "proprio": []}, "bounds")

    def test_strides_that_do_not_fit_are_refused(self):
        directory, _ = self.strided(4)
        for stride, error in ((0, "images.u8"), (3, "images.u8"), (5, "images.u8"), (-4, "picture_stride is -4"), (2.5, "picture_stride is 2.5")):
            self.change(directory, stride)
            with self.assertRaisesRegex(ValueError, error):
                Dataset(directory)
        self.change(directory, 4)
        Dataset(directory)

    def test_unmasked_dimensions_and_bounds(self):
        part = {"q01": [0, 0], "q99": [2, 2], "min": [-2, 0], "max": [2, 2], "mask": [True, False]}
        values = numpy.array([[1.5, 0.25]])
        numpy.testing.assert_allclose(data.normalise(values, part), [[0.5, 0.25]])
        numpy.testing.assert_allclose(data.normalise(values, part, "bounds"), [[0.75, 0.25]])
        for kind in ("bounds", "bounds_q99"):
            numpy.testing.assert_allclose(data.unnormalise(data.normalise(values, part, kind), part, kind), values, atol=1e-6)

    def test_every_epoch_takes_each_frame_once_in_another_order(self):
        order = samples.Order(numpy.arange(100, 122), 5, 7)
        epochs = [torch.cat([order.step(4 * e + i) for i in range(4)]).tolist() for e in range(3)]
        for epoch in epochs:
            self.assertEqual(len(set(epoch)), 20)
            self.assertTrue(set(epoch) <= set(range(100, 122)))
        self.assertNotEqual(epochs[0], epochs[1])
        again = samples.Order(numpy.arange(100, 122), 5, 7)
        self.assertEqual([again.step(i).tolist() for i in (9, 8, 4)], [order.step(i).tolist() for i in (9, 8, 4)])
        with self.assertRaises(ValueError):
            samples.Order(numpy.arange(4), 5, 7)

    def test_no_episode_is_on_both_sides_and_failures_on_none(self):
        dataset = Dataset(self.data)
        training, held_out = samples.divide(dataset, 0.1, 1)
        of = [set(dataset.episode_of(frames).tolist()) for frames in (training, held_out)]
        self.assertFalse(of[0] & of[1])
        self.assertEqual((of[0] | of[1], len(of[1])), (set(range(22)), 2))
        whole = sum(e["length"] for e in dataset.episodes[:22])
        self.assertEqual(len(training) + len(held_out), whole)
        self.assertEqual(len(samples.divide(dataset, 0, 1, successes=False)[0]), dataset.frames)

    def test_recordings_of_a_scene_stay_together(self):
        dataset = Dataset(self.data)
        for i, e in enumerate(dataset.episodes):
            e["source"] = f"scene {i // 2}"
        training, held_out = samples.divide(dataset, 0.2, 1)
        of = [{i // 2 for i in dataset.episode_of(frames).tolist()} for frames in (training, held_out)]
        self.assertFalse(of[0] & of[1])
        self.assertEqual(len(of[1]), 2)


class ObjectiveTest(Case):
    def test_masks_hide_at_least_one_token_and_sometimes_all(self):
        generator = torch.Generator().manual_seed(0)
        draws = torch.rand(4000, generator=generator), torch.rand(4000, generator=generator), torch.rand(4000, 21, generator=generator)
        hidden = objective.hidden_tokens("diffusion", *draws, 0.3).sum(1)
        self.assertGreaterEqual(int(hidden.min()), 1)
        # 0.3 whole, and cos(pi u / 2) averages 2 / pi: 21 (0.3 + 0.7 * 0.6366) = 15.66.
        self.assertAlmostEqual(float(hidden.float().mean()), 15.66, delta=0.4)
        plain = objective.hidden_tokens("diffusion", *draws).sum(1)
        wanted = (21 * torch.cos(math.pi / 2 * draws[0])).round().clamp(min=1)
        self.assertTrue(torch.equal(plain.float(), wanted))
        for other in ("parallel", "autoregressive", "l1"):
            self.assertTrue(bool(objective.hidden_tokens(other, *draws).all()))

    def test_soft_targets_are_distributions_around_their_bin(self):
        table = objective.target_table(2.0)
        torch.testing.assert_close(table.sum(1), torch.ones(256))
        self.assertEqual(table.argmax(1).tolist(), list(range(256)))
        sharp = self.soft_and_plain(0.3)
        torch.testing.assert_close(*sharp, rtol=0.02, atol=0)
        soft, plain = self.soft_and_plain(4.0)
        self.assertGreater(float((soft - plain).abs()), 1e-3)

    def soft_and_plain(self, sigma):
        run = self.ready()
        frames, text, ratio, whole, order, _ = run.draw(0)
        b, hidden = run.frames.batch(frames), objective.hidden_tokens("diffusion", ratio, whole, order)
        scale = 1 / hidden.sum()
        soft, told = run.loss(b, hidden, scale, objective.target_table(sigma))
        plain, _ = run.loss(b, hidden, scale)
        torch.testing.assert_close(told, plain.detach())
        return soft.detach(), plain.detach()

    def test_cross_entropy_is_of_the_hidden_tokens_alone(self):
        run = self.ready()
        frames, _, ratio, whole, order, _ = run.draw(0)
        b, hidden = run.frames.batch(frames), objective.hidden_tokens("diffusion", ratio, whole, order)
        loss, _ = run.loss(b, hidden, 1 / hidden.sum())
        logits = run.net(b.images, b.prompt_ids, b.prompt_length, b.proprio, torch.where(hidden, -1, b.bins))
        torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(logits[hidden], b.bins[hidden]))

    def test_own_tokens_are_the_surest_of_an_empty_chunk(self):
        run = self.ready()
        initialise.for_comparison(run.net, 3)
        frames, _, ratio, whole, order, _ = run.draw(0)
        b, hidden = run.frames.batch(frames), objective.hidden_tokens("diffusion", ratio, whole, order)
        prefix = run.net.prefix(b.images, b.proprio)
        tokens, mine = run.loss.own_tokens(b, prefix, hidden)
        self.assertTrue(torch.equal(mine.sum(1), hidden.sum(1)))
        sure, bins = run.net.denoise(prefix, b.prompt_ids, b.prompt_length, torch.full_like(b.bins, -1)).softmax(-1).max(-1)
        self.assertTrue(torch.equal(tokens, torch.where(mine, -1, bins)))
        for row in range(len(mine)):
            given, rest = sure[row][~mine[row]], sure[row][mine[row]]
            self.assertTrue(given.numel() == 0 or float(given.min()) >= float(rest.max()))
        # In the first two samples they are given, and what they hide is counted; the others are as they were.
        tokens, mine = (torch.cat([a[:2], c[2:]]) for a, c in ((tokens, torch.where(hidden, -1, b.bins)), (mine, hidden)))
        logits = run.net.denoise(prefix, b.prompt_ids, b.prompt_length, tokens)
        loss, _ = run.loss(b, hidden, 1 / hidden.sum(), own=2)
        torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(logits[mine], b.bins[mine]))

    def test_own_tokens_leave_every_weight_its_gradient(self):
        # Autocast would keep the weights that the pass without gradients has cast.
        taught = []
        for own in (0, 1):
            run = self.ready(f"--own {own}")
            frames, _, ratio, whole, order, _ = run.draw(0)
            b, hidden = run.frames.batch(frames), objective.hidden_tokens("diffusion", ratio, whole, order)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                run.loss(b, hidden, 1 / hidden.sum(), own=own * len(hidden))[0].backward()
            taught.append({name for name, p in run.named if p.grad is not None and float(p.grad.norm()) > 0})
        self.assertEqual(*taught)
        for bad in ("--own 1.5", "--own 0.5 --objective parallel", "--own 0.4 --batch 1"):
            with self.assertRaisesRegex(SystemExit, "--own "):
                self.ready(bad)

    def test_a_causal_network_is_trained_to_say_each_token_from_those_before(self):
        run = self.ready("--objective autoregressive")
        self.assertEqual(run.net.attention, "causal")
        initialise.for_comparison(run.net, 3)
        b = run.frames.batch(torch.arange(3))
        prefix = run.net.prefix(b.images, b.proprio)
        logits = run.net.denoise(prefix, b.prompt_ids, b.prompt_length, b.bins)
        changed = b.bins.clone()
        changed[:, 5] = (changed[:, 5] + 100) % 256
        moved = (run.net.denoise(prefix, b.prompt_ids, b.prompt_length, changed) - logits).abs().amax((0, 2))
        self.assertEqual(float(moved[:6].max()), 0)
        self.assertGreater(float(moved[6:].min()), 1e-3)
        with self.assertRaises(ValueError):
            objective.attention_for("autoregressive", "bidirectional")
        with self.assertRaises(ValueError):
            objective.attention_for("l1", "prefix")

    def test_a_parallel_policy_sees_no_token(self):
        run = self.ready("--objective parallel")
        b = run.frames.batch(torch.arange(3))
        hidden = torch.ones_like(b.bins, dtype=torch.bool)
        logits = run.net(b.images, b.prompt_ids, b.prompt_length, b.proprio, torch.full_like(b.bins, -1))
        loss, _ = run.loss(b, hidden, 1 / hidden.sum())
        torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(logits.flatten(0, 1), b.bins.flatten()))

    def test_values_are_learned_by_their_absolute_error(self):
        run = self.ready("--objective l1")
        b = run.frames.batch(torch.arange(3))
        values = run.net.values(run.net.prefix(b.images, b.proprio), b.prompt_ids, b.prompt_length)
        loss, _ = run.loss(b, torch.ones_like(b.bins, dtype=torch.bool), 1 / b.bins.numel())
        torch.testing.assert_close(loss, (values - b.values).abs().mean())
        other, _ = run.loss(b._replace(bins=b.bins * 0), torch.ones_like(b.bins, dtype=torch.bool), 1 / b.bins.numel())
        self.assertEqual(float(loss), float(other), "tokens are not looked at")


class RunTest(Case):
    def test_a_run_that_was_stopped_goes_on_bit_for_bit(self):
        for kind in ("diffusion --soften 2 --whole 0.2", "l1"):
            with self.subTest(kind):
                options = f"--steps 9 --objective {kind}"
                whole, at_once = self.train(options)
                _, out = self.train(options, stop_at=4)
                self.assertNotEqual(self.files(out), self.files(at_once))
                self.assertIn("stopped: 4 steps", self.said)
                parts, _ = self.train(options + " --resume", out=out)
                self.assertEqual(parts.step, 9)
                self.assertEqual(self.files(out), self.files(at_once))
                for name, a, b in zip(whole.net.state_dict(), whole.net.state_dict().values(), parts.net.state_dict().values()):
                    self.assertTrue(torch.equal(a, b), name)
                with open(os.path.join(out, "curves.csv"), encoding="utf-8") as file:
                    steps = [int(line.split(",")[0]) for line in file.read().splitlines()[1:]]
                self.assertEqual(steps, sorted(steps))

    def test_seeds_repeat_and_differ(self):
        one, two, other = (self.files(self.train(f"--steps 3 --seed {seed}")[1]) for seed in (5, 5, 6))
        self.assertEqual(one, two)
        self.assertNotEqual(one["model.safetensors"], other["model.safetensors"])

    def test_a_resumed_run_must_be_the_same_one(self):
        _, out = self.train("--steps 4", stop_at=2)
        for change in ("--seed 2", "--batch 4", "--objective parallel", "--mean 0", "--chunk 3", "--normalization bounds", "--attention prefix", "--plain-images"):
            with self.subTest(change), self.assertRaisesRegex(ValueError, "the run to resume"):
                self.train(f"--steps 4 {change} --resume", out=out)
        with self.assertRaisesRegex(ValueError, "has seed 1, this one 2; chunk 4, this one 3 .*give the options"):
            self.train("--steps 4 --seed 2 --chunk 3 --resume", out=out)
        rebuilt = self.out()
        toy.write(rebuilt, 24, 2)
        with self.assertRaisesRegex(ValueError, "has statistics [0-9a-f]+, this one"):
            self.train(f"--steps 4 --resume --data {rebuilt}", out=out)

    def test_a_resumed_adapter_must_be_the_same_one(self):
        _, base = self.train("--steps 1")
        _, out = self.train(f"--init {base} --lora 4 --merge --steps 4", stop_at=2)
        _, other = self.train("--steps 1")
        with self.assertRaisesRegex(ValueError, f"has init {base}, this one {other}"):
            self.train(f"--init {other} --lora 4 --merge --steps 4 --resume", out=out)
        with self.assertRaisesRegex(ValueError, "has alpha 4, this one 8"):
            self.train(f"--init {base} --lora 4 --alpha 8 --merge --steps 4 --resume", out=out)

    def test_a_state_of_an_older_version_is_gone_on_from(self):
        _, out = self.train("--steps 4", stop_at=2)
        state = checkpoint.read_safetensors(out + ".state")
        del state["identity"]
        state["run"] = torch.cat([state["run"], torch.tensor([8.0, 1.0, 0.0], dtype=torch.float64)])
        checkpoint.write_safetensors(out + ".state", state)
        with self.assertRaisesRegex(ValueError, "has objective diffusion, this one l1"):
            self.train("--steps 4 --objective l1 --resume", out=out)
        self.assertEqual(self.train("--steps 4 --resume", out=out)[0].step, 4)

    def test_a_run_of_minutes_ends_whole_and_its_rate_falls_to_the_floor(self):
        run, out = self.train("--minutes 0.05 --log-every 0 --rate 1e-3 --floor 0.01")
        self.assertGreater(run.step, 0)
        self.assertIn("# done", self.said)
        self.assertIn("held out: loss", self.said)
        with open(os.path.join(out, "curves.csv"), encoding="utf-8") as file:
            rates = [float(line.split(",")[4]) for line in file.read().splitlines()[1:] if line.split(",")[4]]
        self.assertLess(rates[-1], max(rates))
        model.load(out, 2, 12)

    def test_a_signal_ends_a_run_with_a_whole_checkpoint(self):
        out = self.out()
        command = [sys.executable, os.path.join(HERE, "train.py"), *self.arguments(out, "--steps 1000000 --log-every 0")]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for line in process.stdout:
            if line.startswith("step 2 "):
                process.send_signal(signal.SIGTERM)
                break
        rest = process.stdout.read()
        process.stdout.close()
        self.assertEqual(process.wait(), 0, rest)
        self.assertIn("# stopped", rest)
        model.load(out, 2, 12)
        self.assertGreaterEqual(int(checkpoint.read_safetensors(out + ".state")["run"][0]), 2)

    def test_it_learns(self):
        run, _ = self.train("--steps 160 --rate 4e-3 --objective l1 --plain-images --mean 0 --log-every 0")
        with open(os.path.join(run.options.out, "curves.csv"), encoding="utf-8") as file:
            losses = [float(line.split(",")[3]) for line in file.read().splitlines()[1:] if line.split(",")[3]]
        self.assertLess(sum(losses[-10:]), 0.6 * sum(losses[:10]))

    def test_nothing_but_dead_parameters_goes_without_gradient(self):
        for kind in objective.OBJECTIVES:
            with self.subTest(kind):
                run = self.ready(f"--objective {kind}")
                got = set(self.gradients(run))
                without = {name for name, p in run.net.named_parameters() if name not in got}
                head = {"language_model.lm_head.weight"} if kind == "l1" else set()
                self.assertEqual(without, set(run.net.dead_parameters()) | head)
                self.assertTrue(all(not p.requires_grad for n, p in run.net.named_parameters() if n in without))

    def test_parts_of_a_batch_have_its_gradient(self):
        whole = self.gradients(self.ready("--batch 12"))
        for name, gradient in self.gradients(self.ready("--batch 4 --accumulate 3")).items():
            torch.testing.assert_close(gradient, whole[name], rtol=1e-4, atol=1e-6)

    def test_recomputing_changes_no_gradient(self):
        kept = self.gradients(self.ready())
        for name, gradient in self.gradients(self.ready("--recompute")).items():
            torch.testing.assert_close(gradient, kept[name], rtol=1e-5, atol=1e-7)

    def test_bfloat16_points_the_same_way(self):
        wide, narrow = (torch.cat([g.flatten() for g in self.gradients(self.ready(o)).values()]) for o in ("", "--precision bf16"))
        self.assertGreater(float(torch.cosine_similarity(wide, narrow, 0)), 0.99)
        self.assertFalse(torch.equal(wide, narrow))

    def test_without_a_compiler_a_run_goes_on(self):
        with mock.patch.object(compiled.torch, "compile", side_effect=RuntimeError("not on this machine"), create=True):
            run = self.ready("--compile")
        self.assertIsNone(run.compiled)
        self.assertIn("not on this machine", self.said)
        if not hasattr(torch.nn.Module, "compile"):
            self.assertIsNone(self.ready("--compile").compiled)
            self.assertIn("torch.compile failed, the plain operations go on", self.said)

    @unittest.skipUnless(hasattr(torch.nn.Module, "compile"), "PyTorch 2.2 has it")
    def test_compiled_layers_have_the_gradient_of_plain_ones(self):
        plain = self.gradients(self.ready())
        with mock.patch.object(trainer, "Compiled", lambda net, log: compiled.Compiled(net, log, backend="aot_eager")):
            run = self.ready("--compile")
        for name, gradient in self.gradients(run).items():
            torch.testing.assert_close(gradient, plain[name], rtol=1e-4, atol=1e-6)
        self.assertIsNotNone(run.compiled)
        self.assertTrue(all(m._compiled_call_impl is None for m in run.compiled.modules))

    @unittest.skipUnless(hasattr(torch.nn.Module, "compile"), "PyTorch 2.2 has it")
    def test_a_compiler_that_fails_is_done_without(self):
        def broken(graph, inputs):
            raise RuntimeError("no compiler here")

        plain, said = self.gradients(self.ready()), []
        with mock.patch.object(trainer, "Compiled", lambda net, log: compiled.Compiled(net, said.append, backend=broken)):
            run = self.ready("--compile")
        for name, gradient in self.gradients(run).items():
            torch.testing.assert_close(gradient, plain[name], rtol=1e-5, atol=1e-7)
        self.assertIsNone(run.compiled)
        self.assertIn("no compiler here", said[0])

    def test_a_mean_is_put_in_place_for_a_while(self):
        p = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
        mean = trainer.Mean([p])
        with torch.no_grad():
            p.add_(4)
        mean.update(0.75)
        with mean.applied():
            self.assertEqual(p.tolist(), [2.0, 3.0])
        self.assertEqual((p.tolist(), mean.values[0].tolist()), ([5.0, 6.0], [2.0, 3.0]))

    def test_a_loss_that_is_no_number_ends_the_run(self):
        _, out = self.train("--steps 2")
        before = self.files(out)
        with self.assertRaisesRegex(FloatingPointError, "smaller --rate"):
            self.train("--steps 40 --rate 1e30 --log-every 0 --clip 1e30", out=out)
        self.assertEqual(self.files(out), before)

    def test_a_gradient_that_is_no_number_leaves_the_last_checkpoint(self):
        for options, broken in (("--steps 4", 3), ("--steps 6 --every 0", 3), ("--steps 6 --every 0", 0)):
            with self.subTest(options, broken=broken):
                out, gradients = self.out(), trainer.Trainer.gradients

                def breaks(self, sigma=0.0, broken=broken, gradients=gradients):
                    loss = gradients(self, sigma)
                    if self.step == broken:
                        self.parameters[0].grad[:] = math.nan
                    return loss

                with mock.patch.object(trainer.Trainer, "gradients", breaks), self.assertRaisesRegex(FloatingPointError, "gradient is nan"):
                    self.train(options + " --log-every 1000", out=out)
                saved = broken if "every" in options else 0
                self.assertEqual(os.path.exists(out + ".state"), saved > 0)
                if saved:
                    self.assertEqual(int(checkpoint.read_safetensors(out + ".state")["run"][0]), saved)
                    for name, tensor in checkpoint.read_weights(out).items():
                        self.assertTrue(bool(torch.isfinite(tensor).all()), name)

    def test_a_checkpoint_that_takes_long_is_not_due_at_the_next_step(self):
        now, saved = [0.0], []
        update, save = trainer.Trainer.update, trainer.Trainer.checkpoint

        def second(self, rate):
            now[0] += 1
            return update(self, rate)

        def minutes(self):
            saved.append(self.step)
            now[0] += 300
            return save(self)

        with mock.patch.object(trainer.Trainer, "update", second), mock.patch.object(trainer.Trainer, "checkpoint", minutes):
            with mock.patch.object(trainer.Clock, "own", lambda self: now[0]):
                self.train("--steps 12 --every 0.075")
        self.assertEqual(saved, [6, 12, 12], "4.5 s after the beginning or the last one, and at the end")

    def test_no_more_is_measured_at_once_than_trained(self):
        run = self.ready("--batch 8 --hold-out 0.5")
        chosen, sizes, batch = run.held_out[:14], [], run.held_out_frames.batch

        def counted(frames, *more):
            sizes.append(len(frames))
            return batch(frames, *more)

        run.held_out_frames.batch = counted
        for decoded in (False, True):
            run.options.batch = 8
            with torch.no_grad():
                wide = run.errors(chosen, decoded)
                run.options.batch = 3
                narrow = run.errors(chosen, decoded)
            numpy.testing.assert_allclose(narrow, wide, rtol=1e-5)
        self.assertEqual(sizes, [8, 6, 3, 3, 3, 3, 2] * 2)

    def test_what_a_checkpoint_was_trained_with_is_gone_on_with(self):
        _, out = self.train("--steps 2 --plain-images --normalization bounds --attention prefix")
        run = self.ready(f"--init {out} --statistics init")
        self.assertEqual((run.options.normalization, run.area, run.options.plain_images, run.net.attention), ("bounds", 1, True, "prefix"))

    def test_options_that_make_no_sense_are_refused(self):
        nonsense = ["--merge", "--lora 4", "--batch 0", "--statistics init", "--until 5 --minutes 3", "--resume --state none"]
        nonsense += ["--validate 0", "--decode 0", "--soften 2 --harden-at 0"]
        for text in nonsense:
            with self.subTest(text), self.assertRaises(SystemExit), contextlib.redirect_stderr(io.StringIO()):
                self.ready(text)

    def test_held_out_data_of_another_form_is_refused(self):
        for change in ({"size": 24}, {"cameras": 1}, {"dims": 4}):
            other = self.out()
            toy.write(other, 4, 3, **change)
            with self.subTest(change), self.assertRaisesRegex(SystemExit, f"{other} cannot be measured on for .*: .* of dataset.json differs"):
                self.ready(f"--held-out {other}")

    def test_a_checkpoint_of_other_columns_is_refused(self):
        other = self.out()
        toy.write(other, 24, 1, dims=4)
        with mock.patch.object(self, "data", other):
            _, out = self.train("--steps 1 --objective l1")
        # Its head and its statistics are of four columns; its projector would take four numbers of the robot's state.
        for text, error in (
            ("--statistics init", "dataset_statistics.json: its bounds are of 4 columns of action, the data set has 3; with --statistics data"),
            ("--objective l1", "takes 4 numbers of the robot's state"),
        ):
            with self.subTest(text), self.assertRaisesRegex(SystemExit, error):
                self.ready(f"--init {out} {text}")
        os.remove(os.path.join(out, "proprio_projector.safetensors"))
        with self.assertRaisesRegex(SystemExit, "has an action head for 4 columns, .* has 3; for a new head"):
            self.ready(f"--init {out} --objective l1")

    def test_edges_of_bins_are_refused(self):
        _, out = self.train("--steps 1")
        path = os.path.join(out, "dataset_statistics.json")
        statistics = checkpoint.read_json(path)
        statistics["toy"]["action"]["bin_edges"] = [[], [-1, 0, 1], []]
        checkpoint.write_json(path, statistics)
        self.ready(f"--init {out}")
        with self.assertRaisesRegex(SystemExit, f"{path}: action.bin_edges has edges"):
            self.ready(f"--init {out} --statistics init")


def worker(rank, processes, arguments, result):
    """One of two processes: leaves the gradients of its first step, and its weights after three."""
    faulthandler.dump_traceback_later(PATIENCE - 10)  # where it hangs, if it does
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(processes), LOCAL_RANK=str(rank))
    kept = {}

    def run(self):
        self.gradients()
        kept["gradients"] = {n: p.grad.clone() for n, p in self.net.named_parameters() if p.grad is not None}
        self.optimiser.zero_grad(set_to_none=True)
        trainer_run(self)

    trainer_run = trainer.Trainer.run
    trainer.Trainer.run = run
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
        done = train.main(arguments)
    if rank == 0:
        torch.save({"gradients": kept["gradients"], "weights": done.net.state_dict(), "step": done.step}, result)


def signalled(rank, processes, arguments, result):
    """One of two processes, of which the second has a SIGTERM in its third step; leaves the steps that it took, and
    whether it knows that it was stopped."""
    faulthandler.dump_traceback_later(PATIENCE - 10)
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(processes), LOCAL_RANK=str(rank))
    update = trainer.Trainer.update

    def signals(self, rate):
        norm = update(self, rate)
        if self.step == 3 and rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return norm

    trainer.Trainer.update = signals
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
        done = train.main(arguments)
    torch.save(torch.tensor([done.step, done.stop]), f"{result}.{rank}")


# How long in seconds two processes may take for their three steps, which are over in ten.
PATIENCE = 120


class DistributedTest(Case):
    def processes(self, arguments, result, worker=worker):
        """Runs both. Once in some forty runs, of PyTorch 1.13, one of them was found to spin for ever after the other
        had ended; that is told, with where it was, and tried once more."""
        for last in (False, True):
            # Debian 13 builds PyTorch without libuv, which its store asks for by default.
            environment = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "USE_LIBUV": "0"}
            with mock.patch.dict(os.environ, environment):
                running = torch.multiprocessing.spawn(worker, (2, arguments, result), nprocs=2, join=False)
            end = time.monotonic() + PATIENCE
            while time.monotonic() < end:
                if running.join(1):
                    return
            for process in running.processes:
                process.kill()
                process.join()
            self.assertFalse(last, "two processes hang")
            print(f"two processes hung for {PATIENCE} s, and are tried once more", file=sys.stderr, flush=True)

    def test_two_processes_have_the_gradient_of_one_with_the_joint_batch(self):
        options = "--steps 3 --precision fp32"
        result = self.out()
        self.processes(self.arguments(self.out(), options + " --batch 4 --accumulate 2"), result)
        two = torch.load(result, **checkpoint.TENSORS_ALONE)
        one = self.gradients(self.ready(options + " --batch 16"))
        self.assertEqual(set(two["gradients"]), set(one))
        for name, gradient in one.items():
            torch.testing.assert_close(two["gradients"][name], gradient, rtol=1e-4, atol=1e-6)
        alone, _ = self.train(options + " --batch 16")
        self.assertEqual(two["step"], 3)
        # Adam divides by the size of the gradient: where that is rounding alone, so is the step.
        for name, weight in alone.net.state_dict().items():
            self.assertLess(float((two["weights"][name] - weight).abs().mean()), 1e-5, name)


    def test_a_signal_to_one_stops_all_at_the_same_step(self):
        out, result = self.out(), self.out()
        self.processes(self.arguments(out, "--steps 1000000 --batch 4"), result, signalled)
        (one, stopped), (two, _) = (torch.load(f"{result}.{rank}", **checkpoint.TENSORS_ALONE).tolist() for rank in range(2))
        self.assertEqual((one, two, stopped), (3, 3, 1))
        self.assertEqual(int(checkpoint.read_safetensors(out + ".state")["run"][0]), 3)
        model.load(out, 2, 12)

    def test_a_signal_to_cores_sh_ends_a_run_with_a_whole_checkpoint(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            with self.subTest(number):
                out = self.out()
                command = [os.path.join(HERE, "cores.sh"), *self.arguments(out, "--steps 1000000 --log-every 0")]
                process = subprocess.Popen(
                    command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
                    env={**os.environ, "CORES": "2", "DDVLA_PYTHON": sys.executable},
                )  # fmt: skip
                kill = threading.Timer(PATIENCE, os.killpg, (process.pid, signal.SIGKILL))
                self.addCleanup(kill.cancel)
                kill.start()
                for line in process.stdout:
                    if line.startswith("step 2 "):
                        # As a terminal sends SIGINT, to all; SIGTERM, as kill does, to the script.
                        os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
                        break
                rest = process.stdout.read()
                process.stdout.close()
                status = process.wait()
                kill.cancel()
                self.assertEqual(status, 128 + number, rest)
                self.assertIn("# stopped", rest)
                model.load(out, 2, 12)
                self.assertGreaterEqual(int(checkpoint.read_safetensors(out + ".state")["run"][0]), 2)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class AdapterTest(Case):
    def base(self):
        if not hasattr(AdapterTest, "made"):
            AdapterTest.made = self.train("--steps 2")[1]
        return AdapterTest.made

    def test_adapters_alone_are_trained_and_merged_they_say_the_same(self):
        run, out = self.train(f"--init {self.base()} --lora 4 --merge --steps 6 --rate 1e-2 --mean 0 --save-dtype fp32")
        trained = {name for name, p in run.net.named_parameters() if p.requires_grad}
        self.assertTrue(all(".lora_" in n or n.startswith("proprio_projector.") for n in trained))
        dead = {n.rsplit(".", 1)[0] for n in run.net.dead_parameters()}
        adapted = {n for n, _ in lora.adaptable(run.net)}
        self.assertEqual({n.split(".lora_")[0] for n in trained if ".lora_" in n}, adapted - dead)
        b = run.frames.batch(torch.arange(4))
        inputs = b.images, b.prompt_ids, b.prompt_length, b.proprio, torch.full_like(b.bins, -1)
        with torch.no_grad():
            beside = run.net(*inputs)
        merged, base = model.load(out, 2, 12).logits(*inputs), model.load(self.base(), 2, 12).logits(*inputs)
        torch.testing.assert_close(merged, beside, rtol=1e-4, atol=1e-4)
        self.assertGreater(float((merged - base).abs().max()), 1e-2)

    def test_an_adapter_is_saved_as_peft_does(self):
        run, out = self.train(f"--init {self.base()} --lora 3 --alpha 6 --targets q_proj proj lm_head --statistics init --steps 3")
        tensors = checkpoint.read_safetensors(os.path.join(out, "adapter_model.safetensors"))
        config = checkpoint.read_json(os.path.join(out, "adapter_config.json"))
        self.assertEqual((config["peft_type"], config["r"], config["lora_alpha"]), ("LORA", 3, 6))
        self.assertEqual(config["target_modules"], ["lm_head", "proj", "q_proj"])
        a = tensors["base_model.model.vision_backbone.featurizer.patch_embed.proj.lora_A.weight"]
        b = tensors["base_model.model.vision_backbone.featurizer.patch_embed.proj.lora_B.weight"]
        self.assertEqual((tuple(a.shape), tuple(b.shape)), ((3, 3, 8, 8), (16, 3, 1, 1)))
        self.assertFalse(os.path.exists(os.path.join(out, "model.safetensors")))
        # Merged by hand, the file's tensors are what the run has learned (its mean weights).
        base = model.load(self.base(), 2, 12)
        with run.applied_mean():
            want = lora.merged(run.net)
        for name, tensor in base.state_dict().items():
            module = "base_model.model." + name[: -len(".weight")]
            if module + ".lora_A.weight" in tensors:
                product = tensors[module + ".lora_B.weight"].flatten(1) @ tensors[module + ".lora_A.weight"].flatten(1)
                tensor = tensor + 2 * product.view(tensor.shape)
            torch.testing.assert_close(want[name], tensor, rtol=1e-6, atol=1e-6)

    def test_adapters_are_merged_one_after_the_other(self):
        net = model.load(self.base(), 2, 12)
        lora.attach(net, 4, 4, 1)
        kept, weight_of = [], lora.weight_of

        def watched(module):
            self.assertFalse([1 for merged in kept if merged() is not None], "an earlier layer's is still there")
            merged = weight_of(module)
            kept.append(weakref.ref(merged))
            return merged

        with mock.patch.object(lora, "weight_of", watched):
            state = lora.merged(net, torch.bfloat16)
        self.assertEqual(len(kept), sum(1 for _ in lora.adaptable(net)))
        self.assertEqual({(t.dtype, t.device.type) for t in state.values()}, {(torch.bfloat16, "cpu")})
        for name, tensor in lora.merged(net).items():
            self.assertTrue(torch.equal(state[name], tensor.to(torch.bfloat16)), name)

    def test_a_fresh_adapter_changes_nothing(self):
        net = model.load(self.base(), 2, 12)
        before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
        lora.attach(net, 4, 4, 1)
        for name, tensor in lora.merged(net).items():
            self.assertTrue(torch.equal(tensor, before[name]), name)
        with self.assertRaises(ValueError):
            lora.attach(model.load(self.base(), 2, 12), 4, 4, 1, ["nothing"])

    def test_the_parts_beside_the_model_are_read_as_openvla_oft_saves_them(self):
        with tempfile.TemporaryDirectory() as directory:
            head = ActionHead(24, 3)
            head.initialise(1)
            wrapped = {"module." + name: tensor for name, tensor in head.state_dict().items()}
            path = os.path.join(directory, "action_head--150000_checkpoint.pt")
            torch.save(wrapped, path)
            tensors = model.read_part(directory, "action_head")
            same = ActionHead.of_tensors(tensors, 24)
            states = torch.randn(2, 12, 24)
            self.assertTrue(torch.equal(head(states), same(states)))
            torch.save(wrapped, path.replace("150000", "latest"))
            with self.assertRaises(ValueError):
                model.read_part(directory, "action_head")

    def test_vision_towers_with_film_are_refused(self):
        out = self.out()
        shutil.copytree(self.base(), out)
        path = os.path.join(out, "vision_backbone--150000_checkpoint.pt")
        torch.save({}, path)
        with self.assertRaisesRegex(ValueError, f"{path}: .*FiLM"):
            model.load(out, 2, 12)
        with self.assertRaisesRegex(SystemExit, f"--init: {path}: .*FiLM"):
            self.ready(f"--init {out}")

    def test_fine_tuning_goes_on_from_a_checkpoint(self):
        run = self.ready(f"--init {self.base()} --statistics init")
        want = model.load(self.base(), 2, 12).state_dict()
        for name, tensor in run.net.state_dict().items():
            self.assertTrue(torch.equal(tensor, want[name]), name)


class ExportTest(Case):
    """What export.args tells of the columns."""

    def options(self, action, proprio=None, out=None):
        """{option: value} of export.args after a run on a data set with such columns, and the checkpoint."""
        directory, out = self.out(), out or self.out()
        toy.write(directory, 24, 1, dims=len(action))
        path = os.path.join(directory, "dataset.json")
        proprio = [{k: c[k] for k in ("name", "arm", "unit")} for c in action] if proprio is None else proprio
        checkpoint.write_json(path, {**checkpoint.read_json(path), "action": action, "proprio": proprio})
        with mock.patch.object(self, "data", directory):
            self.train("--steps 1", out=out)
        told = train.exported_with(out)
        return {name: told.get(name) for name in ("action-dims", "proprio-dims")}, out

    def test_columns_that_export_assumes_are_not_told(self):
        both = columns.arm("left") + columns.arm("right")
        self.assertEqual(self.options(both)[0], {"action-dims": None, "proprio-dims": None})
        self.assertEqual(self.options(columns.arm("right"))[0], {"action-dims": "right_arm", "proprio-dims": None})

    def test_other_columns_are_told_in_files(self):
        swapped, both = columns.arm("right") + columns.arm("left"), columns.arm("left") + columns.arm("right")
        told, out = self.options(swapped)
        for name, path in told.items():
            self.assertEqual(path, os.path.join(os.path.abspath(out), name.replace("-", "_") + ".json"))
        self.assertEqual(checkpoint.read_json(told["action-dims"]), swapped)
        self.assertEqual([e["name"] for e in checkpoint.read_json(told["proprio-dims"])], [e["name"] for e in swapped])
        told, _ = self.options(swapped, columns.state("cobot_magic"))
        self.assertEqual(told["proprio-dims"], "cobot_magic")
        told, out = self.options(both, columns.state("right_arm") + columns.state("left_arm"))
        self.assertEqual(told, {"action-dims": None, "proprio-dims": os.path.join(os.path.abspath(out), "proprio_dims.json")})

    def test_a_path_that_a_shell_would_take_apart_is_refused(self):
        both = columns.arm("left") + columns.arm("right")
        for name in ("a b", "a*"):
            self.options(both, out=os.path.join(self.out(), name))
            with self.subTest(name), self.assertRaisesRegex(SystemExit, "no blanks"):
                self.options(both[::-1], out=os.path.join(self.out(), name))


class FilesTest(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.directory = scratch.name

    def found(self):
        found = {}
        for name in os.listdir(self.directory):
            with open(os.path.join(self.directory, name), "rb") as file:
                found[name] = file.read()
        return found

    def test_all_are_in_place_at_the_end_and_what_is_outdated_is_gone(self):
        with checkpoint.Files(self.directory) as files:
            files.weights({"a": torch.zeros(2), "b": torch.zeros(3)}, 2)
            self.assertTrue(all(name.endswith(".part") for name in self.found()))
        self.assertEqual(len(self.found()), 3)
        order, replace = [], os.replace
        with mock.patch.object(os, "replace", lambda a, b: order.append(os.path.basename(b)) or replace(a, b)):
            with checkpoint.Files(self.directory) as files:
                files.json("config.json", {"ä": 1})
                files.data("x", b"1")
                files.weights({"a": torch.ones(2)})
                self.assertIn("model.safetensors.index.json", self.found())
        self.assertEqual(order, ["config.json", "x", "model.safetensors"])
        self.assertEqual(self.found()["config.json"].decode(), '{\n  "ä": 1\n}\n')
        self.assertEqual(checkpoint.read_weights(self.directory)["a"].tolist(), [1, 1])
        with checkpoint.Files(self.directory) as files:
            files.weights({"a": torch.zeros(2), "b": torch.zeros(3)}, 2)
        self.assertEqual(checkpoint.read_weights(self.directory)["a"].tolist(), [0, 0])
        self.assertNotIn("model.safetensors", self.found())
        checkpoint.write_safetensors(os.path.join(self.directory, "model.safetensors"), {"a": torch.ones(2)})
        with self.assertRaisesRegex(ValueError, "both model.safetensors and an index"):
            checkpoint.read_weights(self.directory)

    def test_where_one_cannot_be_written_none_is_replaced(self):
        with checkpoint.Files(self.directory) as files:
            files.data("one", b"old")
            files.data("two", b"old")
        before, fsync = self.found(), os.fsync
        full = mock.Mock(side_effect=[None, OSError(errno.ENOSPC, "no space left")])
        with mock.patch.object(os, "fsync", full), self.assertRaises(OSError), checkpoint.Files(self.directory) as files:
            files.data("one", b"new")
            files.data("two", b"new")
        self.assertEqual(self.found(), before)
        self.assertIs(os.fsync, fsync)


class CurvesTest(Case):
    def test_a_page_is_whole_and_needs_nothing(self):
        rows = [{"step": s, "minutes": s / 60, "loss": 5 / (s + 1), "rate": 1e-3, "gradient": 1.0} for s in range(0, 300, 3)]
        rows += [{"step": 150, "held_out_loss": 2.0, "held_out_rad": 0.1, "held_out_m": math.nan}]
        page = curves.page("a <run> & more", rows)
        self.assertIn("a &lt;run&gt; &amp; more", page)
        self.assertNotIn("http", page)
        plots = [xml.fromstring(part.split("</svg>")[0].join(("<svg", "</svg>"))) for part in page.split("<svg")[1:]]
        self.assertEqual(len(plots), 4, "loss, held-out error, rate and gradient have numbers, the speed has none")
        points = plots[0].find("polyline").get("points").split()
        self.assertEqual(len(points), 100)
        heights = [float(p.split(",")[1]) for p in points]
        self.assertEqual(heights, sorted(heights), "a falling loss goes down the page")

    def test_rows_after_a_checkpoint_go_when_a_run_goes_on(self):
        with tempfile.TemporaryDirectory() as directory:
            first = curves.Curves(directory, "x")
            for step in (1, 5, 9):
                first.add(step=step, loss=1 / step)
            second = curves.Curves(directory, "x", until=5)
            second.add(step=6, loss=0.25)
            with open(os.path.join(directory, "curves.csv"), encoding="utf-8") as file:
                self.assertEqual([line.split(",")[0] for line in file.read().splitlines()], ["step", "1", "5", "6"])


class TinyAllTest(Case):
    def test_one_that_fails_is_started_again_and_does_not_disturb_the_others(self):
        out = self.out()
        command = [sys.executable, os.path.join(HERE, "tiny_all.py"), "--data", self.data, "--out", out, "--steps", "3", "--batch", "8"]
        command += ["--only", "parallel", "l1", "--", *self.arguments(out)[4:]]
        # The state of an earlier run, of which nothing can be made, stops one of them for good.
        os.makedirs(os.path.join(out, "l1", "model.safetensors"))
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn("l1 failed with 1, and is started again", done.stdout)
        self.assertIn("parallel: whole after 1 start:", done.stdout)
        model.load(os.path.join(out, "parallel"), 2, 12)


if __name__ == "__main__":
    unittest.main()
