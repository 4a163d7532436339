"""Groups of repeated runs held against each other: what differs, what that did, how sure one is."""
