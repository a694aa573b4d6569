"""ATen's operations with exact results: signatures and compositions, written once over a backend."""
