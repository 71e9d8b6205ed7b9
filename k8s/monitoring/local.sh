#!/bin/sh
# A Prometheus (and a Pushgateway, where there is one) beside a run on this machine, with the alert rules loaded.
#   make monitor                     then, in another shell: OAPSEG_METRICS_PORT=9108 dvc repro
# http://localhost:9090/alerts shows the alarms, http://localhost:9090/graph the values. Ctrl-C ends both.
set -eu
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
if ! command -v prometheus > /dev/null; then
  echo "make monitor: no prometheus here; Debian has it as prometheus and prometheus-pushgateway, or use" >&2
  echo "  docker compose -f k8s/monitoring/compose.yaml up" >&2
  exit 2
fi
data=${MONITOR_DATA:-work/monitor}
mkdir -p "$data"
if command -v prometheus-pushgateway > /dev/null; then
  prometheus-pushgateway --web.listen-address=127.0.0.1:9091 --persistence.file= --log.level=warn &
  trap 'kill $! 2> /dev/null || true' EXIT
fi
prometheus --config.file="$here/prometheus.yml" --storage.tsdb.path="$data" --web.listen-address=127.0.0.1:9090 \
  --log.level=warn
