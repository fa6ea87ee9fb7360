"""The loop and what it is made of: devices, optimisers, schedules, early stopping, checkpoints."""
