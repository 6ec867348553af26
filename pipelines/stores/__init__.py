"""Stores made of stores: in another codec, of fewer frames, of several; repaired; to and from plain files.

Only `repair` ever needs CLIP, for features that are damaged.
"""
