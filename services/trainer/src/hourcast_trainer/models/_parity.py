"""Does what was exported give what was trained?"""

import numpy as np
import numpy.typing as npt

from hourcast.errors import DataError
from hourcast.forecaster import Forecaster, ForecasterSpec

__all__ = ["PARITY", "check_parity"]

PARITY = 1e-4


def check_parity(
    spec: ForecasterSpec, network: bytes, x: npt.NDArray[np.float32], z: npt.NDArray[np.floating]
) -> None:
    """Make sure that the network gives z (N, H, Q) for x (N, window, width).

    Raises:
        DataError: naming the largest difference, when it does not.
    """
    off = float(np.abs(Forecaster(spec, network).run_network(x) - z).max())
    if not off <= PARITY:
        raise DataError(
            f"the exported {spec.kind} network differs from the trained one by {off:.2e}, more than {PARITY:.0e}"
        )
