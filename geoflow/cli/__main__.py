"""`python -m geoflow.cli`."""

from geoflow.cli import main

if __name__ == "__main__":  # workers of a pool import this file too
    main()
