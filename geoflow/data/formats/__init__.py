"""Demonstrations in the formats of others: a file or a folder a format, one row of `table.FORMATS` each."""
