"""Generators of training conversations, one file a family of tasks."""
