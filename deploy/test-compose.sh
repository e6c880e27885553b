#!/usr/bin/env bash
# Tests docker-compose.yml exactly as users get it: build, three healthy nodes, a write seen by all,
# a node killed and back. Exit status 77 means that there is no Docker engine to test with.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { echo "compose: $*"; }
fail() { say "FAILED: $*"; compose ps; compose logs --tail=30; exit 1; }
# A project of its own, so that a cluster somebody has here keeps its volumes.
compose() { deploy/compose.sh -p konsul-test "$@"; }
cleanup() { compose down -v --remove-orphans >/dev/null 2>&1 || true; }

if ! docker info >/dev/null 2>&1; then
  say "SKIPPED: no Docker engine on this machine; docker-compose.yml was NOT tested"
  exit 77
fi

# until_true SECONDS WHAT COMMAND...: asks twice a second until the command succeeds.
until_true() {
  local deadline=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    ((SECONDS < deadline)) || fail "$what"
    sleep 0.5
  done
}
container() { compose ps -q "konsul$1"; }
healthy() { [[ $(docker inspect -f '{{.State.Health.Status}}' "$(container "$1")") == healthy ]]; }
value_is() { [[ $(curl -fsS -m 5 "http://127.0.0.1:850$1/kv/$2?raw=true") == "$3" ]]; }
put() { curl -fsS -m 10 -X PUT --data-binary "$3" "http://127.0.0.1:850$1/kv/$2"; }

trap cleanup EXIT
cleanup
deploy/base-image.sh

say "docker compose up --build -d"
compose up --build -d
for n in 1 2 3; do until_true 90 "konsul$n did not become healthy" healthy "$n"; done
say "three nodes are healthy"

put 1 compose/a first >/dev/null || fail "writing on node 1"
for n in 1 2 3; do value_is "$n" compose/a first || fail "node $n does not have the write"; done
say "a write on node 1 is read on all three"

[[ $(docker inspect -f '{{.Config.User}} {{.HostConfig.ReadonlyRootfs}}' "$(container 2)") == "65532:65532 true" ]] ||
  fail "node 2 is not confined as docker-compose.yml says"

docker kill "$(container 2)" >/dev/null
until_true 15 "two of three nodes do not take a write" put 3 compose/b second
until_true 5 "node 1 does not have the write made while node 2 was down" value_is 1 compose/b second
say "node 2 killed: the other two go on"

docker start "$(container 2)" >/dev/null
until_true 60 "node 2 did not become healthy again" healthy 2
value_is 2 compose/b second || fail "node 2 does not have what it missed"
say "node 2 is back and has what it missed"

compose restart >/dev/null 2>&1
for n in 1 2 3; do until_true 90 "konsul$n did not come back after a restart of all" healthy "$n"; done
for n in 1 2 3; do value_is "$n" compose/a first || fail "node $n lost data in a restart of all"; done
say "all three restarted: the data is there"
say "PASSED"
