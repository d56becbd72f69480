"""Properties of the model and its checkpoints: python3 train/test_model.py"""

import contextlib
import io
import os
import sys
import tempfile
import unittest
from unittest import mock

import numpy
import torch

import pretrain
from ddvla import attention, checkpoint, data, decode, initialise, model
from ddvla.prompt import Tokenizer
from make_random import observation
from train import draw_mask, target_table

HERE = os.path.dirname(os.path.abspath(__file__))
SIZES = model.Sizes(
    image=28, patch=7, images=2, hidden=40, layers=3, heads=2, intermediate=56, proprio=5, slots=21,
    dino=model.ViTSizes(24, 3, 3, 40, registers=3, cls=True, layer_scale=True),
    siglip=model.ViTSizes(36, 4, 2, 44, attn_pool=True),
)  # fmt: skip


def random_model(seed=1):
    net = model.DDVLA(SIZES, model.IMAGE_MEAN, model.IMAGE_STD).eval()
    initialise.for_comparison(net, seed, 2.0, observation(SIZES, seed))
    return net


class ModelTest(unittest.TestCase):
    def setUp(self):
        torch.manual_seed(0)
        torch.set_num_threads(1)

    def test_a_padded_prompt_gives_the_logits_of_the_unpadded_one(self):
        net = random_model()
        images, ids, lengths, proprio, tokens = observation(SIZES, 5, batch=3, prompt=9)
        padded = net.logits(images, ids, lengths, proprio, tokens)
        self.assertEqual(lengths.tolist(), [9, 8, 7])
        for row, length in enumerate(lengths.tolist()):
            one = slice(row, row + 1)
            alone = net.logits(images[one], ids[one, :length], lengths[one], proprio[one], tokens[one])
            torch.testing.assert_close(padded[one], alone, rtol=1e-4, atol=1e-4)

    def test_rows_of_a_batch_are_independent(self):
        net = random_model()
        observed = observation(SIZES, 6, batch=2)
        before = net.logits(*observed)
        images, ids, lengths, proprio, tokens = (value.clone() for value in observed)
        images[1], tokens[1], proprio[1], ids[1, 1] = 0, 7, 0.5, 9
        after = net.logits(images, ids, lengths, proprio, tokens)
        torch.testing.assert_close(before[0], after[0], rtol=1e-4, atol=1e-4)
        self.assertGreater(float((before[1] - after[1]).abs().max()), 0.5)

    def test_every_mutation_is_seen_in_the_logits(self):
        net, observed = random_model(), observation(SIZES, 7)
        logits = net.logits(*observed)
        self.assertGreater(float(logits.std()), 1)
        for name in model.MUTATIONS:
            with self.subTest(name):
                self.assertGreater(float((net.logits(*observed, mutate=name) - logits).abs().max()), 0.5)

    def test_a_saved_checkpoint_loads_bit_for_bit(self):
        net, observed = random_model(), observation(SIZES, 8)
        for shards in (1, 3):
            with tempfile.TemporaryDirectory() as directory:
                net.save(directory, torch.float32, shards)
                again = model.load(directory, SIZES.images, SIZES.slots)
                self.assertEqual(again.sizes, SIZES)
                self.assertTrue(torch.equal(net.logits(*observed), again.logits(*observed)))
                for dtype in (torch.bfloat16, torch.float16):
                    again.save(directory, dtype)
                    for name, tensor in model.load(directory, SIZES.images, SIZES.slots).state_dict().items():
                        self.assertTrue(torch.equal(tensor, net.state_dict()[name].to(dtype).float()), name)

    def test_the_dead_tensors_of_the_published_layout_are_there(self):
        names = set(random_model().state_dict())
        for name in (
            "vision_backbone.featurizer.blocks.2.ls2.scale_factor",
            "vision_backbone.featurizer.norm.bias",
            "vision_backbone.fused_featurizer.attn_pool.latent",
            "vision_backbone.fused_featurizer.attn_pool.mlp.fc2.weight",
            "language_model.lm_head.weight",
        ):
            self.assertIn(name, names)

    def test_bins_are_those_of_openvla(self):
        # MODEL constants of openvla-oft's ActionTokenizer at V = 32000: -1, 0, 0.5 and 1 are tokens
        # 31999, 31872, 31808 and 31744, and decode to these centres.
        values = numpy.array([-1, 0, 0.5, 1])
        self.assertEqual(data.bins(values).tolist(), [0, 127, 191, 255])
        numpy.testing.assert_allclose(data.centres(data.bins(values)), [-0.996078, 0, 0.501961, 0.996078], atol=1e-6)

    def test_the_fast_gradient_of_attention_is_the_plain_one(self):
        q, k, v = (torch.randn(2, 7, 3, 8).transpose(1, 2) for _ in range(3))
        weights = torch.randn(2, 3, 7, 8)
        gradients = []
        for bias in (None, torch.zeros(1)):
            inputs = [x.clone().requires_grad_() for x in (q, k, v)]
            (attention.attend(*inputs, bias) * weights).sum().backward()
            gradients.append([x.grad for x in inputs])
        for fast, plain in zip(*gradients):
            torch.testing.assert_close(fast, plain, rtol=1e-5, atol=1e-5)

    def test_masks_hide_at_least_one_token_and_sometimes_all(self):
        masked = draw_mask(4000, 21, 0.3, torch.Generator().manual_seed(0)).sum(1)
        self.assertGreaterEqual(int(masked.min()), 1)
        # 0.3 whole, and cos(pi u / 2) averages 2 / pi: 21 (0.3 + 0.7 * 0.6366) = 15.66.
        self.assertAlmostEqual(float(masked.float().mean()), 15.66, delta=0.4)

    def test_soft_targets_are_distributions_around_their_bin(self):
        table = target_table(2.0)
        torch.testing.assert_close(table.sum(1), torch.ones(256))
        self.assertEqual(table.argmax(1).tolist(), list(range(256)))

    def test_greedy_decoding_fills_every_slot_and_ignores_its_neighbours_in_the_batch(self):
        net = random_model()
        images, ids, lengths, proprio, _ = observation(SIZES, 9, batch=2)
        tokens, mean = decode.greedy(net, images, ids, lengths, proprio)
        self.assertTrue(bool((tokens >= 0).all()))
        self.assertLess(float((mean - torch.tensor(data.centres(tokens.numpy()))).abs().max()), 2.01 / 127.5)
        one = slice(0, 1)
        alone, _ = decode.greedy(net, images[one], ids[one, : lengths[0]], lengths[one], proprio[one])
        self.assertGreater(float((alone == tokens[one]).float().mean()), 0.95)

    def test_a_broken_file_is_refused(self):
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "x.safetensors")
            checkpoint.write_safetensors(path, {"a": torch.arange(6.0).reshape(2, 3), "b": torch.zeros(0, 2)})
            tensors = checkpoint.read_safetensors(path)
            self.assertEqual(tensors["a"].tolist(), [[0, 1, 2], [3, 4, 5]])
            self.assertEqual(tuple(tensors["b"].shape), (0, 2))
            with open(path, "rb") as file:
                raw = file.read()
            for broken in (raw[:4], raw[:-1], b"\xff" * 16):
                with open(path, "wb") as file:
                    file.write(broken)
                with self.assertRaises(ValueError):
                    checkpoint.read_safetensors(path)


