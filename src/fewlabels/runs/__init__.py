"""Run folders: one folder a run, everything in it written atomically."""
