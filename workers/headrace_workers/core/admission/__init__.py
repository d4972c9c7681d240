"""Admission: the checks that every job passes, by whichever way it comes."""
