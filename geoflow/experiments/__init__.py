"""Experiments: collect, train, evaluate, compare, report."""
