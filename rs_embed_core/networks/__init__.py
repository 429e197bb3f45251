"""Torch modules, one file per architecture. Nothing here is imported until a model is loaded."""
