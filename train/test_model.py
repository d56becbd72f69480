"""Properties of the model and its checkpoints: python3 train/test_model.py"""

import errno
import os
import tempfile
import unittest
from unittest import mock

import numpy
import torch
from torch.nn import functional as F

from ddvla import attention, checkpoint, data, decode, initialise, model
from ddvla.prompt import Tokenizer
from make_random import observation

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


def contents(directory):
    found = {}
    for name in os.listdir(directory):
        with open(os.path.join(directory, name), "rb") as file:
            found[name] = file.read()
    return found


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

    def test_a_save_that_fails_leaves_the_checkpoint_before_it(self):
        net = random_model()
        with tempfile.TemporaryDirectory() as directory:
            net.save(directory)
            before = contents(directory)
            with mock.patch.object(checkpoint.Files, "weights", side_effect=OSError(errno.ENOSPC, "no space left")):
                with self.assertRaises(OSError):
                    random_model(2).save(directory)
            self.assertEqual(contents(directory), before)

    def test_a_network_is_made_in_the_type_that_it_is_loaded_as(self):
        made = []

        class Watched(model.DDVLA):
            def __init__(self, *arguments):
                super().__init__(*arguments)
                made.extend(p.dtype for p in self.parameters())

        with tempfile.TemporaryDirectory() as directory, mock.patch.object(model, "DDVLA", Watched):
            random_model().save(directory)
            made.clear()
            net = model.load(directory, SIZES.images, SIZES.slots, torch.bfloat16)
        self.assertEqual({*made, *(p.dtype for p in net.parameters())}, {torch.bfloat16})
        self.assertEqual(net.mean.tolist(), torch.tensor(model.IMAGE_MEAN).tolist(), "not rounded")
        self.assertEqual(torch.get_default_dtype(), torch.float32)

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

    def gradients(self, attend, bias):
        """Of attention over random tokens, the outputs as well."""
        generator = torch.Generator().manual_seed(3)
        q, k, v = (torch.randn(2, 7, 3, 8, generator=generator).transpose(1, 2).requires_grad_() for _ in range(3))
        out = attend(q, k, v, bias)
        (out * torch.randn(2, 3, 7, 8, generator=generator)).sum().backward()
        return out.detach(), q.grad, k.grad, v.grad

    def biases(self):
        padding = torch.zeros(2, 1, 1, 7)
        padding[1, ..., 4:6] = -torch.inf
        return {"none": None, "padding": padding, "causal": torch.full((7, 7), -torch.inf).triu(1)}

    def test_the_fast_gradient_of_attention_is_the_plain_one(self):
        for name, bias in self.biases().items():
            with self.subTest(name):
                for fast, plain in zip(self.gradients(attention.attend, bias), self.gradients(attention.written_out, bias)):
                    torch.testing.assert_close(fast, plain, rtol=1e-5, atol=1e-5)

    @unittest.skipUnless(hasattr(F, "scaled_dot_product_attention"), "PyTorch 2 has the operation")
    def test_the_gradient_of_the_fused_attention_is_the_plain_one(self):
        for name, bias in self.biases().items():
            with self.subTest(name):
                for fused, plain in zip(self.gradients(attention.fused, bias), self.gradients(attention.written_out, bias)):
                    torch.testing.assert_close(fused, plain, rtol=1e-5, atol=1e-5)

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


class TokenizerTest(unittest.TestCase):
    def test_prompts_begin_with_bos_and_end_with_the_empty_token(self):
        for path in ("tokenizer.model", os.path.join("..", "policies", "tiny-reach", "tokenizer.model")):
            tokenizer = Tokenizer(os.path.join(HERE, path))
            lengths = set()
            for colour in ("red", "green", "blue", "yellow"):
                ids = tokenizer.prompt(f"Reach the {colour} cube")
                self.assertEqual((ids[0], ids[-1]), (1, tokenizer.empty))
                self.assertLess(max(ids), 768)
                lengths.add(len(ids))
            self.assertEqual(len(lengths), 1, "colours are one piece each")
            for text in ("schräg über 漢字", "mixed   spaces", "42%"):
                ids = tokenizer.prompt(text)
                self.assertNotIn(0, ids)
                self.assertIn(text, tokenizer.processor.decode(ids))
                self.assertEqual(tokenizer.prompt(f" {text}\n"), ids, "as the node drops white space around")

    def test_the_words_of_the_tasks_are_a_piece_each(self):
        processor = Tokenizer(os.path.join(HERE, "tokenizer.model")).processor
        text = "press ring the bell put cup on coaster into bowl tray stack red green blue yellow cube hand it over from left right arm bar mat across sort drop pick lift"
        self.assertEqual(processor.encode(text, out_type=str), ["\u2581" + word for word in text.split()])


if __name__ == "__main__":
    unittest.main()
