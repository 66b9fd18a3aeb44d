"""scikit-learn's face of dadmm; load and resume."""
