"""Laws that tie the files of /proc together."""
