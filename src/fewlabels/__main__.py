"""``python -m fewlabels``."""

from fewlabels.cli.main import main

if __name__ == "__main__":
    main()
