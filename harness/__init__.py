"""Boot real kernels, load them, and write down what their memory management does.

The harness produces run directories and interprets nothing; ``analysis`` reads them.
"""

__version__ = "0.1.0"
