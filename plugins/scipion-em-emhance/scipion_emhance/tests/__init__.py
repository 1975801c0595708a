"""Tests in a real Scipion with the real program; scripts/test runs them."""
