"""Observation of models that are no ViT of Vitreous: their attention is recorded while they run."""
