"""The engines alone, without HTTP."""
