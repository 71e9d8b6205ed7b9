#!/usr/bin/env bash
# images/build.sh cpu|serve|gpu [options of the builder]: builds localhost/oapseg:TARGET from this clone with buildah, podman or
# docker, whichever is there.
#   BASE              base image; default: the Dockerfile's
#   OAPSEG_PIP_CONF   a pip.conf for the build, for an index or a certificate of one's own
set -euo pipefail
cd "$(dirname "$0")/.."
target=${1:?cpu, serve or gpu}
shift
revision=$(git rev-parse HEAD)
git diff --quiet HEAD -- oapseg components dvc.yaml params.yaml images || revision=$revision-dirty
options=(--file images/Dockerfile --target "$target" --tag "localhost/oapseg:$target" --build-arg "REVISION=$revision")
[ -z "${BASE:-}" ] || options+=(--build-arg "BASE=$BASE")
[ -z "${OAPSEG_PIP_CONF:-}" ] || options+=(--secret "id=pip,src=$OAPSEG_PIP_CONF")
# Of the formats of images, OCI's knows no HEALTHCHECK; one for all, as layers are not shared between formats.
if command -v buildah > /dev/null; then exec buildah build --layers --format docker "${options[@]}" "$@" .; fi
if command -v podman > /dev/null; then exec podman build --format docker "${options[@]}" "$@" .; fi
if command -v docker > /dev/null; then exec docker build "${options[@]}" "$@" .; fi
echo "images/build.sh: neither buildah, podman nor docker is here" >&2
exit 1
