"""The composition root: everything is built here, once a process, from the settings. A file for each kind of process,
and for what they share.
"""
