"""``python -m harness`` is ``mmscope``."""

from harness.cli import main

if __name__ == "__main__":
    main()
