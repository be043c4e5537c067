"""Requests of users: parsed and handled once each, one module for each subject."""
