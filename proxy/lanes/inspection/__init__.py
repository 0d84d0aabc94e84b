"""Inspectors: mitmproxy addons between the two legs. Imported only where the configuration names one."""
