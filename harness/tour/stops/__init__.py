"""The stops, a module for each topic; each exports ``STOPS``."""
