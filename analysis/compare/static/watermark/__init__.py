"""Rules about watermarks and reserves."""
