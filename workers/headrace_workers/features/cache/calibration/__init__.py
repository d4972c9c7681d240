"""Calibration of thresholds: the bound on wrong answers among those that are served."""
