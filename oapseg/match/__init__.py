"""Bipartite matching: a student's queries to the teacher's pseudo-masks (section 4.3), and clusters to classes.

In: costs or votes. Out: pairs of indices. Nothing here has parameters that are learned.
"""
