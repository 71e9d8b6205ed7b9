"""The steps of the pipeline, one file each: read inputs, call rooms, write outputs. `python -m components STEP`."""
