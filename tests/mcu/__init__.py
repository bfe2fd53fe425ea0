"""Microcontrollers: networks, files, arenas."""
