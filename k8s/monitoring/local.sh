#!/bin/sh
# A Prometheus (and a Pushgateway, where there is one) beside a run on this machine, with the alert rules loaded.
# It says where the alarms are, and how a run in another shell is found. Both end with it.
set -eu
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
if ! command -v prometheus > /dev/null; then
  echo "make monitor: no prometheus here; Debian has it as prometheus and prometheus-pushgateway, or use" >&2
  echo "  docker compose -f k8s/monitoring/compose.yaml up" >&2
  exit 2
fi
data=${MONITOR_DATA:-work/monitor}
mkdir -p "$data"
told=
both=
trap 'kill $both 2> /dev/null || true; wait' EXIT
trap 'exit 0' HUP INT TERM
if command -v prometheus-pushgateway > /dev/null; then
  prometheus-pushgateway --web.listen-address=127.0.0.1:9091 --persistence.file= --log.level=warn &
  both=$!
  told=" PUSHGATEWAY_URL=http://localhost:9091"
fi
echo "make monitor: http://localhost:9090/alerts has the alarms, http://localhost:9090/graph the values; Ctrl-C ends it"
echo "  in another shell: OAPSEG_METRICS_PORT=9108$told dvc repro"
prometheus --config.file="$here/prometheus.yml" --storage.tsdb.path="$data" --web.listen-address=127.0.0.1:9090 \
  --log.level=warn &
both="$both $!"
wait "$!"
