#!/usr/bin/env bash
# Three nodes on this machine: APIs on 127.0.0.1:8501-8503, Raft on 7001-7003, data in .cluster/.
# Ctrl-C stops all; again, at once. Kill one with -9 from another terminal to watch the rest go on,
# and start it again there with the command that is printed for it.
set -euo pipefail
set -m # every node gets a process group of its own: Ctrl-C reaches this script, which stops them in order
cd "$(dirname "$0")/.."

for port in 8501 8502 8503 7001 7002 7003; do
  if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
    echo "port $port on 127.0.0.1 is in use (an earlier cluster? a container?): nothing was started" >&2
    exit 1
  fi
done

pids=()
for n in 1 2 3; do
  node=(bin/konsul agent --node-id "n$n" --port "850$n" --raft-bind-addr "127.0.0.1:700$n"
    --data-dir ".cluster/n$n/data" --persistence-backup-dir ".cluster/n$n/backups"
    --bootstrap-expect 3 --join 127.0.0.1:8501,127.0.0.1:8502,127.0.0.1:8503)
  "${node[@]}" > >(trap '' INT TERM; exec sed -u "s/^/[n$n] /") 2>&1 &
  pids+=($!)
  echo "n$n  api=http://127.0.0.1:850$n  pid=$!  restart: ${node[*]}"
done
asked=
trap 'asked=yes; echo; kill -TERM "${pids[@]}" 2>/dev/null || true' INT TERM

echo "three nodes are starting; try: bin/konsul cluster status --http-addr 127.0.0.1:8501"
status=0
for n in 1 2 3; do
  # wait is interrupted by the trap, and then has to be asked again.
  while kill -0 "${pids[n - 1]}" 2>/dev/null; do wait "${pids[n - 1]}" || status=$?; done
  echo "n$n has stopped"
done
[[ -n $asked ]] || exit "$status" # the status of an interrupted wait says nothing about the nodes
