"""The model's claims about a run, and what the kernel showed."""
