"""Batch augmentation: functions over whole batches with their own parameters for each image."""
