"""Rounds on kept keys and values, and the benchmark, at toy sizes: python3 train/test_bench.py

With a GPU (PyTorch 2 or newer) its kernels, CUDA graphs and compiled functions are compared too."""

import contextlib
import io
import os
import sys
import tempfile
import unittest
from unittest import mock

import torch

import bench
import bench_rounding
from ddvla import attention, checkpoint, decode, model
from ddvla.rounds import Rounds
from make_random import observation
from test_model import SIZES, random_model


def given(batch=2, seed=3, device="cpu"):
    """A network, and an observation whose prompts have one length."""
    net = random_model(seed).to(device)
    images, ids, _, proprio, tokens = (x.to(device) for x in observation(SIZES, seed, batch))
    ids[ids == SIZES.pad_id] = 5
    return net, images, ids, torch.full((batch,), ids.shape[1], device=device), proprio, tokens


def stale(net, images, ids, lengths, proprio, first, tokens):
    """Logits of the block where keys and values before it are those of the first tokens, by hooks on the reference:
    what reaches a layer is replaced before the block by what reached it with the first tokens."""
    block, layers, seen = ids.shape[1] - 1 + net.sizes.images * net.sizes.patches + 1, net.language_model.model.layers, []
    hooks = [m.register_forward_pre_hook(lambda m, given: seen.append(given[0][:, :block].clone())) for m in layers]
    net.logits(images, ids, lengths, proprio, first)
    for hook in hooks:
        hook.remove()

    def replaced(index):
        return lambda m, given: (torch.cat([seen[index], given[0][:, block:]], dim=1), *given[1:])

    hooks = [m.register_forward_pre_hook(replaced(i)) for i, m in enumerate(layers)]
    logits = net.logits(images, ids, lengths, proprio, tokens)
    for hook in hooks:
        hook.remove()
    return logits


