#!/usr/bin/env bash
# The policies that the tables compare discrete diffusion with: of the same size, from the same weights, on the same
# demonstrations, each trained for the same time on an objective of its own. A run that was stopped goes on.
#
#   train/baselines.sh                         parallel, autoregressive and l1, into build/baselines and build/tiny-NAME
#   train/baselines.sh l1
#
#   MINUTES   for each, on all cores (25)      BASE      checkpoint to start from (policies/tiny)
#   SCENES    to demonstrate (960)             OUT       for data and checkpoints (build/baselines)
#   VISITED   scenes to demonstrate from where BASE has got to (120)
set -euo pipefail
cd "$(dirname "$0")/.."
: "${MINUTES:=25}" "${BASE:=policies/tiny}" "${SCENES:=960}" "${VISITED:=120}" "${OUT:=build/baselines}" "${DDVLA:=bin/ddvla}"
[ $# -gt 0 ] || set -- parallel autoregressive l1
mkdir -p "$OUT"
# As policies/tiny was trained last: longer tasks have more scenes, and an expert goes on where a policy went wrong.
if [ ! -e "$OUT/demos/dataset.json" ]; then
  rm -rf "$OUT/demos"
  "$DDVLA" sim demos --out "$OUT/demos" --episodes $((SCENES / 12)) --seed 1001 --shoves 3 --scatters 2 --starts 2 --counterparts 0.5 \
    --tasks reach,bell,cup,cup,sort,stack,stack,stack,handover,handover,handover,handover
fi
if [ ! -e "$OUT/visits/dataset.json" ]; then
  rm -rf "$OUT/visits" "$OUT/base"
  # shellcheck disable=SC2046 # options, one a word
  "$DDVLA" export --checkpoint "$BASE" --out "$OUT/base" --preset greedy $(cat "$BASE/export.args")
  "$DDVLA" sim demos --out "$OUT/visits" --policy "$OUT/base" --visits 64 --episodes $(((VISITED + 5) / 6)) --seed 1002 \
    --shoves 2 --scatters 1 --starts 1 --counterparts 0.15 --tasks stack,handover,stack,handover,handover,cup
fi
for objective; do
  if [ ! -e "$OUT/$objective.done" ]; then
    train/cores.sh --data "$OUT/visits" "$OUT/demos" --init "$BASE" --statistics init --out "$OUT/$objective" --objective "$objective" \
      --minutes "$MINUTES" --resume --batch 32 --rate 4e-4 --warmup 100 --validate 256 --seed 1
    touch "$OUT/$objective.done"
  fi
  rm -rf "build/tiny-$objective"
  # shellcheck disable=SC2046 # options, one a word
  "$DDVLA" export --checkpoint "$OUT/$objective" --out "build/tiny-$objective" $(cat "$OUT/$objective/export.args")
done
