"""Policies: observation dictionary to action chunk."""
