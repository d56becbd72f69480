"""encode.py MODEL < JSON list of texts > JSON list of id lists."""
import json
import sys

import sentencepiece

processor = sentencepiece.SentencePieceProcessor(model_file=sys.argv[1])
json.dump([processor.encode(text) for text in json.load(sys.stdin)], sys.stdout)
