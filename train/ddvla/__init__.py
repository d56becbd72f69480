"""The Discrete Diffusion VLA architecture in PyTorch: model, checkpoints, tokenizer, data."""
