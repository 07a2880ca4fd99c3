"""The models of the engine behind the `Predictor` protocol, and the networks."""
