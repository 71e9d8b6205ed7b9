"""The embedded photos: things on stuff, drawn by seed, with labels that are exact because they are what was drawn.

`things` has the shapes and their textures, `stuff` the grounds, `compose` puts them together and lights them. A class
is a shape and a texture, never a colour: colours are drawn for each thing anew, at times nearly the ground's own.
"""
