"""Tests of the inspectors that ship: rules and files alone, and with traffic through a proxy that runs them."""
