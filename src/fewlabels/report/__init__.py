"""The page for people, written from what stands in a run folder."""
