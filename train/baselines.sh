#!/usr/bin/env bash
# The policies that the tables compare discrete diffusion with: of the same size, from the same weights, on the same
# demonstrations, each trained for the same time on an objective of its own. A run that was stopped goes on.
#
#   train/baselines.sh                         parallel, autoregressive and l1, into build/baselines and build/tiny-NAME
#   train/baselines.sh l1
#
#   MINUTES   for each, on all cores (60)      BASE      checkpoint to start from (policies/tiny)
#   SCENES    to demonstrate (2100)            OUT       for data and checkpoints (build/baselines)
set -euo pipefail
cd "$(dirname "$0")/.."
: "${MINUTES:=60}" "${BASE:=policies/tiny}" "${SCENES:=2100}" "${OUT:=build/baselines}" "${DDVLA:=bin/ddvla}"
[ $# -gt 0 ] || set -- parallel autoregressive l1
mkdir -p "$OUT"
if [ ! -e "$OUT/demos/dataset.json" ]; then
  rm -rf "$OUT/demos"
  # As policies/tiny was trained last: longer tasks have more scenes.
  "$DDVLA" sim demos --out "$OUT/demos" --episodes $((SCENES / 14)) --seed 3 --shoves 6 --scatters 3 --starts 2 \
    --tasks reach,bell,cup,cup,cup,sort,sort,stack,stack,stack,handover,handover,handover,handover
fi
for objective; do
  if [ ! -e "$OUT/$objective.done" ]; then
    train/cores.sh --data "$OUT/demos" --init "$BASE" --statistics init --out "$OUT/$objective" --objective "$objective" \
      --minutes "$MINUTES" --resume --batch 32 --rate 4e-4 --warmup 100 --validate 256 --seed 1
    touch "$OUT/$objective.done"
  fi
  rm -rf "build/tiny-$objective"
  # shellcheck disable=SC2046 # options, one a word
  "$DDVLA" export --checkpoint "$OUT/$objective" --out "build/tiny-$objective" $(cat "$OUT/$objective/export.args")
done
