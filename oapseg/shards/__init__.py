"""Photos to shards, and shards to samples.

In comes a folder of photos in a layout that people have (`sources`): COCO, one folder a class, a plain folder, tar
shards. `write` makes WebDataset shards and a manifest of it, in a folder or in S3, the same bytes for the same source,
in one go or in `parts` on many machines. `read` gives the samples of a manifest by number, upright and RGB (`decode`),
and `stream` says which sample is drawn when: by set, seed and rank. `data_command` finds the shards of a data version
where DVC keeps them.
`sample` draws the embedded photos, `views` cuts crops and knows the geometry between them.

The papers say nothing of storage; the mixed COCO and ImageNet stream is that of OAP, section 5.1.
"""
