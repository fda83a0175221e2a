"""Demonstrations in the formats of others: one file a format, one row of `table.FORMATS` each."""
