"""Counts of work: a workload's FLOPs, special functions and compulsory bytes. No device here."""
