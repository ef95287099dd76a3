#!/usr/bin/env python3
"""Writes classes-1.5.0.json.gz: JSON schemas (2020-12) of the OCSF classes that sinks use, by class_uid.

The schema is the export of schema.ocsf.io as the package ocsf-json-schema has it; OCSF is under the Apache License 2.0.

    python3 -m venv v && v/bin/pip install --require-hashes -r requirements.txt && v/bin/python generate.py
"""

import gzip
import json
import pathlib

import ocsf_json_schema

VERSION = "1.5.0"
CLASSES = {
    "base_event": [],
    "detection_finding": [],
    "user_access": [],
    "entity_management": [],
    "http_activity": ["host", "security_control"],
    "application_lifecycle": [],
    "api_activity": [],
}

export = pathlib.Path(ocsf_json_schema.__file__).parent / "ocsf" / f"{VERSION}.json"
schema = ocsf_json_schema.OcsfJsonSchemaEmbedded(json.loads(export.read_text()))


def bare(x):
    """x without what is for people."""
    if isinstance(x, dict):
        return {k: bare(v) for k, v in x.items() if k != "deprecated" and not (k == "title" and isinstance(v, str))}
    return [bare(v) for v in x] if isinstance(x, list) else x


out = {}
for name, profiles in CLASSES.items():
    uid = schema.schema.schema["classes"][name]["uid"]
    out[str(uid)] = bare(schema.get_class_schema(name, profiles))
text = json.dumps(out, sort_keys=True, separators=(",", ":")).encode()
target = pathlib.Path(__file__).parent / f"classes-{VERSION}.json.gz"
target.write_bytes(gzip.compress(text, 9, mtime=0))
