"""A measured model becomes a version in a registry that can say where it came from, and is used from there.

In: a model's folder, its scores, its report, the shards behind it. Out: a version in MLflow with the model card, the
parameters, the data versions, the git commit and every score; the same content registered again is the same version. A
gate decides which version has an alias, a write-once journal says who decided it, `oapseg.load` gives the model.
MLflow's database is a local SQLite file unless `register.tracking_uri` names a server. The papers stop before this.
"""
