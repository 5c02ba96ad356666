"""The Query/Update protocol (Abd-El-Malek et al., SOSP 2005), multi-object from the ground up.

Pure: no I/O, no clock, no randomness, no threads.  Time and chance come in as arguments, messages go out as
values.  The driver persists first and sends afterwards.
"""
