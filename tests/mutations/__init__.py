"""One change of a capture for each rule that must make the rule fail; a module per part."""
