#!/usr/bin/env bash
# Makes an image named golang:1.26 out of this machine's Go toolchain and the modules of go.mod, for
# machines that cannot pull from a registry (CI). deploy/Dockerfile then builds on it unchanged and
# without a network: the module cache is already full. One made here earlier from another go.sum is
# replaced; one that came from a registry never is.
set -euo pipefail
cd "$(dirname "$0")/.."
image=golang:1.26
modules=$(sha256sum go.sum | cut -c1-16)
if made_from=$(docker image inspect -f '{{index .Config.Labels "konsul.modules"}}' "$image" 2>/dev/null) &&
  [[ -z $made_from || $made_from == "$modules" ]]; then
  echo "using the image $image that is here"
  exit 0
fi
root=$(mktemp -d)
trap 'chmod -R u+w "$root"; rm -rf "$root"' EXIT

echo "making $image from $(go version)"
mkdir -p "$root"/{bin,etc,tmp,usr/local,go/pkg/mod,root}
chmod 1777 "$root/tmp"
cp -a "$(go env GOROOT)" "$root/usr/local/go"
rm -rf "$root"/usr/local/go/{test,api,doc}
# RUN needs a shell; this one, with the libraries it is linked to.
cp -L --parents /bin/sh $(ldd /bin/sh | grep -o '/[^ ]*') "$root"
# Only the modules this go.mod names, taken from the local cache where it has them.
GOMODCACHE="$root/go/pkg/mod" GOFLAGS= \
  GOPROXY="file://$(go env GOMODCACHE)/cache/download,$(go env GOPROXY)" go mod download

tar -C "$root" --owner=0 --group=0 -c . | docker import \
  --change 'ENV PATH=/usr/local/go/bin:/bin GOPATH=/go GOTOOLCHAIN=local GOPROXY=off HOME=/root' \
  --change "LABEL konsul.modules=$modules" \
  - "$image" >/dev/null
