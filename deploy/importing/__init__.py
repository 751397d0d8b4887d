"""The history of a city out of another system's export, by a mapping file of YAML alone. docs/importing.md."""
