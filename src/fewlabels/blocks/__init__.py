"""Small parts that networks are built of: activations, norms, initialisations, losses."""
