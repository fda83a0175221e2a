"""Demonstrations on disk, chunks, frames, normalisation."""
