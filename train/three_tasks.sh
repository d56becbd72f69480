#!/usr/bin/env bash
# Teaches a policy three named tasks of the simulator on two cores in under an hour, and prints how often it
# succeeds: demonstrations, training in two processes, export, closed loop. What is done already is not done again.
#
#   train/three_tasks.sh                       reach, bell and cup, into build/three-tasks
#   TASKS=lift,sort,stack OUT=build/mine train/three_tasks.sh
#
#   MINUTES   for all of it (55), of which EVALUATION (12) are kept for the closed loop
#   SCENES    to demonstrate of each task (60)      EPISODES  to judge each task by (20), on other scenes
#   BASE      checkpoint to start from; none: random weights. Default: policies/tiny where there is one
set -euo pipefail
cd "$(dirname "$0")/.."
end=$(($(date +%s) + 60 * ${MINUTES:=55}))
: "${TASKS:=reach,bell,cup}" "${OUT:=build/three-tasks}" "${SCENES:=60}" "${EPISODES:=20}" "${EVALUATION:=12}" "${BATCH:=8}"
: "${DDVLA:=bin/ddvla}"
if [ -z "${BASE+x}" ]; then BASE=; [ ! -e policies/tiny/config.json ] || BASE=policies/tiny; fi
[ "$BASE" != none ] || BASE=
python=${DDVLA_PYTHON:-/usr/bin/python3}
[ -x "$python" ] || python=python3
stage() { printf '\n== %s (%d min left)\n' "$1" $(((end - $(date +%s)) / 60)); }

mkdir -p "$OUT"
if [ ! -e "$OUT/demos/dataset.json" ]; then
  stage "demonstrations of $TASKS"
  rm -rf "$OUT/demos"
  "$DDVLA" sim demos --out "$OUT/demos" --tasks "$TASKS" --episodes "$SCENES" --seed 1
fi
if [ ! -e "$OUT/trained" ]; then
  stage "training from ${BASE:-random weights}"
  # Freed memory is kept: the allocator spends a tenth of a step on page faults otherwise.
  export OMP_NUM_THREADS=1 USE_LIBUV=0 MALLOC_MMAP_THRESHOLD_=1073741824 MALLOC_TRIM_THRESHOLD_=1073741824 MALLOC_TOP_PAD_=1073741824
  options=(--data "$OUT/demos" --out "$OUT/checkpoint" --until $((end - 60 * EVALUATION)) --batch "$BATCH" --device cpu --resume --seed 1)
  # Twice as many samples a second, where the processor has it.
  ! grep -qw avx512_bf16 /proc/cpuinfo || options+=(--precision bf16)
  if [ -n "$BASE" ]; then
    options+=(--init "$BASE" --statistics init --rate 3e-4 --warmup 100)
  fi
  # What torchrun does; Debian 12's fails with its own Python.
  MASTER_PORT=$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
  export MASTER_PORT MASTER_ADDR=127.0.0.1 WORLD_SIZE=2
  RANK=1 LOCAL_RANK=1 "$python" train/train.py "${options[@]}" &
  second=$!
  trap 'kill $second 2>/dev/null || true' EXIT
  RANK=0 LOCAL_RANK=0 "$python" train/train.py "${options[@]}"
  wait $second
  trap - EXIT
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
