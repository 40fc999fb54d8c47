"""Training of the judge: records, the loss on the decision token, calibration and the report."""
