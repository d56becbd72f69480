"""Prompts as openvla-oft writes them, and the SentencePiece model that splits them."""

import sentencepiece

TEMPLATE = "In: What action should the robot take to {instruction}?\nOut:"
EMPTY_PIECE = "\u2581"


class Tokenizer:
    def __init__(self, path):
        self.processor = sentencepiece.SentencePieceProcessor(model_file=path)
        self.empty = self.processor.piece_to_id(EMPTY_PIECE)
        if self.empty == self.processor.unk_id():
            raise ValueError(f"{path}: no piece for the single space that ends a prompt")

    def prompt(self, instruction):
        """BOS, the filled template, and the empty token that the training text has after `Out:`."""
        ids = [self.processor.bos_id()] + self.processor.encode(TEMPLATE.format(instruction=instruction.strip().lower()))
        return ids if ids[-1] == self.empty else ids + [self.empty]
