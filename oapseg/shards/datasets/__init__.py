"""Public data sets in the layout in which they are published: one file a family, one reader a layout.

A reader takes the folder of the source and the source, and gives its photos with their labels. What lies in files of
their own beside each photo (PNG, XML, text) is read later, in the writer's processes, by a `LabelFile`.
`class_maps` says how a benchmark's classes are made of a source's categories.
"""
