"""Operators that list files, upload them and create projects."""
