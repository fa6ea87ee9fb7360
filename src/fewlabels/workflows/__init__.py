"""Where the parts meet: fit, compare, test, predict."""
