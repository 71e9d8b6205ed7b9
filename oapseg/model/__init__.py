"""The segmenter (section 4.3): ViT-Adapter, pixel decoder, masked-attention decoder, heads.

In: photos as values in [0, 1]. Out: for every query and decoder layer mask logits and objectness, for the last layer
the query itself; from the teacher's pass the encoder's keys, for pooling.
"""
