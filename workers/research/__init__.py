"""Training and evaluation of the models. Imports everything; only the command line reaches it."""
