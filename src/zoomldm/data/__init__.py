"""The data contract: sample schema, manifest, shards and their loader."""
