"""CLIP: frozen image and text encoders. Used by precompute and by vocabularies only, never by training."""
