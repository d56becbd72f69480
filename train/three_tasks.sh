#!/usr/bin/env bash
# Teaches a policy three named tasks of the simulator on two cores in under an hour, and prints how often it succeeds
# before and after: demonstrations, training in two processes, demonstrations from where that policy gets to, training
# on both, export, closed loop. What is done already is not done again.
#
#   train/three_tasks.sh                       reach, bell and cup as LOOKS has them, into build/three-tasks
#   TASKS=lift,sort,stack OUT=build/mine train/three_tasks.sh
#
#   MINUTES   for all of it (52), of which EVALUATION (2) are kept for the closed loop; STEPS: of each training, in place of these
#   LOOKS     --perturb of all scenes (vision: other light, tables and places of cameras, which BASE has not seen)
#   SCENES    to demonstrate of each task (500)     EPISODES  to judge each task by (20), on other scenes
#   BASE      checkpoint to start from (policies/tiny); none: random weights
#   SIZE      side of the pictures where BASE is none (96); else they are as BASE takes them
#   CORES     processes that train (2), each with BATCH samples at once (16)
set -euo pipefail
cd "$(dirname "$0")/.."
end=$(($(date +%s) + 60 * ${MINUTES:=52}))
: "${TASKS:=reach,bell,cup}" "${OUT:=build/three-tasks}" "${SCENES:=500}" "${EPISODES:=20}" "${EVALUATION:=2}" "${BATCH:=16}"
: "${CORES:=2}" "${STEPS:=}" "${DDVLA:=bin/ddvla}" "${LOOKS:=vision}" "${BASE:=policies/tiny}"
left() { echo $(((end - $(date +%s)) / 60)); }
stage() { printf '\n== %s (%d min left)\n' "$1" "$(left)"; }
demos() { # NAME OPTIONS
  [ ! -e "$OUT/$1/dataset.json" ] || return 0
  stage "demonstrations of $TASKS: $1"
  rm -rf "${OUT:?}/$1"
  "$DDVLA" sim demos --out "$OUT/$1" --tasks "$TASKS" --perturb "$LOOKS" --size "$SIZE" "${@:2}"
}
train() { # NAME UNTIL OPTIONS
  local out=$OUT/$1 limit=(--until "$2")
  [ ! -e "$out.done" ] || return 0
  [ -z "$STEPS" ] || limit=(--steps "$STEPS")
  stage "training: $1"
  CORES=$CORES train/cores.sh --out "$out" "${limit[@]}" --batch "$BATCH" --resume --seed 1 --whole 0.45 "${@:3}"
  touch "$out.done"
}
export_() { # CHECKPOINT NAME
  [ ! -e "$OUT/$2-bundle/policy.json" ] || return 0
  rm -rf "${OUT:?}/$2-bundle"
  # shellcheck disable=SC2046 # options, one a word
  "$DDVLA" export --checkpoint "$1" --out "$OUT/$2-bundle" $(cat "$1/export.args") --rounds 4
}
judge() { # NAME
  stage "$EPISODES episodes of each task on other scenes: $1"
  "$DDVLA" eval run --bundle "$OUT/$1-bundle" --tasks "$TASKS" --perturb "$LOOKS" --episodes "$EPISODES" --seed 1000 --out "$OUT/eval-$1"
}

if [ "$BASE" = none ]; then
  : "${SIZE:=96}"
elif [ ! -e "$BASE/export.args" ]; then
  echo "$0: BASE is $BASE, which has no export.args: name a checkpoint that train.py wrote, or none" >&2
  exit 2
else
  python=${DDVLA_PYTHON:-/usr/bin/python3}
  [ -x "$python" ] || python=python3
  takes=$("$python" -c 'import json, sys; print(json.load(open(sys.argv[1]))["image_sizes"][0])' "$BASE/config.json")
  if [ "${SIZE:=$takes}" != "$takes" ]; then
    echo "$0: SIZE is $SIZE, BASE $BASE takes pictures of $takes pixels: leave SIZE out" >&2
    exit 2
  fi
fi
mkdir -p "$OUT"
what="TASKS=$TASKS LOOKS=$LOOKS SCENES=$SCENES BASE=$BASE SIZE=$SIZE"
if [ -e "$OUT/what" ] && [ "$(cat "$OUT/what")" != "$what" ]; then
  echo "$0: $OUT has $(cat "$OUT/what"), not $what: name another OUT, or remove it" >&2
  exit 2
fi
# A call that was refused or broken off before it wrote that may have been of another BASE.
[ -e "$OUT/what" ] || rm -rf "${OUT:?}/before-bundle" "$OUT/eval-before"
start=(--normalization bounds --soften 3 --harden-at 0.5)
if [ "$BASE" != none ]; then
  start=(--init "$BASE" --statistics init --rate 6e-4 --warmup 100)
  export_ "$BASE" before
  judge before
fi
demos demos --episodes "$SCENES" --starts 2 --scatters 1 --shoves 2 --counterparts 0.3 --seed 1
echo "$what" > "$OUT/what"
train first $((($(date +%s) + end - 60 * EVALUATION) / 2)) --data "$OUT/demos" "${start[@]}"
export_ "$OUT/first" first
demos visits --episodes $((1 + SCENES / 10)) --policy "$OUT/first-bundle" --visits 48 --starts 1 --scatters 1 --shoves 2 --counterparts 0.3 --seed 2
train after $((end - 60 * EVALUATION)) --data "$OUT/demos" "$OUT/visits" --init "$OUT/first" --statistics init --rate 6e-4 --warmup 100
export_ "$OUT/after" after
judge after
stage done
