"""A campaign of faults against a store and those who write and read it: nothing may be lost, nothing read wrong."""
