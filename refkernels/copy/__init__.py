"""Copying an array: the smallest kernel that goes through the whole workbench."""