class RoundsTest(unittest.TestCase):
    def setUp(self):
        torch.manual_seed(0)
        torch.set_num_threads(1)

    def same(self, have, want):
        torch.testing.assert_close(have, want, rtol=1e-4, atol=1e-4)

    @torch.no_grad()
    def test_a_round_is_the_reference_pass(self):
        net, images, ids, lengths, proprio, tokens = given()
        rounds = Rounds(net, ids)
        before = rounds.before(images, proprio)
        self.same(rounds.whole(before, tokens), net.logits(images, ids, lengths, proprio, tokens))

    @torch.no_grad()
    def test_a_round_on_kept_keys_is_the_whole_pass_of_attention_prefix(self):
        net, images, ids, lengths, proprio, tokens = given()
        rounds = Rounds(net, ids)
        kept = rounds.prefix(rounds.before(images, proprio))
        other = tokens.flip(1)
        for now in (tokens, other, tokens):  # what a round leaves in the buffers matters to none after it
            want = net.logits(images, ids, lengths, proprio, now, attention="prefix")
            self.same(rounds.block(now, kept), want)
        wrong = rounds.prefix(rounds.before(images.flip(1), proprio))
        self.assertGreater(float((rounds.block(tokens, wrong) - want).abs().max()), 0.1)
        seeing = net.logits(images, ids, lengths, proprio, tokens)
        self.assertGreater(float((seeing - want).abs().max()), 0.1, "the two attentions differ here")

    @torch.no_grad()
    def test_a_refreshed_prefix_is_that_of_its_last_whole_round(self):
        net, images, ids, lengths, proprio, tokens = given()
        rounds = Rounds(net, ids)
        other = tokens.flip(1)
        logits = rounds.refresh(rounds.before(images, proprio), 3)
        exact = net.logits(images, ids, lengths, proprio, other)
        self.same(logits(0, tokens), net.logits(images, ids, lengths, proprio, tokens))
        self.same(logits(1, tokens), net.logits(images, ids, lengths, proprio, tokens))
        old = logits(2, other)
        self.same(old, stale(net, images, ids, lengths, proprio, tokens, other))
        self.assertGreater(float((old - exact).abs().max()), 0.01)
        self.same(logits(3, other), exact)

    @torch.no_grad()
    def test_chunks_are_those_of_the_reference_decoder(self):
        net, images, ids, lengths, proprio, tokens = given(batch=3)
        rounds = Rounds(net, ids)
        start = torch.full_like(tokens, -1)
        want = decode.greedy(net, images, ids, lengths, proprio, rounds=5)
        have = decode.denoise(rounds.exact(rounds.before(images, proprio)), start, 5)
        self.assertTrue(torch.equal(have[0], want[0]))
        self.same(have[1], want[1])
        have = decode.denoise(rounds.prefixed(rounds.before(images, proprio)), start, 5)
        want = decode.denoise(
            lambda t, now: net.logits(images, ids, lengths, proprio, now, attention="prefix"), start, 5
        )
        self.assertTrue(torch.equal(have[0], want[0]))

    @torch.no_grad()
    def test_half_types_stay_near_float32(self):
        net, images, ids, lengths, proprio, tokens = given()
        want = net.logits(images, ids, lengths, proprio, tokens)
        net.to(torch.bfloat16)
        rounds = Rounds(net, ids)
        for have in (
            net.logits(images, ids, lengths, proprio, tokens),
            rounds.whole(rounds.before(images, proprio), tokens),
        ):
            self.assertEqual(have.dtype, torch.float32)
            self.assertLess(bench.difference(have, want), 0.1)
            self.assertGreater(bench.difference(have, want), 1e-4, "it was rounded")

    @unittest.skipUnless(torch.cuda.is_available(), "no GPU")
    @torch.no_grad()
    def test_a_gpu_gives_what_the_cpu_gives(self):
        net, images, ids, lengths, proprio, tokens = given()
        want = [net.logits(images, ids, lengths, proprio, tokens, attention=a) for a in ("bidirectional", "prefix")]
        net, images, ids, lengths, proprio, tokens = given(device="cuda")
        for kernel in (attention.fused, attention.written_out):
            for compiler in (lambda function: function, bench.compiled):
                rounds = Rounds(net, ids, kernel, compiler)
                before = rounds.before(images, proprio)
                self.same(rounds.whole(before, tokens).cpu(), want[0])
                self.same(rounds.block(tokens, rounds.prefix(before)).cpu(), want[1])
                stale, kept = rounds.whole(before, tokens, keep=True)
                self.same(rounds.block(tokens, kept), stale)


