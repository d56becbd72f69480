#!/usr/bin/env bash
# Teaches a policy three named tasks of the simulator on two cores in under an hour, and prints how often it
# succeeds: demonstrations, training in two processes, demonstrations from where that policy gets to, training on
# both, export, closed loop. What is done already is not done again.
#
#   train/three_tasks.sh                       reach, bell and cup, into build/three-tasks
#   TASKS=lift,sort,stack OUT=build/mine train/three_tasks.sh
#
#   MINUTES   for all of it (52), of which EVALUATION (2) are kept for the closed loop
#   SCENES    to demonstrate of each task (250)     EPISODES  to judge each task by (20), on other scenes
#   BASE      checkpoint to start from (policies/tiny-reach, which reaches for cubes in plainer pictures); none: random weights
#   SIZE      side of the pictures, as BASE takes them (64)
set -euo pipefail
cd "$(dirname "$0")/.."
end=$(($(date +%s) + 60 * ${MINUTES:=52}))
: "${TASKS:=reach,bell,cup}" "${OUT:=build/three-tasks}" "${SCENES:=250}" "${EPISODES:=20}" "${EVALUATION:=2}" "${BATCH:=16}"
: "${DDVLA:=bin/ddvla}" "${BASE:=policies/tiny-reach}" "${SIZE:=64}"
left() { echo $(((end - $(date +%s)) / 60)); }
stage() { printf '\n== %s (%d min left)\n' "$1" "$(left)"; }
train() { # NAME UNTIL OPTIONS
  local out=$OUT/$1
  [ ! -e "$out.done" ] || return 0
  CORES=2 train/cores.sh --out "$out" --until "$2" --batch "$BATCH" --resume --seed 1 --normalization bounds --whole 0.45 "${@:3}"
  touch "$out.done"
}
export_() { # NAME
  [ ! -e "$OUT/$1-bundle/policy.json" ] || return 0
  rm -rf "$OUT/$1-bundle"
  # shellcheck disable=SC2046 # options, one a word
  "$DDVLA" export --checkpoint "$OUT/$1" --out "$OUT/$1-bundle" $(cat "$OUT/$1/export.args") --rounds 4
}

mkdir -p "$OUT"
if [ ! -e "$OUT/demos/dataset.json" ]; then
  stage "demonstrations of $TASKS"
  rm -rf "$OUT/demos"
  "$DDVLA" sim demos --out "$OUT/demos" --tasks "$TASKS" --episodes "$SCENES" --size "$SIZE" --seed 1
fi
stage "training from $BASE"
base=(--init "$BASE")
[ "$BASE" != none ] || base=(--config train/configs/three.json)
train first $((end - 60 * ($(left) + EVALUATION) / 2)) --data "$OUT/demos" "${base[@]}" --soften 3 --harden-at 0.5
export_ first
if [ ! -e "$OUT/visits/dataset.json" ]; then
  stage "demonstrations from where it gets to"
  rm -rf "$OUT/visits"
  "$DDVLA" sim demos --out "$OUT/visits" --tasks "$TASKS" --episodes $((1 + SCENES / 8)) --size "$SIZE" --seed 2 \
    --policy "$OUT/first-bundle" --visits 48 --starts 1 --scatters 1 --shoves 2 --counterparts 0.3
fi
stage "training on both"
train checkpoint $((end - 60 * EVALUATION)) --data "$OUT/demos" "$OUT/visits" --init "$OUT/first" --statistics init --rate 6e-4 --warmup 100
export_ checkpoint
stage "$EPISODES episodes of each task on other scenes"
"$DDVLA" eval run --bundle "$OUT/checkpoint-bundle" --tasks "$TASKS" --episodes "$EPISODES" --seed 1000 --out "$OUT/eval"
stage done
