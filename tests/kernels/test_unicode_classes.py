"""The table of classes is that of `regex`, for every code point."""

import numpy as np

from glassformer.kernels.unicode_classes import CODES, N_PAGES, PAGE, class_table, read_classes
from unicode_classes import classes


def test_the_classes_are_those_of_regex() -> None:
    of_code = classes()
    assert read_classes().tolist() == of_code
    code, table = np.arange(CODES), class_table()
    assert np.array_equal(table[N_PAGES + PAGE * table[code // PAGE].astype(int) + code % PAGE], of_code)
    assert table.nbytes < 40_000
