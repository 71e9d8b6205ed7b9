"""The whole state of a training run on disk: saved whole or not at all, verified by hash, found again; the model alone.

In: tensors and plain values. Out: a folder of `model.safetensors`, `state.safetensors`, `state.json`, `params.yaml` and
`sha256.json`; the folder of a model alone (`docs/models.md`), and that model as people use it. No pickle.
"""

RESUME = 75  # exit code: stopped on request with all state saved, run the same command again (EX_TEMPFAIL)
