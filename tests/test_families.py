"""The table of families in README.md is that of the specs."""

from pathlib import Path

import pytest

import families
from glassformer.models import specs


@pytest.mark.parametrize(
    ("page", "table"), [("README.md", families.table), ("README.zh.md", families.table_in_chinese)]
)
def test_the_table_of_families_is_that_of_the_specs(page: str, table: object) -> None:
    assert callable(table)
    current = families.TABLE.search((families.ROOT / page).read_text("utf-8"))
    assert current is not None
    assert current[0] == table(), "run: python tools/families.py"


def test_every_family_has_a_name_of_its_own_and_a_page() -> None:
    rows = families.table().splitlines()[2:]
    assert len(rows) == len(specs()) == len({row.split("]")[0] for row in rows})
    for row in rows:
        assert (Path(families.ROOT) / row.split("](")[1].split(")")[0]).is_file()
