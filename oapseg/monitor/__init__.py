"""What a run says of itself while it runs, without a label: metrics, health, curves. The papers stop before this.

In: what a step of a training returns, and its masks. Out: more keys in `history.jsonl`, the same values for Prometheus
(`metrics` lists every one; `exporter` serves them, `push` hands over those of short steps), and alarms (`health`), of
which the training may stop or go back. `quality` measures masks by `label_free`, every so many steps; nothing here
changes a bit of what is learned, unless a rule that was asked to goes back. `oapseg watch` and `oapseg plot` show it.
"""
