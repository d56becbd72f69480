"""llama_model.py OUT < llama.js's output: writes a SentencePiece model of Llama's kind.

SentencePiece merges the pair whose piece has the highest score, so a piece's score is its rank, negated.
"""
import json
import sys

from sentencepiece import sentencepiece_model_pb2 as pb

model = pb.ModelProto()
piece = pb.ModelProto.SentencePiece
data = json.load(sys.stdin)
for i, (text, rank) in enumerate(zip(data["vocabulary"], data["ranks"])):
    kind = piece.UNKNOWN if i == 0 else piece.CONTROL if i < 3 else piece.BYTE if i < 259 else piece.NORMAL
    model.pieces.add(piece=text, score=0 if i < 259 else -1e9 if rank is None else -rank, type=kind)
model.trainer_spec.model_type = pb.TrainerSpec.BPE
model.trainer_spec.vocab_size = len(model.pieces)
model.trainer_spec.byte_fallback = True
model.trainer_spec.unk_id, model.trainer_spec.bos_id, model.trainer_spec.eos_id, model.trainer_spec.pad_id = 0, 1, 2, -1
model.normalizer_spec.name = "identity"
model.normalizer_spec.add_dummy_prefix = True
model.normalizer_spec.remove_extra_whitespaces = False
model.normalizer_spec.escape_whitespaces = True
with open(sys.argv[1], "wb") as file:
    file.write(model.SerializeToString())
