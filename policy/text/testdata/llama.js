// llama.js < JSON list of texts > {"vocabulary": [...], "ranks": [...], "ids": [[...], ...]}.
// A piece's rank is that of the first merge that makes it, null where none does; ids have BOS.
const { readFileSync } = require("node:fs");
const { pathToFileURL } = require("node:url");

import(pathToFileURL(require.resolve("llama-tokenizer-js"))).then((module) => {
  const tokenizer = module.default;
  const ranks = new Array(tokenizer.vocabById.length).fill(null);
  for (const [pair, rank] of tokenizer.merges) {
    const id = tokenizer.vocabByString.get(pair.replace(" ", ""));
    if (ranks[id] === null || rank < ranks[id]) ranks[id] = rank;
  }
  const ids = JSON.parse(readFileSync(0, "utf8")).map((text) => tokenizer.encode(text));
  process.stdout.write(JSON.stringify({ vocabulary: tokenizer.vocabById, ranks, ids }));
});
