"""Calibration of thresholds: the bound on wrong answers among served answers."""
