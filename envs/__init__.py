"""Task families, the batched simulator and the gymnasium environments."""
