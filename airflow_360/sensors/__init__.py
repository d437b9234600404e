"""Sensor that waits until a project is ready."""
