"""Programs beside the package: set-up, MinkowskiEngine, result pages, the check on a GPU."""
