"""What loads a guest: one mechanism a module, each a pure step from parameters to a command."""
