"""Runs on the instance: one file of standard library."""
