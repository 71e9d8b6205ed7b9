"""A measured model becomes a version in a registry that can say where it came from.

In: a model's folder, its scores, its report, the shards behind it. Out: a version in MLflow with the model card, the
parameters, the data version, the git commit and every score; the same content registered again is the same version.
MLflow's database is a local SQLite file unless `register.tracking_uri` names a server. The papers stop before this.
"""
