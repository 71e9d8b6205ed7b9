"""Online self-supervised universal image segmentation.

Photos without labels become shards; a teacher's patch features are pooled into pseudo-masks inside each training step
(Online Agglomerative Pooling); a student learns to predict them; the teacher is measured, registered and used.

Rooms, from the top: `registry`, `report`, `evaluate` and `train`, `checkpoint`, `match`, `model` and `pool`, `encode`,
`shards`, and at the bottom `masks`, `params`, `storage`. Imports go strictly downward.

Letters in shapes and einsums, everywhere:

    B images    H W pixels    h w patches (or mask cells)    N = h*w patches    C channels of a patch feature
    Q queries   D width of a query    S segments    K clusters    E edges    P sampled points    L layers
"""

__version__ = "0.1.0"
