"""`python -m hourcast_controller`, as `hourcast controller`."""

from hourcast_controller.cli import controller

if __name__ == "__main__":
    controller()
