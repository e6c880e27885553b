#!/usr/bin/env bash
# Three nodes on this machine: APIs on 127.0.0.1:8501-8503, Raft on 7001-7003, data in .cluster/.
# Ctrl-C stops all; again, at once. Kill one with -9 from another terminal to watch the rest go on.
set -euo pipefail
set -m # every node gets a process group of its own: Ctrl-C reaches this script, which stops them in order
cd "$(dirname "$0")/.."

export KONSUL_JOIN=127.0.0.1:8501,127.0.0.1:8502,127.0.0.1:8503
export KONSUL_BOOTSTRAP_EXPECT=3

pids=()
for n in 1 2 3; do
  KONSUL_RAFT_NODE_ID=n$n KONSUL_PORT=850$n KONSUL_RAFT_BIND_ADDR=127.0.0.1:700$n \
    KONSUL_DATA_DIR=.cluster/n$n/data KONSUL_BACKUP_DIR=.cluster/n$n/backups \
    bin/konsul agent > >(trap '' INT TERM; exec sed -u "s/^/[n$n] /") 2>&1 &
  pids+=($!)
done
asked=
trap 'asked=yes; echo; kill -TERM "${pids[@]}" 2>/dev/null || true' INT TERM

echo "three nodes are starting; try: curl http://127.0.0.1:8501/cluster/status"
status=0
for n in 1 2 3; do
  # wait is interrupted by the trap, and then has to be asked again.
  while kill -0 "${pids[n - 1]}" 2>/dev/null; do wait "${pids[n - 1]}" || status=$?; done
  echo "n$n has stopped"
done
[[ -n $asked ]] || exit "$status" # the status of an interrupted wait says nothing about the nodes
