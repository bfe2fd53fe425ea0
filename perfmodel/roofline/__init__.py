"""Joins what is run with where: lower bounds and estimates of time."""
