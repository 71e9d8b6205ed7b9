"""Training (sections 4.3 and 5.1): one loop, and what is trained by it: the segmenter and an encoder of one's own.

In: shards and parameters. Out: checkpoints (whole state, resumable to the same bits), a history of losses, a model.
"""
