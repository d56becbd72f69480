"""The layers of a network by torch.compile, one at a time.

Layers of a kind share what is compiled, which takes a tenth of the time that the whole network would, and nearly all
that a compiler gains lies within them: it joins the many small operations around the matrix products.
"""

import contextlib

import torch

from . import augment


def failed(error):
    """A line for the log: whatever a compiler raises, training can do without it."""
    return f"# torch.compile failed, the plain operations go on: {type(error).__name__}: {str(error)[:300]}"


class Compiled:
    """Compiles the layers of net and the changes of pictures; needs PyTorch 2.2 or newer. What is compiled is in
    effect in train alone: other sizes of a batch would be compiled anew."""

    def __init__(self, net, log, backend="inductor"):
        vision = net.vision_backbone
        self.log, self.augment = log, torch.compile(augment.augment, backend=backend, dynamic=False)
        self.modules = [*net.language_model.model.layers, *vision.featurizer.blocks, *vision.fused_featurizer.blocks, net.projector]
        for module in self.modules:
            module.compile(backend=backend, dynamic=False)
        self.calls = [module._compiled_call_impl for module in self.modules]
        self._put(None)

    def _put(self, calls):
        for i, module in enumerate(self.modules):
            module._compiled_call_impl = calls and calls[i]

    @contextlib.contextmanager
    def train(self):
        self._put(self.calls)
        try:
            yield
        finally:
            self._put(None)

    def give_up(self, error):
        self.log(failed(error))
        self.calls, self.augment = None, augment.augment
        self._put(None)