class BenchTest(unittest.TestCase):
    def run_it(self, *arguments):
        with tempfile.TemporaryDirectory() as directory:
            path, said = os.path.join(directory, "out.json"), io.StringIO()
            with mock.patch.object(sys, "argv", ["bench.py", "--size", "tiny", "--json", path, *arguments]):
                with contextlib.redirect_stdout(said):
                    bench.main()
            return checkpoint.read_json(path), said.getvalue()

    def check(self, result, said, modes):
        ways = ["exact, T = 3", "exact, T = 1", "refresh 2, T = 3", "prefix, T = 3", "prefix, T = 1"]
        want = ["vision and projectors", "exact round", "prefix once", "round of the block", *ways]
        wanted = {mode: want for mode in modes}
        if "graph" in modes:
            wanted |= {bench.IN_PARTS: [stage for stage in want if "round" in stage], bench.LINEAR: want[:4]}
        measured = {}
        for row in result["rows"]:
            measured.setdefault(row["mode"], []).append(row["stage"])
        self.assertEqual(measured, wanted)
        for row in result["rows"]:
            self.assertGreater(row["p50"], 0)
            self.assertGreaterEqual(row["p95"], row["p50"])
            self.assertIn(f"| {row['stage']} | {row['mode']} |", said)
            if "T = " in row["stage"]:
                self.assertGreater(row["equal"], 0.5 if row["mode"] == "compiled" else 0.99, row)
        by_stage = {row["stage"]: row["p50"] for row in result["rows"]}
        self.assertEqual(set(result["check"]), {"exact round", "round of the block"})
        for share in result["check"].values():
            self.assertLess(share, bench.MOST[result["dtype"]])
        return by_stage

    def test_it_measures_every_stage(self):
        result, said = self.run_it("--device", "cpu", "--dtype", "fp32", "--rounds", "3", "--refresh", "2", "--runs", "3", "--cameras", "2")
        self.check(result, said, ["eager"])
        sizes = result["sizes"]
        self.assertEqual((sizes["cameras"], sizes["slots"], sizes["batch"], result["peak_gb"]), (2, 112, 1, {}))

    def test_one_attention_alone(self):
        result, _ = self.run_it("--device", "cpu", "--attention", "prefix", "--rounds", "1", "--runs", "2", "--dtype", "bf16", "--batch", "2")
        self.assertEqual([row["stage"] for row in result["rows"]], ["vision and projectors", "prefix once", "round of the block", "prefix, T = 1"])

    def test_a_wrong_round_is_not_timed(self):
        def wrong(self, tokens, kept):
            return block(self, tokens.flip(1), kept)

        block = Rounds.block
        with mock.patch.object(Rounds, "block", wrong), self.assertRaisesRegex(SystemExit, "round of the block"):
            self.run_it("--device", "cpu", "--dtype", "fp32", "--runs", "2", "--rounds", "1")

    @torch.no_grad()
    def test_linear_layers_alone_are_all_of_them(self):
        net, images, ids, _, proprio, tokens = given()
        rounds = Rounds(net, ids)
        kept = rounds.prefix(rounds.before(images, proprio))
        layers = bench.linear_layers(lambda: rounds.block(tokens, kept))
        with bench.Linear() as linear:
            layers()
        block = SIZES.slots + 2
        weights = [weight for layer in net.language_model.model.layers for weight in layer.parameters() if weight.dim() == 2]
        self.assertEqual(sorted(w.numel() for _, w in linear.seen), sorted([w.numel() for w in weights] + [rounds.head.numel()]))
        rows = {shape[1] for shape, _ in linear.seen}
        self.assertEqual(rows, {block, SIZES.slots}, "the block, and what the last layer makes of it")

    def test_7b_is_openvla(self):
        sizes = bench.sizes("7b", 3)
        self.assertEqual((sizes.patches, sizes.rows, sizes.dino.dim + sizes.siglip.dim), (256, 32064, 2176))

    @unittest.skipUnless(torch.cuda.is_available(), "no GPU")
    def test_it_measures_a_gpu(self):
        result, said = self.run_it("--device", "cuda", "--dtype", "bf16", "--rounds", "3", "--refresh", "2", "--runs", "3")
        self.check(result, said, ["eager", "graph", "compiled"])
        self.assertEqual(set(result["peak_gb"]), {"eager", "graph", "compiled"})


class RoundingTest(unittest.TestCase):
    def test_bfloat16_does_what_the_exporter_says(self):
        # ddvla export --checkpoint policies/tiny-reach --action-rate 20 --precision bf16 reports these, on other draws.
        report = {"output_mean": 0.183, "tokens_equal": 0.8296}
        directory = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "policies", "tiny-reach")
        found = bench_rounding.damage(directory, 3, 112, torch.device("cpu"), torch.bfloat16)
        self.assertLess(abs(found["output_mean"] / report["output_mean"] - 1), 0.3)
        self.assertLess(abs(found["tokens_equal"] - report["tokens_equal"]), 0.1)
        none = bench_rounding.damage(directory, 3, 112, torch.device("cpu"), torch.float32)
        self.assertEqual(none, {"output_mean": 0.0, "output_largest": 0.0, "tokens_equal": 1.0})


if __name__ == "__main__":
    unittest.main()
