"""Training and evaluation of the models. Only the command line imports this package."""
