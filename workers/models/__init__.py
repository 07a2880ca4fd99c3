"""segment-anything behind one small Predictor protocol."""
