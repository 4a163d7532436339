"""Talking to a running guest: three channels with one face, and a fake for tests."""
