"""Files that an earlier version of Vitreous wrote, read as they are written today.

Each kind of file has a small table of old and new names, and one function that applies it. Weights and model
configurations have theirs in `vitreous.model.migration`.
"""

CLIP_RECORD_KEYS = {"answers": "predictions"}
"""NAME.json of a folder of videos, and the lines of its summary.jsonl. The old key "request" held a fingerprint over old
names; `ClipFingerprint` computes it again."""
CLIP_STATES = {"broke off": "truncated"}


def migrate_clip_record(record: dict[str, object]) -> dict[str, object]:
    """Return the record of an explained video under today's names.

    >>> migrate_clip_record({"clip": "a.mp4", "state": "broke off", "answers": {}})
    {'clip': 'a.mp4', 'state': 'truncated', 'predictions': {}}
    """
    found = {CLIP_RECORD_KEYS.get(name, name): value for name, value in record.items()}
    if isinstance(state := found.get("state"), str):
        found["state"] = CLIP_STATES.get(state, state)
    return found