def write_demonstrations(directory, n, seed):
    """A data directory of noise, in which half of the scenes have two cubes and half three."""
    random = numpy.random.default_rng(seed)
    colours, chunk, dims = ["red", "green", "blue", "yellow"], 2, 3
    goals = random.uniform(-1, 1, (n, 4, dims)).astype("<f4")
    goals[:, 3] = numpy.nan
    goals[::2, 2] = numpy.nan
    others = numpy.repeat(goals[:, 1:, None], chunk, axis=2)
    arrays = {
        "images.u8": random.integers(0, 256, (n, 2, 32, 32, 3)).astype("u1"),
        "proprio.f32": random.uniform(-1, 1, (n, dims)).astype("<f4"),
        "actions.f32": numpy.repeat(goals[:, 0, None], chunk, axis=1), "alternatives.f32": others, "goals.f32": goals,
    }  # fmt: skip
    os.makedirs(directory)
    for name, array in arrays.items():
        array.tofile(os.path.join(directory, name))
    checkpoint.write_json(os.path.join(directory, "instructions.json"), ["reach the red cube"] * n)
    checkpoint.write_json(os.path.join(directory, "colours.json"), ["red"] * n)
    meta = {"n": n, "cameras": 2, "size": 32, "chunk": chunk, "dims": dims, "colours": colours}
    checkpoint.write_json(os.path.join(directory, "meta.json"), meta)


