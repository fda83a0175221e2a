"""The tasks, one a file: the environment, its datasheet docstring and its scripted expert."""
