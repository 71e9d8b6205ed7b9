"""One self-contained HTML page of a run: scores with intervals, learning curves, photos side by side.

In: what the step `evaluate` wrote (`metrics.json`, `ground_truth.json`, predictions), the `history.jsonl` of each
training step, the photos. Out: one file without scripts or external resources, light and dark, for a
phone as for a screen. `overlay` draws masks on a photo; `gallery` is the page of a folder of people's own photos.
"""
