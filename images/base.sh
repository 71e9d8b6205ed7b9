#!/usr/bin/env bash
# A base image from Debian's packages alone, where no registry of images can be reached: localhost/oapseg-base.
set -euo pipefail
tar=$(mktemp --suffix=.tar)
trap 'rm -f "$tar"' EXIT
mmdebstrap --quiet --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$tar"
container=$(buildah from scratch)
buildah add --quiet "$container" "$tar" / > /dev/null
buildah config --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$container"
buildah commit --quiet --rm "$container" localhost/oapseg-base
