"""What people do with a promoted model: predict and export; `oapseg.serve` is another such room.

In: a model by its place (`oapseg.load`: a folder, `s3://`, `models:/NAME@ALIAS`) and photos from wherever they lie.
Out: COCO results, pictures and a gallery, resumable and the same bytes every time (`predict_command`); the model for
other runtimes, with how far it agrees (`export_command`). The papers stop before this.
"""