class PretrainTest(unittest.TestCase):
    def test_its_checkpoint_is_whole_and_its_patches_share_nothing(self):
        with tempfile.TemporaryDirectory() as directory:
            train, held_out, out = (os.path.join(directory, name) for name in ("train", "held-out", "out"))
            write_demonstrations(train, 64, 1)
            write_demonstrations(held_out, 64, 2)
            arguments = ["pretrain.py", "--data", train, "--held-out", held_out, "--out", out]
            arguments += ["--sight", "0.01", "--words", "0.01", "--batch", "16", "--sight-batch", "16", "--slots", "3"]
            said = io.StringIO()
            with mock.patch.object(sys, "argv", arguments), contextlib.redirect_stdout(said):
                pretrain.main()
            self.assertIn("words held out", said.getvalue())
            net = model.load(out, 2, 6)
            with torch.no_grad():
                patches = pretrain.see(net, data.Demonstrations(held_out).images)
            self.assertLess(float(patches.mean((0, 1)).norm()), 1e-3)
            self.assertAlmostEqual(float(patches.pow(2).mean().sqrt()), 0.5, places=3)
            with self.assertRaises(SystemExit), contextlib.redirect_stderr(io.StringIO()):
                with mock.patch.object(sys, "argv", ["pretrain.py", "--data", train]):
                    pretrain.main()

    def test_a_scene_gives_a_sample_for_every_cube(self):
        with tempfile.TemporaryDirectory() as directory:
            write_demonstrations(os.path.join(directory, "d"), 32, 3)
            demonstrations = data.Demonstrations(os.path.join(directory, "d"))
            statistics = demonstrations.statistics("x")["x"]
            tokenizer = Tokenizer(os.path.join(HERE, "..", "policies", "tiny-reach", "tokenizer.model"))
            scenes = pretrain.Scenes(demonstrations, statistics, tokenizer)
            seen = set()
            for scene, colour, prompt, bins in scenes.batches(16, numpy.random.default_rng(0)):
                for s, c, ids, b in zip(scene.tolist(), colour.tolist(), prompt.tolist(), bins):
                    seen.add((s, c))
                    name = demonstrations.meta["colours"][c]
                    self.assertEqual(ids, tokenizer.prompt(f"reach the {name} cube"))
                    goal = data.normalise(demonstrations.goals[s, c], statistics["action"])
                    self.assertEqual(b.view(2, 3)[1].tolist(), data.bins(goal).tolist())
            self.assertEqual(len(seen), 80, "16 scenes of two cubes and 16 of three")


class TokenizerTest(unittest.TestCase):
    def test_prompts_begin_with_bos_and_end_with_the_empty_token(self):
        tokenizer = Tokenizer(os.path.join(HERE, "..", "policies", "tiny-reach", "tokenizer.model"))
        lengths = set()
        for colour in ("red", "green", "blue", "yellow"):
            ids = tokenizer.prompt(f"Reach the {colour} cube")
            self.assertEqual((ids[0], ids[-1]), (1, tokenizer.empty))
            self.assertLess(max(ids), 768)
            lengths.add(len(ids))
        self.assertEqual(len(lengths), 1, "colours are one piece each, so that they can share a batch")
        for text in ("schräg über 漢字", "mixed   spaces", "42%"):
            ids = tokenizer.prompt(text)
            self.assertNotIn(0, ids)
            self.assertIn(text, tokenizer.processor.decode(ids))


if __name__ == "__main__":
    unittest.main()
