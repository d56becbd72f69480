#!/usr/bin/env bash
# Teaches a policy three named tasks of the simulator on two cores in under an hour, and prints how often it
# succeeds: demonstrations, training in two processes, export, closed loop. What is done already is not done again.
#
#   train/three_tasks.sh                       reach, bell and cup, into build/three-tasks
#   TASKS=lift,sort,stack OUT=build/mine train/three_tasks.sh
#
#   MINUTES   for all of it (55), of which EVALUATION (7) are kept for the closed loop
#   SCENES    to demonstrate of each task (250)     EPISODES  to judge each task by (20), on other scenes
#   BASE      checkpoint to start from, such as policies/tiny; default: random weights
set -euo pipefail
cd "$(dirname "$0")/.."
end=$(($(date +%s) + 60 * ${MINUTES:=55}))
: "${TASKS:=reach,bell,cup}" "${OUT:=build/three-tasks}" "${SCENES:=250}" "${EPISODES:=20}" "${EVALUATION:=7}" "${BATCH:=16}"
: "${DDVLA:=bin/ddvla}"
: "${BASE:=}"
stage() { printf '\n== %s (%d min left)\n' "$1" $(((end - $(date +%s)) / 60)); }

mkdir -p "$OUT"
if [ ! -e "$OUT/demos/dataset.json" ]; then
  stage "demonstrations of $TASKS"
  rm -rf "$OUT/demos"
  "$DDVLA" sim demos --out "$OUT/demos" --tasks "$TASKS" --episodes "$SCENES" --seed 1
fi
if [ ! -e "$OUT/trained" ]; then
  stage "training from ${BASE:-random weights}"
  options=(--data "$OUT/demos" --out "$OUT/checkpoint" --until $((end - 60 * EVALUATION)) --batch "$BATCH" --resume --seed 1
    --normalization bounds --whole 0.45 --soften 3 --harden-at 0.5)
  if [ -n "$BASE" ]; then
    options+=(--init "$BASE" --statistics init --rate 3e-4 --warmup 100)
  fi
  CORES=2 train/cores.sh "${options[@]}"
  touch "$OUT/trained"
fi
if [ ! -e "$OUT/bundle/policy.json" ]; then
  stage export
  rm -rf "$OUT/bundle"
  # shellcheck disable=SC2046 # options, one a word
  "$DDVLA" export --checkpoint "$OUT/checkpoint" --out "$OUT/bundle" $(cat "$OUT/checkpoint/export.args")
fi
stage "$EPISODES episodes of each task on other scenes"
"$DDVLA" eval run --bundle "$OUT/bundle" --tasks "$TASKS" --episodes "$EPISODES" --seed 1000 --out "$OUT/eval"
stage done
