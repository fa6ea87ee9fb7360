"""Honest numbers: metrics with intervals, baselines, the sealed test set."""
