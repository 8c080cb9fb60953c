"""A few rows through LightGBM's single-row-fast call: the bits of `Booster.predict` without its fixed cost.

Memory and thread safety of that C call belong here. What the rows mean, and when the call pays, do not: see scoring.py.
"""

import ctypes
import weakref
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import lightgbm

_NORMAL = 0  # C_API_PREDICT_NORMAL: what Booster.predict gives by default.
_FLOAT64 = 1  # C_API_DTYPE_FLOAT64
_ROW_BYTES = 8


class SingleRowScorer:
    """One booster's single-row-fast configuration. Any thread may use it; one at a time does.

    LightGBM parses parameters and sets up its buffers once, here, rather than in each call.
    """

    def __init__(self, booster: "lightgbm.Booster") -> None:
        """Raises LightGBMError."""
        library = _library()
        self._booster = booster  # The configuration points into it, so it must outlive the configuration.
        self._columns = booster.num_feature()
        self._lock = Lock()
        self._check = library._safe_call
        self._call = library._LIB.LGBM_BoosterPredictForMatSingleRowFast
        self._result = ctypes.c_double()
        self._length = ctypes.c_int64()
        self._result_pointer = ctypes.byref(self._result)
        self._length_pointer = ctypes.byref(self._length)
        self._config: ctypes.c_void_p | None = _configuration(booster, self._columns)
        # At the latest when the scorer is collected or the interpreter ends: LightGBM knows nothing of either.
        self._free = weakref.finalize(self, library._LIB.LGBM_FastConfigFree, self._config)

    def score(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """A score for each row of a C-contiguous float64 matrix, one after the other.

        Raises ValueError for another shape or layout, which C would misread, and after `close`.
        """
        if matrix.dtype != np.float64 or not matrix.flags.c_contiguous:
            raise ValueError("the matrix must hold float64 in C order")
        if matrix.ndim != 2 or matrix.shape[1] != self._columns:
            raise ValueError(f"the matrix must have {self._columns} columns, not the shape {matrix.shape}")
        scores = np.empty(len(matrix))
        address, row_bytes = matrix.ctypes.data, self._columns * _ROW_BYTES
        with self._lock:
            if self._config is None:
                raise ValueError("the scorer is closed")
            for row in range(len(matrix)):
                self._check(
                    self._call(self._config, ctypes.c_void_p(address), self._length_pointer, self._result_pointer)
                )
                scores[row] = self._result.value
                address += row_bytes
        return scores

    def close(self) -> None:
        """Give the memory back now. May be repeated."""
        with self._lock:
            self._config = None
            self._free()


def _library() -> Any:
    """LightGBM's own module around C: the version is pinned, and a test holds what is used of it."""
    from lightgbm import basic

    return basic


def _configuration(booster: "lightgbm.Booster", columns: int) -> ctypes.c_void_p:
    library = _library()
    config = ctypes.c_void_p()
    library._safe_call(
        library._LIB.LGBM_BoosterPredictForMatSingleRowFastInit(
            booster._handle,
            ctypes.c_int(_NORMAL),
            ctypes.c_int(0),
            ctypes.c_int(-1),  # Every tree: the files hold those up to the best round only.
            ctypes.c_int(_FLOAT64),
            ctypes.c_int32(columns),
            ctypes.c_char_p(b"num_threads=1"),
            ctypes.byref(config),
        )
    )
    return config
