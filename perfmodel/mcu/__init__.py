"""Microcontrollers: networks from files, arenas planned before anything is flashed."""
