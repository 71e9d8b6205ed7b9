#!/usr/bin/env bash
# k8s/apply.sh OVERLAY [options of kubectl apply]: applies single-node, aws or gcp, unless something in it is still unset.
set -euo pipefail
overlay=$(dirname "$0")/overlays/${1:?single-node, aws or gcp}
shift
rendered=$(kubectl kustomize "$overlay")
if unset=$(grep -n CHANGE-ME <<< "$rendered"); then
  echo "k8s/apply.sh: not applied, these are unset (k8s/images/kustomization.yaml, $overlay):" >&2
  echo "$unset" >&2
  exit 2
fi
kubectl apply --server-side "$@" -f - <<< "$rendered"
