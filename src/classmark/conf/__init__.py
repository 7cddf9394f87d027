"""Hydra configuration as package data; YAML chooses, the rooms' dataclasses check."""
