"""Pages to look at, each one HTML file that stands alone: no external resources, light and dark, for a phone as for a
screen, below 5 MB.

In: what the step `evaluate` wrote (`metrics.json`, `details.json`), predictions, the `history.jsonl` of each training
step, the photos. Out: `page`, the report of a run: scores with intervals beside `published` figures, `breakdowns`,
photos, clusters as rows of `exemplars` with fields to name them (the one script, for typing; `clusters_command` saves
the names). `runs_page`: two runs side by side (`runs_command`). `gallery`: a folder of people's own photos.
`overlay` draws masks on a photo, `chart` lines and marks.
"""
