"""A card with all that a complete one has."""

COMPLETE = """# shapes

What it is.

## Data

Photos.

## Scores

| mask AP50 | 15.0 (14.0 to 16.0) |

- val, 60 photos of val: COCO.

## Lineage

Code `c0ffee`.

## Limits

- Few.

## Licence

Apache-2.0.
"""
