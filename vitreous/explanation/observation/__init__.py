"""Observation of models that aren't a ViT of Vitreous: their attention is recorded while they run."""
