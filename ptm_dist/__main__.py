"""python -m ptm_dist: the same as ptm."""

from ptm_dist.cli import main

if __name__ == "__main__":
    main()
