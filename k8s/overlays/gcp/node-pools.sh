#!/usr/bin/env bash
# k8s/overlays/gcp/node-pools.sh CLUSTER LOCATION: the two node pools of a GKE cluster.
set -euo pipefail
cluster=${1:?name of the cluster} location=${2:?its zone or region}
gcloud container node-pools create oapseg-cpu --cluster "$cluster" --location "$location" \
  --machine-type n2-standard-8 --enable-autoscaling --min-nodes 1 --max-nodes 4 \
  --node-labels oapseg.io/pool=cpu
gcloud container node-pools create oapseg-gpu --cluster "$cluster" --location "$location" --spot \
  --machine-type a2-highgpu-1g --accelerator type=nvidia-tesla-a100,count=1,gpu-driver-version=latest \
  --disk-size 200 --enable-autoscaling --min-nodes 0 --max-nodes 2 \
  --node-labels oapseg.io/pool=gpu --node-taints nvidia.com/gpu=present:NoSchedule
