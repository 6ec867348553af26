"""The systems that the method is compared with; they share its encoder, decoder and data. See `docs/systems.md`."""
