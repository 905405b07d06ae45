"""`python -m hourcast_bento serve …`, as `hourcast serve …`."""

from hourcast.cli import main

if __name__ == "__main__":
    main()
