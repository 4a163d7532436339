"""Measurements of the speed budgets, each beside a raw baseline of the same run."""
