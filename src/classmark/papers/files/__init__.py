"""Readers: papers from files and streams of every format."""
