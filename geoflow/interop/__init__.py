"""Doors to other libraries: each file imports one of them, and nothing in geoflow imports these files."""
