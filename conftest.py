"""Shared fixtures for the tests of every folder."""

pytest_plugins = ["libs.testing", "deploy.testing"]
