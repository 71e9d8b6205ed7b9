"""A promoted model over HTTP: masks of photos, a page to look at them, what an orchestrator and Prometheus ask for.

In: a model by its place, uploads from anybody. Out: COCO masks, panoptic pictures, or one clear line with a 4xx. The
way of a photo: `app` (routes), `upload` (bounded reading, `refused`), `queue` (batches), `masks` (answers). `model`
follows an alias, `kserve` has the protocols of KServe. The papers stop before this.
"""
