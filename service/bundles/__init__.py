"""The contract with the export: manifest, verification, golden images."""
