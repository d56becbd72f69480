#!/usr/bin/env bash
# train.py on a CPU as fast as it goes there: a process for each core, bfloat16 where the processor multiplies it.
#
#   train/cores.sh OPTIONS                     of train.py; --batch is of each process
#   CORES=8 train/cores.sh OPTIONS
#
# SIGINT and SIGTERM are passed on: the processes save and end, and the status is 130 or 143.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
: "${CORES:=$(nproc)}"
python=${DDVLA_PYTHON:-/usr/bin/python3}
[ -x "$python" ] || python=python3
# Freed memory is kept: the allocator spends a tenth of a step on page faults otherwise.
export OMP_NUM_THREADS=1 USE_LIBUV=0 MALLOC_MMAP_THRESHOLD_=1073741824 MALLOC_TRIM_THRESHOLD_=1073741824 MALLOC_TOP_PAD_=1073741824
options=(--device cpu)
if grep -qw avx512_bf16 /proc/cpuinfo; then
  export ATEN_CPU_CAPABILITY=avx512
  options+=(--precision bf16)
fi
# What torchrun does; Debian 12's fails with its own Python.
MASTER_PORT=$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
export MASTER_PORT MASTER_ADDR=127.0.0.1 WORLD_SIZE=$CORES
tell() { # SIGNAL, to the processes that run
  # shellcheck disable=SC2046 # numbers, one a word
  kill "-$1" $(jobs -pr) 2>/dev/null || true
}
# Where one has failed the others wait for it, and heed no other signal.
trap 'tell KILL' EXIT
for ((rank = 0; rank < CORES; rank++)); do
  RANK=$rank LOCAL_RANK=$rank "$python" -u "$here/train.py" "${options[@]}" "$@" &
done
signalled=0
trap 'signalled=130 caught=1; tell TERM' INT
trap 'signalled=143 caught=1; tell TERM' TERM
left=$CORES
while ((left > 0)); do
  caught='' status=0
  wait -n || status=$?
  if [ -n "$caught" ] && ((status > 128)); then continue; fi # the signal, no process that ended
  # One that had saved already may have heard it a second time.
  if ((signalled && status > 128)); then status=$signalled; fi
  left=$((left - 1))
  ((status == 0)) || exit "$status"
done
# What would go on with a training that is over must not with one that was stopped.
exit "$signalled"
