"""Writes float32 of all 65536 float16 numbers, then of all bfloat16 numbers."""

import sys

import torch

bits = torch.arange(65536).to(torch.int32)
bits = torch.where(bits < 32768, bits, bits - 65536).to(torch.int16)
for dtype in (torch.float16, torch.bfloat16):
    sys.stdout.buffer.write(bits.view(dtype).float().numpy().tobytes())
