"""The contract on disk, by version. Nothing here imports the rest of the project."""
