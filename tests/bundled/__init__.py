"""Tests of the model that comes with the package and of the scripts that make it."""
