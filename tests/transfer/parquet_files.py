"""Parquet files in the layout of the hub, made of image files."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def write_parquet(folder: Path, images: Path, rows_per_group: int) -> None:
    """A folder of images in two splits as the hub has them, in one file for each split."""
    for split in ("train", "test"):
        paths = sorted((images / split).glob("*/*.png"))
        names = sorted({path.parent.name for path in paths})
        features = {"label": {"names": names, "_type": "ClassLabel"}}
        table = pa.table(
            {
                "image": [{"bytes": path.read_bytes(), "path": path.name} for path in paths],
                "label": [names.index(path.parent.name) for path in paths],
            }
        ).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
        pq.write_table(table, folder / f"{split}-00000-of-00001.parquet", row_group_size=rows_per_group)
