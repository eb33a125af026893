"""Tests of what a model understands: right captions of an image beside wrong ones that differ in one thing."""
