"""A site with certificates, and clients of its broker."""

from secured_site import connect, site

__all__ = ["connect", "site"]
